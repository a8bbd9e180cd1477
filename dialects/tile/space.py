"""
What can be tuned of a linear layer on tensor cores: the fields of its schedule, and what one costs
on paper.

The rule is the verifier of schedules. Numbers of a config come from its schedule alone, before any
kernel is written: what moves through each level of memory, what multiplies, how many blocks there
are at once. `estimated_s` is the roofline of these for the usual product with the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..knobs import Columns, Knob, Space, Value, Verifier
from .default_schedule import MULTIPROCESSORS
from .fragments import INSTRUCTIONS
from .hardware import Machine, is_native, machine
from .problem import WARP_GROUP_INSTRUCTION_OF, LinearProblem
from .schedule import Schedule, illegal, registers, shared_bytes

KERNEL, ESTIMATE = "cuda.linear", "estimated_s"
FIELDS = tuple(each.name for each in fields(Schedule))
VALUES: dict[str, tuple[Value, ...]] = {
    "channels": (16, 32, 48, 64, 96, 128, 192, 256),
    "tokens": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "depth": (64, 128, 256, 512, 1024),
    "warps_n": (1, 2, 4, 8),
    "warps_m": (1, 2, 4),
    "warps_k": (1, 2, 4, 8),
    "stages": (1, 2, 3, 4, 5, 6, 8),
    "splits": (1, 2, 3, 4, 6, 8, 12, 16),
    "stream_weights": (0, 1),
    "streams": (0, 1),
}
BANDWIDTH = {
    "sm_80": 2.0e12, "sm_86": 0.7e12, "sm_89": 1.0e12, "sm_90a": 3.35e12, "sm_100a": 8.0e12,
    "sm_120a": 1.8e12,
}  # fmt: skip
"""Bytes a second of DRAM, of the usual product with each machine by its data sheet."""
HALVES = {
    "sm_80": 312e12, "sm_86": 150e12, "sm_89": 165e12, "sm_90a": 990e12, "sm_100a": 2250e12,
    "sm_120a": 210e12,
}  # fmt: skip
"""Operations a second on halves with fp32 sums, likewise; on bytes it is twice as many."""
ALU, DECODE_SLOTS = 64 * 1.5e9, 2.0
"""Integer operations of a multiprocessor a second, and those that decode a weight, about."""
LAUNCH, LATENCY = 3e-6, 0.7e-6
"""Seconds that a launch takes, and a load from DRAM."""


def linear_space(problem: LinearProblem, target: str, include: Sequence[Schedule] = ()) -> Space:
    """The schedules of a problem on a machine, the values of those of `include` among them."""
    rows = [values_of(each) for each in include]
    device = machine(target)
    knobs = tuple(
        Knob(name, _ordered([*_values(name, problem, device), *(row[name] for row in rows)]))
        for name in FIELDS
    )

    def reasons(values: Mapping[str, Value]) -> Iterator[str]:
        return illegal(problem, schedule_of(values), device)

    name = f"{KERNEL} {problem.n}x{problem.k} tokens={problem.tokens} {problem.weight} {target}"
    rule = Verifier(FIELDS, reasons).rule
    return Space(name, knobs, (rule,), derive=_Numbers(problem, device))


def values_of(schedule: Schedule) -> dict[str, Value]:
    """A schedule as values of knobs."""
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in asdict(schedule).items()
    }


def schedule_of(values: Mapping[str, Value]) -> Schedule:
    """Undo `values_of`."""
    plain = {name: int(value) for name, value in values.items() if name != "instruction"}
    flags = {name: bool(plain.pop(name)) for name in ("stream_weights", "streams")}
    return Schedule(str(values["instruction"]), **plain, **flags)


def _values(name: str, problem: LinearProblem, device: Machine) -> tuple[Value, ...]:
    if name != "instruction":
        return VALUES[name]
    grouped = WARP_GROUP_INSTRUCTION_OF.get(problem.activation)
    usable = grouped and not problem.blocks and is_native(device.name, grouped)
    return (problem.instruction, grouped) if grouped and usable else (problem.instruction,)


def _ordered(values: Sequence[Value]) -> tuple[Value, ...]:
    """Each once; numbers by size, texts as they come."""
    once = dict.fromkeys(values)
    return tuple(once) if isinstance(values[0], str) else tuple(sorted(once))


@dataclass(frozen=True)
class Estimate:
    """
    | number | of | unit |
    |---|---|---|
    | `registers` | a thread, estimated | count |
    | `shared` | a block | bytes |
    | `warps` | a multiprocessor at once | count |
    | `blocks` | all | count |
    | `waves` | blocks over those that run at once | ratio |
    | `dram` | read and written once | bytes |
    | `l2` | asked for by all blocks | bytes |
    | `staged` | through shared memory, written and read | bytes |
    | `decoded` | weights that are decoded, as often as blocks do, 1 more | count |
    | `products` | multiplied and added, padding included | count |
    | `intensity` | products a byte of L2 | ratio |
    | `estimated_s` | a launch | s |
    """

    registers: int
    shared: int
    warps: int
    blocks: int
    waves: float
    dram: float
    l2: float
    staged: float
    decoded: float
    products: float
    intensity: float
    estimated_s: float


def estimate(
    problem: LinearProblem, schedule: Schedule, device: Machine, measured: int | None = None
) -> Estimate:
    """With `measured` registers of a thread, by ptxas, in place of the estimated ones."""
    s = schedule
    used = min(measured or registers(problem, s), device.registers_per_thread)
    shared = shared_bytes(problem, s)
    resident = _resident(s, used, shared, device)
    columns, strips = ceil(problem.tokens / s.tokens), ceil(problem.n / s.channels)
    blocks = columns * strips * s.splits
    waves = blocks / (resident * MULTIPROCESSORS[device.name])
    weights = problem.n * problem.stored_k * problem.format.bits / 8
    inputs = problem.tokens * problem.k * problem.operand.bits / 8
    results = problem.tokens * problem.n * 2
    partials = 2 * 4 * s.splits * problem.tokens * problem.n * (s.splits > 1)
    l2 = weights * columns + inputs * strips + results + partials
    products = columns * s.padded_tokens * strips * s.channels * float(problem.stored_k)
    staged = 2 * (inputs * strips + weights * columns * (not s.streams))
    dram = weights + inputs + results
    decoded = 1 + columns * float(problem.n * problem.stored_k) * bool(problem.program.steps)
    times = (
        dram / BANDWIDTH[device.name],
        l2 / (4 * BANDWIDTH[device.name]) * (ceil(waves) / waves),
        2 * products / _rate(s, device) * (ceil(waves) / waves),
        DECODE_SLOTS * decoded / (ALU * MULTIPROCESSORS[device.name]) * (ceil(waves) / waves),
    )
    at_work = min(1.0, blocks / MULTIPROCESSORS[device.name])
    steps = ceil(problem.stored_k / s.depth / s.splits)
    fill = LATENCY * (1 + steps / s.stages) * ceil(waves)
    seconds = LAUNCH + max(max(times) / at_work**0.5, fill)
    return Estimate(
        used, shared, resident * s.threads // 32, blocks, waves, dram, l2, staged, decoded,
        products, products / l2, seconds,
    )  # fmt: skip


def _rate(schedule: Schedule, device: Machine) -> float:
    """Operations a second of the matrix units."""
    return HALVES[device.name] * 16 / INSTRUCTIONS[schedule.instruction].operand_bits


def _resident(schedule: Schedule, used: int, shared: int, device: Machine) -> int:
    """Blocks of a multiprocessor at once, at least one of a legal schedule."""
    by_registers = device.registers_per_processor // (used * schedule.threads)
    by_shared = device.shared_per_processor // (shared + device.shared_reserved)
    by_threads = device.threads_per_processor // schedule.threads
    return max(1, min(by_registers, by_shared, by_threads, device.blocks_per_processor))


@dataclass(frozen=True)
class _Numbers:
    """Estimates of configs, each made once."""

    problem: LinearProblem
    device: Machine
    found: dict[tuple[Value, ...], tuple[float, ...]] = field(default_factory=dict)

    def __call__(self, columns: Columns) -> dict[str, NDArray]:
        rows = zip(*(columns[name].tolist() for name in FIELDS), strict=True)
        names = [each.name for each in fields(Estimate)]
        table = np.array([self._of(row) for row in rows], np.float64).reshape(-1, len(names))
        return dict(zip(names, table.T, strict=True))

    def _of(self, row: tuple[Value, ...]) -> tuple[float, ...]:
        if row not in self.found:
            schedule = schedule_of(dict(zip(FIELDS, row, strict=True)))
            made = estimate(self.problem, schedule, self.device)
            self.found[row] = tuple(asdict(made).values())
        return self.found[row]
