"""
Linear layers on DPUs: kernels are written, checked on an excerpt by their NumPy meaning, and timed
by the cycle model, launch and transfers included.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from ...autotune.measure.backend import Refused, Run, Values
from ...autotune.task import Task
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.formats import parse_spelling
from ...dialects.pim.cost import cost_of
from ...dialects.pim.device import Device
from ...dialects.pim.execute import kernel_sums, reference_run
from ...dialects.pim.legality import illegal
from ...dialects.pim.linear import IntegerLinear
from ...dialects.pim.schedule import Problem, Schedule, Share
from ...dialects.pim.space import schedule_of
from ...passes.choose_pim_schedule import simulated_cycles
from ...passes.pim_kernel import pim_kernel
from ..upmem.device import chosen_device

EXCERPT = 2
"""Of each loop of a kernel, the rounds that are checked."""


def pim_problem(task: Task) -> Problem:
    """Of a task of the kernel `upmem.linear`."""
    rows, k, tokens = (int(task.problem[name]) for name in ("rows", "k", "tokens"))
    weights, _, activations = task.format.partition(" x ")
    formats = parse_spelling(weights), parse_spelling(activations)
    return IntegerLinear(rows, k, *formats).problem(tokens)


class _Built(msgspec.Struct, frozen=True):
    values: dict[str, int | str]
    seconds: float


class UpmemBackend:
    """`name` and `dpus` as `qcc compile --device` and `--dpus` take them."""

    modelled = True

    def __init__(self, name: str, dpus: int | None) -> None:
        self._device = chosen_device(name, dpus)

    def prepare(self, task: Task) -> None:
        """Nothing is shared."""

    def build(self, task: Task, values: Values) -> bytes:
        share = Share(pim_problem(task), schedule_of(values))
        reasons = list(illegal(share, self._device))
        if reasons:
            raise Refused("; ".join(reasons))
        cycles = simulated_cycles(share, self._device)
        if cycles == float("inf"):
            raise Refused(f"the program exceeds {self._device.iram} instructions of IRAM")
        cost = cost_of(share, self._device, cycles)
        plain = {name: value for name, value in values.items() if isinstance(value, int | str)}
        return msgspec.json.encode(_Built(plain, cost.total_ms / 1e3))

    def load(self, task: Task, built: bytes) -> UpmemKernel:
        made = msgspec.json.decode(built, type=_Built)
        return UpmemKernel(pim_problem(task), schedule_of(made.values), self._device, made.seconds)


class UpmemKernel:
    def __init__(
        self, problem: Problem, schedule: Schedule, device: Device, seconds: float
    ) -> None:
        self._excerpt = excerpt(Share(problem, schedule))
        self._device, self._seconds = device, seconds

    def check(self) -> str:
        """All sums of an excerpt, which are exact."""
        problem, rng = self._excerpt.problem, np.random.default_rng(0)
        weights = rng.integers(0, len(problem.weights), (problem.rows, problem.k))
        inputs = rng.integers(0, len(problem.activations), (problem.tokens, problem.k))
        with make_context(), ir.Location.unknown():
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                kernel = pim_kernel(self._excerpt, self._device, "excerpt")
            found = kernel_sums(self._excerpt, reference_run(kernel), weights)(inputs)
        values = np.array(problem.activations)[inputs], np.array(problem.weights)[weights]
        step = problem.group or problem.k
        expected = np.stack([
            values[0][:, at : at + step] @ values[1][:, at : at + step].T
            for at in range(0, problem.k, step)
        ])  # fmt: skip
        wrong = int(np.count_nonzero(found != expected))
        return f"{wrong} of {expected.size} sums differ" if wrong else ""

    def run(self) -> Run:
        return Run(self._seconds)

    def close(self) -> None:
        """Nothing is held."""


def excerpt(share: Share) -> Share:
    """The share of one DPU, cut to a few rounds of each loop of its kernel."""
    s, problem = share.schedule, share.problem
    alone = replace(s, row_parts=1, token_parts=1, k_parts=1)
    of_all = s.tasklets if s.shared else 1
    each = s.tile * (1 if s.shared else s.tasklets)
    small = replace(
        problem,
        rows=min(-(-problem.rows // s.row_parts), EXCERPT * s.row_block * of_all),
        k=EXCERPT * share.k_each if problem.group else min(share.k_each, EXCERPT * share.chunk),
        tokens=min(-(-problem.tokens // s.token_parts), each),
    )
    return Share(small, alone)
