"""
What can be tuned of a linear layer on tensor cores: the fields of its schedule, and what one costs
on paper.

The rule is the verifier of schedules. Numbers of a config (estimate.py) come from its schedule
alone, before any kernel is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil

from ..knobs import Space, Value
from .block_work import LEAST_STEPS, SHARED_TILES, matrix_turns
from .estimate import ESTIMATE, Estimate, Work, estimated
from .hardware import MULTIPROCESSORS, Machine, is_native, machine
from .problem import WARP_GROUP_INSTRUCTION_OF, LinearProblem
from .register_model import Resources, predicted
from .register_terms import linear_terms
from .schedule import Schedule, illegal
from .schedule_memory import shared_bytes
from .schedule_space import ScheduleSpace, schedule_from, values_of

__all__ = ["ESTIMATE", "KERNEL", "estimate", "linear_space", "schedule_of", "values_of"]
KERNEL = "cuda.linear"
VALUES: dict[str, tuple[Value, ...]] = {
    "channels": (16, 32, 48, 64, 96, 128, 192, 256),
    "tokens": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "depth": (64, 128, 256, 512, 1024),
    "warps_n": (1, 2, 4, 8),
    "warps_m": (1, 2, 4),
    "warps_k": (1, 2, 4, 8),
    "stages": (1, 2, 3, 4, 5, 6, 8),
    "splits": (1, 2, 3, 4, 6, 8, 12, 16),
    "swizzle": (8,),
    "raster": (0, 4, 8, 16),
    "persistent": (0, 1, 2),
}


def linear_space(problem: LinearProblem, target: str, include: Sequence[Schedule] = ()) -> Space:
    """The schedules of a problem on a machine, the values of those of `include` among them."""
    device = machine(target)
    return ScheduleSpace(
        Schedule,
        VALUES | {"instruction": _instructions(problem, device)},
        lambda schedule: illegal(problem, schedule, device),
        partial(_estimate, problem, device),
        include,
    ).space(f"{KERNEL} {problem.n}x{problem.k} tokens={problem.tokens} {problem.weight} {target}")


def schedule_of(values: Mapping[str, Value]) -> Schedule:
    """Undo `values_of`."""
    return schedule_from(Schedule, values)


def _instructions(problem: LinearProblem, device: Machine) -> tuple[Value, ...]:
    grouped = "" if problem.blocks else WARP_GROUP_INSTRUCTION_OF.get(problem.activation, "")
    others = (grouped, problem.tensor_instruction)
    usable = (each for each in others if each and is_native(device.name, each))
    return (problem.instruction, *usable)


def _estimate(problem: LinearProblem, device: Machine, schedule: Schedule) -> Estimate:
    return estimate(problem, schedule, device)


def estimate(
    problem: LinearProblem,
    schedule: Schedule,
    device: Machine,
    measured: Resources | None = None,
) -> Estimate:
    """With what ptxas `measured` of a thread in place of what is predicted."""
    s = schedule
    columns, strips = ceil(problem.tokens / s.tokens), ceil(problem.n / s.channels)
    weights = problem.n * problem.stored_k * problem.format.bits / 8
    inputs = problem.tokens * problem.k * problem.operand.bits / 8
    results = problem.tokens * problem.n * 2
    partials = 2 * 4 * s.splits * problem.tokens * problem.n * (s.splits > 1)
    blocks, steps = columns * strips * s.splits, ceil(problem.stored_k / s.depth / s.splits)
    if s.stream_k:  # as many as run at once, each with its share of all steps
        total, running = blocks * steps, s.persistent * MULTIPROCESSORS[device.name]
        blocks = min(running, ceil(total / LEAST_STEPS))
        steps = ceil(total / blocks)
        partials = 2 * 4 * SHARED_TILES * blocks * s.channels * s.padded_tokens
    work = Work(
        instruction=s.instruction,
        threads=s.threads,
        resources=measured or predicted(linear_terms(problem, s, device)),
        shared=shared_bytes(problem, s),
        blocks=blocks,
        dram=weights + inputs + results,
        l2=weights * columns + inputs * strips + results + partials,
        staged=2 * (inputs * strips + weights * columns * (not s.streams)),
        decoded=1 + columns * float(problem.n * problem.stored_k) * bool(problem.program.steps),
        products=columns * s.padded_tokens * strips * s.channels * float(problem.stored_k),
        steps=steps,
        stages=s.stages,
        conflicts=matrix_turns(s),
    )
    return estimated(work, device)
