"""
What can be tuned of a convolution on tensor cores: the fields of its schedule, and what one costs
on paper (estimate.py).

Where windows are gathered as they are copied, a block asks for `block_pixels` rows of K however
many pixels these windows share; else for the pixels under its rectangle. The L2 cache gives them,
DRAM brings each pixel once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod

from ..knobs import Space, Value
from .conv_problem import ConvProblem
from .conv_schedule import ConvSchedule, illegal, shared_bytes
from .estimate import PIECE, Estimate, Work, estimated, row_turns
from .hardware import Machine, machine
from .operand_types import OPERAND_TYPES
from .register_model import Resources, predicted
from .register_terms import conv_terms
from .schedule_space import ScheduleSpace, schedule_from
from .warp_memory import ROW_PAD

KERNEL = "cuda.conv2d"
VALUES: dict[str, tuple[Value, ...]] = {
    "warps_m": (1, 2, 4, 8),
    "warps_n": (1, 2, 4, 8),
    "pixels": (16, 32, 48, 64, 96, 128),
    "outputs": (16, 32, 48, 64, 96, 128),
    "depth": (64, 128, 256),
    "stages": (2, 3, 4, 5, 6),
}


def conv_space(problem: ConvProblem, target: str, include: Sequence[ConvSchedule] = ()) -> Space:
    """The schedules of a problem on a machine, the values of those of `include` among them."""
    device, window = machine(target), problem.window
    return ScheduleSpace(
        ConvSchedule,
        VALUES,
        lambda schedule: illegal(problem, schedule, device),
        lambda schedule: estimate(problem, schedule, device),
        include,
    ).space(
        f"{KERNEL} {window.channels}→{window.outputs} {window.taps[0]}x{window.taps[1]} "
        f"pixels={problem.pixels} {problem.weight} x {problem.activation} {target}"
    )


def conv_schedule_of(values: Mapping[str, Value]) -> ConvSchedule:
    """Undo `values_of`."""
    return schedule_from(ConvSchedule, values)


def estimate(
    problem: ConvProblem,
    schedule: ConvSchedule,
    device: Machine,
    measured: Resources | None = None,
) -> Estimate:
    """With what ptxas `measured` of a thread in place of what is predicted."""
    if schedule.image_blocks:
        problem = problem.in_blocks()
    s, window = schedule, problem.window
    columns = ceil(problem.pixels / s.block_pixels)
    strips = ceil(problem.strips * 16 / s.block_outputs)
    image_bits = OPERAND_TYPES[problem.activation].bits
    weights = problem.outputs * problem.stored_k * problem.format.bits / 8
    pixels_read = problem.pixels * min(prod(window.stride), prod(window.taps))
    images = pixels_read * problem.channels * image_bits / 8
    windows = problem.pixels * float(problem.stored_k) * window.groups * image_bits / 8
    if s.width:
        shared = prod(s.held(problem)) * problem.images / s.block_pixels
        windows = problem.pixels * shared * problem.channels * image_bits / 8
    windows *= problem.sectors
    results = 2.0 * problem.pixels * problem.outputs
    work = Work(
        instruction=s.instruction(problem),
        threads=32 * s.warps,
        resources=measured or predicted(conv_terms(problem, s, device)),
        shared=shared_bytes(problem, s),
        blocks=columns * strips * window.groups,
        dram=weights + images + results,
        l2=weights * columns + windows * strips + results,
        staged=2 * (windows * strips + weights * columns),
        decoded=1 + columns * s.warps_m * weights * 8 / problem.format.bits,
        products=float(columns * s.block_pixels * strips * s.block_outputs)
        * problem.stored_k * window.groups,
        steps=ceil(problem.stored_k / s.depth),
        stages=s.stages,
        conflicts=row_turns(_row_step(problem, s)),
    )  # fmt: skip
    return estimated(work, device)


def _row_step(problem: ConvProblem, schedule: ConvSchedule) -> int:
    """
    Bytes between the pixels of neighbouring outputs: where these are shared, a stride apart. What
    groups of warps read is swizzled.
    """
    s, bits = schedule, OPERAND_TYPES[problem.activation].bits
    if s.warp_groups:
        return PIECE
    apart = problem.window.stride[1] if s.width and problem.images == 1 else 1
    return apart * (s.depth * bits // 8 + ROW_PAD)
