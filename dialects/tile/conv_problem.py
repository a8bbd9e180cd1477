"""Convolutions as implicit products, and which of them nothing computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod

from ..formats.definition import Nested
from ..formats.packets import (
    PACKET_COLUMNS,
    PACKET_ROWS,
    has_rows,
    kernel_group,
    stored_width,
)
from .conv_ending import Ending
from .decoded_weight import DecodedWeight
from .fragments import INSTRUCTIONS
from .hardware import is_native
from .integer_activations import NIBBLE, OF_TENSOR, IntegerScale, Requantisation
from .operand_types import OPERAND_TYPES
from .problem import (
    CONVERTED,
    INSTRUCTION_OF,
    LONGEST_INTEGER_SUM,
    SCALE_ELEMENTS,
    tensor_roles,
)

Pair = tuple[int, int]
SECTOR = 32
"""Bytes that memory gives together."""
INSTRUCTION_OF_PIXELS = INSTRUCTION_OF | {"ui4": "mma.m16n8k64.u4s4"}
"""Pixels are the left operand, weights the right one."""


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
class ConvProblem(DecodedWeight):
    """
    result[pixel, output] = sum over k of patches[pixel, k] * decode(weight[output, k]) (+ bias).

    `pixels` is what the schedule is chosen for. `source` is the type of images in memory, rounded
    to `activation` as they are copied. Images of i8, i4 and ui4 come with one fp32 scale, those of
    4 bits as bytes that hold two channels each, the first one lower. `block` and `result_block` say
    how channels lie in memory, in blocks of so many: 1 is NCHW, 0 stands for all of them, NHWC.
    With `images` = n, so many images are side by side in each pixel, [N / n, C / c, H, W, n, c]:
    with 8 images and blocks of 32 channels of 4 bits, what one matrix instruction reads lies in 128
    bytes one behind the other (NHWCnc). `result_images` are those of the result; where they are
    others than `images`, N is a multiple of both. `blocks` are (n, c) that the source could have
    instead: a schedule chooses. Rows of pixels of the source are padded to `row_multiple`. `relu`
    cuts the result off at zero.

    `requantised` spells the format of a result that is stored as integers, two of at most 4 bits in
    a byte: `result` is then their operand type, and "y_scale" what values are divided or multiplied
    by. `ending` is what the model does before, with arguments "channel0", "channel1" …
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
    x_scale: IntegerScale = OF_TENSOR
    requantised: str | None = None
    images: int = 1
    result_images: int = 1
    blocks: Pair | None = None
    ending: Ending | None = None

    def in_blocks(self) -> ConvProblem:
        """The same of a source in its `blocks`."""
        assert self.blocks is not None
        images, channels = self.blocks
        return replace(self, images=images, block=channels, blocks=None)

    @property
    def instruction(self) -> str:
        return INSTRUCTION_OF_PIXELS[self.activation]

    @property
    def memory(self) -> str:
        return self.source or ("i8" if self.integer else self.activation)

    @property
    def per_element(self) -> int:
        """Channels in an element of memory."""
        return per_element(self.activation)

    @property
    def rounding(self) -> Requantisation | None:
        return None if self.requantised is None else Requantisation.of(self.requantised)

    @property
    def group(self) -> int | None:
        """Values of k that share scales; None where a row has one scale, or none."""
        return kernel_group(self.format, self.window.k)

    @property
    def by_tap(self) -> bool:
        """Whether channels are innermost in k; blocks of a format lie the other way round."""
        return self.group is None

    @property
    def stored_k(self) -> int:
        return stored_width(self.program.order, self.group, self.window.k)

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

    def tensor_factors(self) -> dict[str, str]:
        """Scales of the whole weight, and their elements."""
        return {role: SCALE_ELEMENTS[kind][0] for role, kind in tensor_roles(self.format).items()}

    def row_scales(self) -> list[str]:
        fmt = self.format
        return [each.role for each in fmt.block_scales if each.role not in fmt.tensor_roles]

    def row_parts(self) -> dict[str, str]:
        """Parts that have a number for each output, and their elements."""
        fmt = self.format
        return {
            role: SCALE_ELEMENTS[str(kind)][0]
            for role, (_, kind) in fmt.part_specs(1, 1).items()
            if role != fmt.code_part and has_rows(fmt, role)
        }

    @property
    def sectors(self) -> float:
        """Bytes of the sectors of memory in which neighbouring windows lie, over their own."""
        if not self.by_tap or self.block == 1:
            return 1.0
        bits = OPERAND_TYPES[self.activation].bits
        run = (self.block or self.channels) * self.images * bits // 8
        apart = self.window.stride[1] > 1 or (self.block or self.channels) < self.channels
        return -(-run // SECTOR) * SECTOR / run if apart else 1.0

    def vector(self, bytes_: int) -> int:
        """Elements of memory that lie side by side wherever k begins, of `bytes_` in all."""
        if not self.by_tap:
            return 1
        size = {"f32": 4, "i8": 1}.get(self.memory, 2)
        side_by_side = gcd(self.window.channels, self.block or self.channels)
        return gcd(side_by_side // self.per_element, bytes_ // size)


def refusal(problem: ConvProblem, target: str) -> str | None:
    """Why nothing computes this convolution, or None."""
    record = INSTRUCTIONS[problem.instruction]
    if problem.source not in (None, problem.activation, *CONVERTED.get(problem.activation, ())):
        return f"images of {problem.source} are not converted to {problem.activation}"
    if isinstance(problem.format.element, Nested):
        return f"the planes of {problem.weight} are not gathered by windows; fp16 has its values"
    _ = problem.program
    if not is_native(target, problem.instruction):
        return f"{target} has no {problem.instruction}"
    if problem.format.splits_signs and record.operand_bits != 16:
        return f"a scale for each sign needs 16-bit images, not {record.operand}"
    if reason := _unpaired(problem):
        return reason
    whole = record.accumulator == "i32" and problem.group is None
    if whole and problem.window.k > LONGEST_INTEGER_SUM:
        return f"sums of {problem.window.k} products of bytes may leave 32 bits"
    return None


def _unpaired(problem: ConvProblem) -> str | None:
    """Why channels do not lie in memory as pairs of four bits, or None."""
    w = problem.window
    sides = [(problem.activation, w.channels, problem.block or problem.channels)]
    if problem.requantised is not None:
        sides.append((problem.result, w.outputs, problem.result_block or problem.outputs))
    for kind, channels, block in sides:
        if per_element(kind) > 1 and (channels % 2 or block % 2):
            return f"{channels} channels in blocks of {block} are no pairs of {kind}"
    if problem.per_element > 1 and not problem.by_tap:
        return "pairs of channels meet no groups of weights by (C, kh, kw)"
    return None


def per_element(operand: str) -> int:
    """Values of a type in an element of memory."""
    known = OPERAND_TYPES.get(operand)
    return 1 if known is None or known.bits != NIBBLE else 2
