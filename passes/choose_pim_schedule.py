"""
Choose how DPUs compute an integer product: method, p, residency, groups, split and tasklets.

Every legal schedule of a space is estimated (dialects/pim/estimate.py); the best few are written as
kernels and simulated (timing.py), and the fastest of those is chosen. `exhaustive` simulates all.
The default space has every method; a space of one method is how methods are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import product
from math import ceil
from typing import Any

from ..dialects.bindings import ir
from ..dialects.context import make_context
from ..dialects.errors import ResourceError
from ..dialects.pim.cost import Cost, cost_of
from ..dialects.pim.device import Device
from ..dialects.pim.estimate import estimated_cycles
from ..dialects.pim.footprint import WIDTH
from ..dialects.pim.kernel import iram_instructions
from ..dialects.pim.legality import illegal
from ..dialects.pim.schedule import BYTE_MOST, METHODS, Problem, Schedule, Share
from ..dialects.pim.slots import traces
from ..dialects.pim.timing import simulate
from .pim_kernel import pim_kernel
from .pim_unplaceable import exceeds_iram, unplaceable

PERIODS = 4
MOST_BLOCK_BYTES = 1024
MOST_IDLE = 0.6
"""Grids that use less of the DPUs than this, of those another uses, are left out."""
FEW_TASKLETS = (1, 2, 4, 8)
MODEST: dict[str, Any] = {"tasklets": FEW_TASKLETS, "groups": (1, 2, 4, 8), "words": (1, 2)}
"""What is tried where a memory is too small for the schedules of a space."""
MOST_CODE = 10
"""Bits of the codes of a group whose table is made on the fly."""


@dataclass(frozen=True)
class Space:
    """
    Schedules to choose from. `objective` is "kernel", or "layer" with launch and transfers.

    `finalists` are simulated. `grids` fixes the parts of rows, tokens and K where it is given.
    """

    methods: tuple[str, ...] = METHODS
    objective: str = "layer"
    tasklets: tuple[int, ...] = (12, 16)
    groups: tuple[int, ...] = (4, 8, 16, 32)
    words: tuple[int, ...] = (1, 2, 4, 8)
    residencies: tuple[str, ...] = ("resident", "stream")
    grids: tuple[tuple[int, int, int], ...] = ()
    finalists: int = 8


@dataclass(frozen=True)
class Choice:
    """A schedule and what it costs; `estimate` is the estimated cycles, `cycles` the simulated."""

    share: Share
    cost: Cost
    cycles: float
    estimate: float
    considered: int

    @property
    def schedule(self) -> Schedule:
        return self.share.schedule

    def milliseconds(self, objective: str) -> float:
        return self.cost.kernel_ms if objective == "kernel" else self.cost.total_ms


def choose_schedule(
    problem: Problem, device: Device, space: Space | None = None, layer: str = "the layer"
) -> Choice:
    """
    The best of a space. ResourceError, with the budget, the need and the nearest device that would
    do, where none is legal.
    """
    space = space or Space()
    legal: list[tuple[float, int, Share, float]] = []
    for number, share in enumerate(_legal_shares(problem, device, space)):
        estimate = estimated_cycles(share, device)
        legal.append((_objective(share, device, estimate, space), number, share, estimate))
    if not legal and space.tasklets != FEW_TASKLETS:
        return choose_schedule(problem, device, replace(space, **MODEST), layer)
    if not legal:
        raise _none_fits(problem, device, space, layer)
    finalists = [(share, estimate) for _, _, share, estimate in nsmallest(space.finalists, legal)]
    best = _best(finalists, device, space, len(legal))
    if best.cycles == float("inf"):
        return _shortest(problem, device, space, layer, [share for _, _, share, _ in legal])
    return best


def _shortest(
    problem: Problem, device: Device, space: Space, layer: str, legal: list[Share]
) -> Choice:
    """The best of the schedules with little code, where programs of the best exceed IRAM."""

    def unrolled(share: Share) -> tuple[int, int]:
        s = share.schedule
        return s.groups * s.words * s.row_block, s.p

    little = sorted(legal, key=unrolled)[: 4 * space.finalists]
    given = [(share, estimated_cycles(share, device)) for share in little]
    best = _best(given, device, space, len(legal))
    if best.cycles == float("inf"):
        with make_context(), ir.Location.unknown():
            least = min(_instructions(share, device) for share in little)
        raise exceeds_iram(problem, device, layer, least)
    return best


def estimated_best(problem: Problem, device: Device, space: Space) -> float:
    """Milliseconds of the best schedule by estimates alone; no kernel is written."""
    found = [
        _objective(share, device, estimated_cycles(share, device), space)
        for share in _legal_shares(problem, device, space)
    ]
    if not found:
        raise _none_fits(problem, device, space, "the layer")
    return min(found)


def exhaustive(problem: Problem, device: Device, space: Space) -> Choice:
    """The best of a space with every schedule simulated: minutes for the default one."""
    shares = list(_legal_shares(problem, device, space))
    if not shares:
        raise _none_fits(problem, device, space, "the layer")
    given = [(share, estimated_cycles(share, device)) for share in shares]
    return _best(given, device, space, len(given))


def simulated_cycles(share: Share, device: Device) -> float:
    """
    Cycles of a share's kernel in the model.

    A kernel repeats itself over tiles of tokens; beyond PERIODS times, what one takes is
    continued, as are rounds beyond two. Infinite where the program exceeds IRAM.
    """
    with make_context(), ir.Location.unknown():
        return _continued(share, device)


def _continued(share: Share, device: Device) -> float:
    if share.rounds <= 2:
        return _of_tokens(share, device)
    one, two = (_of_tokens(_with_rounds(share, each), device) for each in (1, 2))
    return two + (share.rounds - 2) * (two - one)


def _of_tokens(share: Share, device: Device) -> float:
    s = share.schedule
    unit = s.tile * (1 if s.shared else s.tasklets)
    rounds = ceil(share.tokens / unit)
    if rounds <= PERIODS:
        return _simulated(share, device)
    half, whole = (
        _simulated(_with_tokens(share, unit * each), device) for each in (PERIODS // 2, PERIODS)
    )
    return whole + (rounds - PERIODS) * (whole - half) / (PERIODS - PERIODS // 2)


def _with_rounds(share: Share, rounds: int) -> Share:
    problem = replace(share.problem, k=share.k_each * rounds)
    return Share(problem, replace(share.schedule, k_parts=1))


def _with_tokens(share: Share, tokens: int) -> Share:
    problem = replace(share.problem, tokens=tokens)
    return Share(problem, replace(share.schedule, token_parts=1))


def _simulated(share: Share, device: Device) -> float:
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        kernel = pim_kernel(share, device, "candidate")
    if iram_instructions(kernel) > device.iram:
        return float("inf")
    return simulate(traces(kernel), device).cycles


def _instructions(share: Share, device: Device) -> int:
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        return iram_instructions(pim_kernel(share, device, "candidate"))


def _best(
    given: Iterable[tuple[Share, float]], device: Device, space: Space, considered: int
) -> Choice:
    choices = []
    with make_context(), ir.Location.unknown():
        for share, estimate in given:
            cycles = _continued(share, device)
            cost = cost_of(share, device, cycles)
            choices.append(Choice(share, cost, cycles, estimate, considered))
    return min(choices, key=lambda each: each.milliseconds(space.objective))


def _objective(share: Share, device: Device, cycles: float, space: Space) -> float:
    if space.objective == "kernel":
        return device.milliseconds(cycles)
    return cost_of(share, device, cycles).total_ms


def _legal_shares(problem: Problem, device: Device, space: Space) -> Iterator[Share]:
    for schedule in candidates(problem, device, space):
        share = Share(problem, schedule)
        if next(illegal(share, device), None) is None:
            yield share


def candidates(problem: Problem, device: Device, space: Space) -> Iterator[Schedule]:
    """All schedules of a space, legal or not, each once."""
    tasklets = [each for each in space.tasklets if each <= device.most_tasklets]
    tasklets = tasklets or [device.most_tasklets]
    for method in space.methods:
        for grid, threads in product(space.grids or _grids(problem, device), tasklets):
            base = Schedule(
                method, tasklets=threads, row_parts=grid[0], token_parts=grid[1], k_parts=grid[2]
            )
            yield from _VARIANTS[method](problem, base, space)


def _grids(problem: Problem, device: Device) -> list[tuple[int, int, int]]:
    """
    Splits into parts of rows, tokens and K that use most of the DPUs, or all work there is.

    Tokens are split evenly, or as DPUs remain for some parts of rows. K is split where tokens are
    too few for all DPUs to have many rows, or sums of its parts stay apart.
    """
    found, powers = set(), [1 << power for power in range(12)]
    most_rows = ceil(problem.rows / 2)
    for k_parts in _k_parts(problem, device):
        dpus = device.dpus // k_parts
        even = {ceil(problem.tokens / each) for each in powers}
        left = {min(dpus // each, problem.tokens) for each in (1, 2, 3, 4, 6, 8, 12, 16)}
        for tokens in even | (left if k_parts == 1 else set()):
            if 1 <= tokens <= dpus:
                found.add((min(dpus // tokens, most_rows), tokens, k_parts))
    used = max(rows * tokens * k_parts for rows, tokens, k_parts in found)
    return sorted(grid for grid in found if grid[0] * grid[1] * grid[2] >= MOST_IDLE * used)


def _k_parts(problem: Problem, device: Device) -> list[int]:
    """Into how many parts K is split; none would be empty."""
    if problem.group:
        rounds = {ceil(problem.parts / each) for each in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)}
        counts = {ceil(problem.parts / each) for each in (*rounds, 1)}
        return sorted(each for each in counts if each <= device.dpus)
    few = 2 * problem.tokens < device.dpus
    counts = (1, 2, 4, 8) if few else (1,)
    return [each for each in counts if (each - 1) * ceil(problem.k / each) < problem.k]


def _blocks(problem: Problem, base: Schedule, unit_bytes: int) -> list[int]:
    """
    Rows of one DMA of weights, of `unit_bytes` each: as many as divide a tasklet's rows well.
    """
    rows = ceil(problem.rows / base.row_parts)
    each = ceil(rows / base.tasklets) if base.shared else rows
    pieces = {ceil(each / parts) for parts in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)}
    aligned = {ceil(piece * unit_bytes / 8) * 8 // unit_bytes for piece in pieces}
    fitting = sorted(each for each in aligned if each * unit_bytes <= MOST_BLOCK_BYTES)
    return fitting[-1:] or [8]


def _fly(problem: Problem, base: Schedule, space: Space) -> Iterator[Schedule]:
    bits, lanes = (len(problem.weights) - 1).bit_length(), base.method == "lanes"
    words, scopes = (space.words, (True,)) if lanes else ((1,), (True, False))
    for p in range(1, 1 + MOST_CODE // bits):
        width = 1 if bits * p <= 8 else 2
        small = lanes and p * problem.largest_product <= BYTE_MOST
        widths = (16, 8) if small else (16,)
        for groups, count, shared, lane in product(space.groups, words, scopes, widths):
            made = replace(base, p=p, groups=groups, words=count, shared=shared, lane_bits=lane)
            for block in _blocks(problem, made, groups * width):
                yield replace(made, row_block=block)


def _tables(problem: Problem, base: Schedule, space: Space) -> Iterator[Schedule]:
    bits = (len(problem.weights) - 1).bit_length()
    longest = 9 if base.method == "canonical" else 16
    for p in range(1, 1 + min(longest, 14 // bits)):
        width = WIDTH[problem.pair(p).code]
        for groups, residency in product(space.groups, space.residencies):
            for shared in (False, True) if residency == "stream" else (False,):
                made = replace(base, p=p, groups=groups, residency=residency, shared=shared)
                for block in _blocks(problem, made, groups * width):
                    yield replace(made, row_block=block)


def _multiply(problem: Problem, base: Schedule, space: Space) -> Iterator[Schedule]:
    for groups in (16, 32, 48, 64, 96, 128, 192):
        for rows, tokens in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4)):
            yield replace(base, groups=groups, row_block=rows, words=tokens)


_VARIANTS = {
    "multiply": _multiply, "packed": _tables, "canonical": _tables, "fly": _fly, "lanes": _fly,
}  # fmt: skip


def _none_fits(problem: Problem, device: Device, space: Space, layer: str) -> ResourceError:
    def fits(other: Device, methods: tuple[str, ...]) -> bool:
        allowed = replace(space, methods=methods)
        return next(_legal_shares(problem, other, allowed), None) is not None

    schedules = candidates(problem, device, space)
    return unplaceable(problem, device, layer, space.methods, schedules, fits)
