"""
Give parameters and activations their formats.

    %w = qcc.param "p" : tensor<…>       =>   %w = qcc.param "p" : !qcc.packed<tensor<…>, "int4">
    qcc.linear %x, %w                    =>   %q = qcc.quantize %x; %y = qcc.dequantize %q;
                                              qcc.linear %y, %w
    qcc.conv2d %x, %w                    =>   the same around %x in NHWC, in formats with blocks
    qcc.matmul %x, %y                    =>   the same around both, %y with K last, if it has blocks

Blocks lie along the reduction axis. A convolution reduces over channels and taps, so its blocks
are runs of channels at one pixel, of all groups of a grouped convolution together; formats with
a scale for the whole tensor, or with none, need no order and stay in NCHW.

Keys with scales of their channels are brought to one range first (passes/key_channels.py).

A layer with a static range has it on its qcc.quantize: {range = array<f32: least, most>}.

This is where the program changes its values, by exactly the rounding of the formats named in the
options. A parameter that something else than a layer reads as well is decoded for that reader.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.formats import Range, parse_spelling
from ..dialects.regions import walk
from .axis_order import with_axis_last
from .earlier_users import earlier_users
from .key_channels import KeyChannels, spread_key_channels
from .name_layers import WEIGHT_OPERAND, layer_name, layer_ops

ACTIVATION_OPERANDS = {"qcc.linear": (0,), "qcc.conv2d": (0,), "qcc.matmul": (0, 1)}
"""The operands that a layer's activation format rounds."""

REDUCTION_AXIS = {("qcc.conv2d", 0): 1, ("qcc.matmul", 1): 1}
"""Of the operands that are not reduced over their last axis."""


@dataclass(frozen=True, slots=True)
class FormatAssignment:
    """
    Format spellings: of parameters by symbol, of activations, keys and values by layer.

    `ranges` has a layer's static ranges, one for each operand that its activation format rounds;
    a layer without is rounded dynamically. `key_channels` brings the keys of attention to one range
    before their format rounds them.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Sequence[Range]] = field(default_factory=dict)
    key_channels: Mapping[str, KeyChannels] = field(default_factory=dict)


def assign_formats(assignment: FormatAssignment) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        with module.context:
            for op in list(layer_ops(module)):
                _round_operands(op, assignment)
            for parameter in list(parameter_ops(module)):
                spelling = assignment.weights.get(ir.StringAttr(parameter.symbol).value)
                if spelling is not None:
                    _pack(parameter, spelling)

    return apply


def _round_operands(op: Operation, assignment: FormatAssignment) -> None:
    name = layer_name(op)
    inputs = ACTIVATION_OPERANDS.get(op.name, ())
    wanted = dict.fromkeys(inputs, assignment.activations.get(name))
    if op.name == "qcc.attention":
        if (channels := assignment.key_channels.get(name)) is not None:
            with ir.InsertionPoint(op), op.location:
                spread_key_channels(op, channels)
        wanted = {1: assignment.keys.get(name), 2: assignment.values.get(name)}
    ranges = dict(zip(inputs, assignment.ranges.get(name, ()), strict=False))
    for index, spelling in wanted.items():
        if spelling is not None:
            with ir.InsertionPoint(op), op.location:
                _forget_own_format(op, index)
                op.operands[index] = _rounded_operand(op, index, spelling, ranges.get(index))


def _forget_own_format(op: Operation, index: int) -> None:
    """A cache of the model's own precision need not hold what another format makes of its rows."""
    for attribute, operand in qcc.CACHED_OPERANDS.items():
        if op.name == "qcc.attention" and operand == index and attribute in op.attributes:
            del op.attributes[attribute]


def _rounded_operand(
    op: Operation, index: int, spelling: str, tensor_range: Range | None
) -> ir.Value:
    value = op.operands[index]
    reduced = REDUCTION_AXIS.get((op.name, index))
    if reduced is None or not _has_blocks(spelling):
        return _rounded(value, spelling, tensor_range)
    return with_axis_last(value, reduced, lambda moved: _rounded(moved, spelling, tensor_range))


def _has_blocks(spelling: str) -> bool:
    """Whether it matters which values lie next to each other."""
    fmt = parse_spelling(spelling)
    return bool(fmt.block_scales) and fmt.block_size != "tensor"


def _rounded(value: ir.Value, spelling: str, tensor_range: Range | None) -> ir.Value:
    """decode(encode(value)), shared by the layers of a block that read it in the same way."""
    wanted = qcc.packed(value.type, spelling), tensor_range
    for user in earlier_users(value):
        rounding = user.opview
        if isinstance(rounding, qcc.QuantizeOp) and wanted == _made(rounding):
            following = next(iter(rounding.codes.uses)).owner
            return following.results[0]
    codes = qcc.quantized(value, spelling, tensor_range)
    return qcc.DequantizeOp(codes, value.type).value


def _made(quantize: qcc.QuantizeOp) -> tuple[ir.Type, Range | None]:
    return quantize.codes.type, qcc.tensor_range_of(quantize)


def _pack(parameter: qcc.ParamOp, spelling: str) -> None:
    plain, logical = parameter.value, qcc.logical_type(parameter.value.type)
    with ir.InsertionPoint(parameter), parameter.location:
        packed = qcc.ParamOp(parameter.symbol, qcc.packed(logical, spelling)).value
        others = [use for use in plain.uses if not _reads_packed(use)]
        decoded = qcc.DequantizeOp(packed, logical).value if others else None
    for use in list(plain.uses):
        replacement = packed if _reads_packed(use) else decoded
        use.owner.operation.operands[use.operand_number] = replacement
    parameter.operation.erase()


def _reads_packed(use: ir.OpOperand) -> bool:
    reader = use.owner.operation.name
    return reader == "qcc.dequantize" or WEIGHT_OPERAND.get(reader) == use.operand_number


def parameter_ops(op: Operation) -> Iterator[qcc.ParamOp]:
    """Every `qcc.param` inside `op`."""
    return (child for child in walk(op) if isinstance(child, qcc.ParamOp))


def parameters_by_symbol(module: Operation) -> dict[str, list[qcc.ParamOp]]:
    """The reads of each parameter in all functions, in program order."""
    found: dict[str, list[qcc.ParamOp]] = defaultdict(list)
    for parameter in parameter_ops(module):
        found[ir.StringAttr(parameter.symbol).value].append(parameter)
    return found
