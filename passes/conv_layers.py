"""What a `qcc.conv2d` computes, as a problem of kernels, and what these read in place of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import ir
from ..dialects.errors import UnsupportedError
from ..dialects.formats import parse_spelling
from ..dialects.tile.conv_problem import ConvProblem, Window, refusal
from ..dialects.tile.conv_schedule import ConvSchedule
from ..dialects.tile.integer_activations import integer_operands, integer_scale
from .activation_codes import image_layout
from .launching import Size, unsupported
from .requantised_results import Requantised
from .require_decoded import require_decoded
from .schedule_linear import producer_name

MANY_PIXELS = 4096
"""What kernels for an unknown number of output pixels are chosen for."""
NHWC = 0


@dataclass
class Layer:
    """
    A convolution, and the codes that its kernel reads in place of the input, if any; `made` takes
    the place of its result, or of the codes it becomes; `extents` are the result's [N, C, H, W].
    """

    op: qcc.Conv2dOp
    problem: ConvProblem
    codes: ir.Value | None
    schedule: ConvSchedule = field(init=False)
    requantised: Requantised | None = None
    made: ir.Value | None = None
    extents: list[Size] = field(default_factory=list)

    @staticmethod
    def of(op: qcc.Conv2dOp, target: str) -> Layer:
        plain = _plain_problem(op)
        multiplied = _of_codes(op, plain, target)
        if multiplied is not None:
            quantize: Any = qcc.rounding_of(op.input)
            return Layer(op, multiplied, quantize.codes)
        require_decoded(op, "conv2d", "a convolution", plain.format, plain.activation)
        return Layer(op, plain, None)

    @property
    def place(self) -> Any:
        """The op before which all is there that the kernel reads."""
        return self.op if self.requantised is None else self.requantised.quantize


def reads_codes(op: qcc.Conv2dOp, target: str) -> bool:
    """Whether the kernel of a layer multiplies the codes of its rounded input as such."""
    if qcc.format_spelling(op.weight.type) is None:
        return False
    return _of_codes(op, _plain_problem(op), target) is not None


def _plain_problem(op: qcc.Conv2dOp) -> ConvProblem:
    spelling = qcc.format_spelling(op.weight.type)
    if spelling is None or producer_name(op.weight) != "qcc.param":
        raise _refused(op, f"its weight is {op.weight.type}", "give the parameter a format")
    outputs, channels, *taps = qcc.logical_type(op.weight.type).shape
    groups = ir.IntegerAttr(op.groups).value
    stride, padding, dilation = (_pair(each) for each in (op.stride, op.padding, op.dilation))
    shape = channels, outputs // groups, (taps[0], taps[1])
    window = Window(*shape, stride, padding, dilation, groups)
    result = ir.RankedTensorType(op.result.type)
    known = all(not result.is_dynamic_dim(axis) for axis in (0, 2, 3))
    pixels = result.shape[0] * result.shape[2] * result.shape[3] if known else MANY_PIXELS
    element = str(ir.RankedTensorType(op.input.type).element_type)
    activation = element if element in ("f16", "bf16") else "f16"
    bias = None if op.bias is None else str(ir.RankedTensorType(op.bias.type).element_type)
    return ConvProblem(
        window, spelling, pixels, activation, None if element == activation else element,
        str(result.element_type), bias,
    )  # fmt: skip


def _of_codes(op: qcc.Conv2dOp, plain: ConvProblem, target: str) -> ConvProblem | None:
    """The problem on the integers that rounded images are, if they and the weight can be those."""
    quantize = qcc.rounding_of(op.input)
    spelling = None if quantize is None else qcc.format_spelling(quantize.codes.type)
    scale = None if spelling is None else integer_scale(parse_spelling(spelling))
    if spelling is None or scale is None or not scale.tensor:
        return None
    for operand in integer_operands(spelling):
        problem = replace(plain, activation=operand, source=None, block=NHWC, x_scale=scale,
                          blocks=_blocks(op, plain.window, operand))  # fmt: skip
        try:
            if refusal(problem, target) is None:
                return problem
        except UnsupportedError:
            continue
    return None


def _blocks(op: qcc.Conv2dOp, window: Window, operand: str) -> tuple[int, int] | None:
    """Images and channels that codes may have side by side, where they are whole blocks."""
    channels = qcc.BLOCK_CHANNELS[image_layout(operand, blocks=True)]
    whole = qcc.in_blocks(ir.RankedTensorType(op.input.type), channels)
    return (qcc.BLOCK_IMAGES, channels) if whole and window.channels % channels == 0 else None


def _pair(values: Any) -> tuple[int, int]:
    first, second = ir.DenseI64ArrayAttr(values)
    return first, second


def _refused(op: qcc.Conv2dOp, why: str, next_step: str) -> UnsupportedError:
    return unsupported(op, "conv2d", "a convolution", why, next_step)
