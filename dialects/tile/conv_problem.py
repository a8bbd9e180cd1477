"""Convolutions as implicit products, their schedules, and which of both nothing computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd, prod

from ..errors import UnsupportedError
from ..formats import Format, parse_spelling
from ..formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS, stored_group, stored_width
from .decode_program import TABLE_STRIDE, DecodeProgram
from .decode_rules import decode_program
from .fragments import INSTRUCTIONS
from .hardware import Machine, is_native, machine
from .operand_types import OPERAND_TYPES
from .problem import CONVERTED, INSTRUCTION_OF, LONGEST_INTEGER_SUM, SCALE_ELEMENTS
from .warp_memory import ROW_PAD

Pair = tuple[int, int]
MOST_SUMS = 64
"""Accumulators of a lane, so that operands and addresses fit beside them."""


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution; pairs are (rows, columns), channels those of one group."""

    channels: int
    outputs: int
    taps: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def k(self) -> int:
        return self.channels * prod(self.taps)

    def output(self, extent: int, axis: int) -> int:
        """Rows or columns of the result of images with `extent` of them."""
        span = (self.taps[axis] - 1) * self.dilation[axis] + 1
        return (extent + 2 * self.padding[axis] - span) // self.stride[axis] + 1


@dataclass(frozen=True)
class ConvProblem:
    """
    result[pixel, output] = sum over k of patches[pixel, k] * decode(weight[output, k]) (+ bias).

    `pixels` is what the schedule is chosen for. `source` is the type of images in memory, rounded
    to `activation` as they are copied. Images of i8 come with one fp32 scale. `block` and
    `result_block` say how channels lie in memory, in blocks of so many: 1 is NCHW, 0 stands for
    all of them, NHWC. Rows of pixels of the source are padded to `row_multiple`. `relu` cuts the
    result off at zero. A result of i8 is divided by its fp32 scale "y_scale" and rounded, ties to
    even.
    """

    window: Window
    weight: str
    pixels: int = 4096
    activation: str = "f16"
    source: str | None = None
    result: str = "f16"
    bias: str | None = None
    block: int = 1
    result_block: int = 1
    relu: bool = False
    row_multiple: int = 1

    @property
    def format(self) -> Format:
        return parse_spelling(self.weight)

    @property
    def program(self) -> DecodeProgram:
        return decode_program(self.format, self.activation)

    @property
    def instruction(self) -> str:
        return INSTRUCTION_OF[self.activation]

    @property
    def memory(self) -> str:
        return self.source or self.activation

    @property
    def group(self) -> int | None:
        """Values of k that share scales; None where a row has one scale, or none."""
        size = self.format.block_size
        return size if isinstance(size, int) else None

    @property
    def by_tap(self) -> bool:
        """Whether channels are innermost in k; blocks of a format lie the other way round."""
        return self.group is None

    @property
    def stored_group(self) -> int | None:
        return self.group and stored_group(self.program.order, self.group)

    @property
    def stored_k(self) -> int:
        return stored_width(self.program.order, self.format.block_size, self.window.k)

    @property
    def units(self) -> int:
        return -(-self.stored_k // PACKET_COLUMNS)

    @property
    def scale_rows(self) -> int:
        return 1 if self.group is None else -(-self.window.k // self.group)

    @property
    def strips(self) -> int:
        """Stored strips of one group's outputs."""
        return -(-self.window.outputs // PACKET_ROWS)

    @property
    def channels(self) -> int:
        return self.window.channels * self.window.groups

    @property
    def outputs(self) -> int:
        return self.window.outputs * self.window.groups

    def row_parts(self) -> dict[str, str]:
        """Parts that have a number for each output, and their elements."""
        fmt = self.format
        return {
            role: SCALE_ELEMENTS[str(kind)][0]
            for role, (_, kind) in fmt.part_specs(1, 1).items()
            if role != fmt.code_part and (role == "zero_point" or role not in fmt.tensor_roles)
        }

    def vector(self, bytes_: int) -> int:
        """Channels that lie side by side wherever a piece of k begins, of `bytes_` in all."""
        if not self.by_tap:
            return 1
        size = {"f32": 4, "i8": 1}.get(self.memory, 2)
        return gcd(self.window.channels, self.block or self.channels, bytes_ // size)


@dataclass(frozen=True)
class ConvSchedule:
    """
    One way to compute a convolution: a block makes `warps_m` * `pixels` output pixels of
    `warps_n` * `outputs` channels, in steps of `depth` values of k.
    """

    warps_m: int
    warps_n: int
    pixels: int
    outputs: int
    depth: int
    stages: int

    @property
    def warps(self) -> int:
        return self.warps_m * self.warps_n

    @property
    def block_pixels(self) -> int:
        return self.warps_m * self.pixels

    @property
    def block_outputs(self) -> int:
        return self.warps_n * self.outputs


def held_groups(problem: ConvProblem, depth: int) -> int:
    """Rows of scales that `depth` values of k can touch."""
    group = problem.stored_group
    if group is None or group % depth == 0:
        return 1
    return depth // group if depth % group == 0 else (depth - 2) // group + 2


def shared_bytes(problem: ConvProblem, schedule: ConvSchedule) -> int:
    s, size = schedule, OPERAND_TYPES[problem.activation].bits // 8
    images = s.block_pixels * (s.depth * size + ROW_PAD)
    strips = s.block_outputs // PACKET_ROWS
    codes = strips * s.depth // PACKET_COLUMNS * LANES * problem.format.bits * 4
    rows = held_groups(problem, s.depth) * s.block_outputs * 4
    tables = len(problem.program.table) << TABLE_STRIDE
    return s.stages * (images + codes + len(problem.row_parts()) * rows) + tables


def refusal(problem: ConvProblem, target: str) -> str | None:
    """Why nothing computes this convolution, or None."""
    record = INSTRUCTIONS[problem.instruction]
    if problem.source not in (None, problem.activation, *CONVERTED.get(problem.activation, ())):
        return f"images of {problem.source} are not converted to {problem.activation}"
    _ = problem.program
    if not is_native(target, problem.instruction):
        return f"{target} has no {problem.instruction}"
    if problem.format.splits_signs and record.operand_bits != 16:
        return f"a scale for each sign needs 16-bit images, not {record.operand}"
    whole = record.accumulator == "i32" and problem.group is None
    if whole and problem.window.k > LONGEST_INTEGER_SUM:
        return f"sums of {problem.window.k} products of bytes may leave 32 bits"
    return None


def illegal(problem: ConvProblem, schedule: ConvSchedule, device: Machine) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    s = schedule
    if s.pixels % 16 or s.outputs % PACKET_ROWS or s.depth % PACKET_COLUMNS or s.stages < 2:
        yield f"{s} has tiles that are no multiples of 16 x 16 x {PACKET_COLUMNS}, or one stage"
    if s.pixels * s.outputs // 32 > MOST_SUMS:
        yield f"tiles of {s.pixels} x {s.outputs} have more than {MOST_SUMS} sums a lane"
    if s.warps * 32 > device.threads_per_block:
        yield f"{s.warps} warps are more than a block of {device.name} has"
    need = shared_bytes(problem, s)
    if need > device.shared_per_block:
        yield f"{need} bytes of shared memory are more than {device.shared_per_block}"


def default_convolution(problem: ConvProblem, target: str = "sm_80") -> ConvSchedule:
    """A legal schedule for every shape; raises UnsupportedError where nothing computes it."""
    if reason := refusal(problem, target):
        raise UnsupportedError(
            "conv2d-unsupported",
            f"no CUDA kernel for {problem.activation} convolved with {problem.weight}",
            why=reason,
            next_step="choose the format or the activations that the reason names",
        )
    device = machine(target)
    for candidate in _preferred(problem):
        fitted = _fitted(problem, candidate)
        if not any(illegal(problem, fitted, device)):
            return fitted
    raise UnsupportedError(
        "schedule-none", f"no schedule for {problem}", next_step="report this shape"
    )


def _preferred(problem: ConvProblem) -> Iterator[ConvSchedule]:
    if problem.pixels > 2048:
        yield ConvSchedule(4, 1, 32, 64, 64, 3)
    yield ConvSchedule(2, 2, 32, 32, 64, 3)
    yield ConvSchedule(2, 1, 32, 32, 64, 2)
    yield ConvSchedule(1, 1, 16, 16, 64, 2)


def _fitted(problem: ConvProblem, schedule: ConvSchedule) -> ConvSchedule:
    """No more strips of outputs than there are."""
    s, strips = schedule, problem.strips
    while s.warps_n > 1 and (s.warps_n - 1) * s.outputs >= strips * PACKET_ROWS:
        s = replace(s, warps_n=s.warps_n // 2, warps_m=s.warps_m * 2)
    while s.outputs > PACKET_ROWS and s.warps_n == 1 and s.outputs // 2 >= strips * PACKET_ROWS:
        s = replace(s, outputs=s.outputs // 2)
    return s
