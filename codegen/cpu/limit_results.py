"""
Let the caller of a step say from which token on it wants results.

    func @step(%tokens, %past) { … %y = qcc.linear %x, %w; return %y }
      =>
    func @step(%tokens, %past, %first) { … %y = qcc.linear %x[:, first:], %w; return %y }

Exact: a row of a linear layer depends on that row of its input alone, and so does its rounding
unless a scale is the whole tensor's; then, and where a result comes from another op, all rows are
computed. For the prompt of a generation, of which only the last row is read, this spares nearly
all of the head: a fifth of the work in a small model.
"""

from __future__ import annotations

from ...dialects import qcc
from ...dialects.bindings import Operation, arith, ir, tensor
from ...dialects.formats import parse_spelling
from ...dialects.pim.host import LinearOp as DeviceLinearOp
from .round_rows import Rounding

STEP = "step"
TIME = 1
Layer = qcc.LinearOp | DeviceLinearOp


def limit_results(module: ir.Module) -> None:
    for op in module.body.operations:
        function = op.operation
        if function.name == "func.func" and _name(function) == STEP:
            with function.location:
                _limit(function)


def _name(function: Operation) -> str:
    return ir.StringAttr(function.attributes["sym_name"]).value


def _limit(step: Operation) -> None:
    block = step.regions[0].blocks[0]
    scalar = ir.RankedTensorType.get([], ir.IntegerType.get_signless(64))
    first = block.add_argument(scalar, step.location)
    type_ = ir.FunctionType(ir.TypeAttr(step.attributes["function_type"]).value)
    extended = ir.FunctionType.get([*type_.inputs, scalar], type_.results)
    step.attributes["function_type"] = ir.TypeAttr.get(extended)
    last = list(block.operations)[-1].operation
    for value in set(last.operands):
        layer = value.owner
        if isinstance(layer, Layer) and _only_returned(value, last) and _by_row(layer):
            with ir.InsertionPoint(layer), layer.location:
                _read_from(layer, first)


def _only_returned(value: ir.Value, last: Operation) -> bool:
    return all(use.owner.operation == last for use in value.uses)


def _by_row(layer: Layer) -> bool:
    type_ = ir.RankedTensorType(layer.input.type)
    if type_.rank != 3 or not type_.is_dynamic_dim(TIME):
        return False
    if isinstance(layer, DeviceLinearOp):
        static = "range" in layer.operation.attributes
        given = Rounding(parse_spelling(layer.activation.value), type_.shape[2], static)
        return static or not given.reads_tensor
    quantize = qcc.rounding_of(layer.input)
    if quantize is None:
        return True
    static = qcc.tensor_range_of(quantize) is not None
    rounding = Rounding(qcc.format_of(quantize.codes), type_.shape[2], static)
    return static or not rounding.reads_tensor


def _read_from(layer: Layer, first: ir.Value) -> None:
    """Give `layer` the rows of its input from token `first` on, rounded as before."""
    quantize = qcc.rounding_of(layer.input)
    source = layer.input if quantize is None else quantize.source
    rows = _rows_from(source, first)
    if quantize is not None:
        rows = _again(quantize.operation, rows)
        rows = _again(layer.input.owner, rows)
    layer.operation.operands[0] = rows


def _again(op: ir.OpView | Operation | ir.Block, operand: ir.Value) -> ir.Value:
    """A copy of `op`, of another operand."""
    assert not isinstance(op, ir.Block)
    copy = op.operation.clone()
    copy.operands[0] = operand
    return copy.results[0]


def _rows_from(source: ir.Value, first: ir.Value) -> ir.Value:
    type_ = ir.RankedTensorType(source.type)
    index = ir.IndexType.get()
    start = arith.index_cast(index, tensor.extract(first, []))
    extents = [tensor.dim(source, arith.constant(index, axis)) for axis in range(2)]
    length = arith.subi(extents[TIME], start)
    dynamic = ir.ShapedType.get_dynamic_size()
    sizes = [extents[0]] if type_.is_dynamic_dim(0) else []
    return tensor.extract_slice(
        type_,
        source,
        [start],
        [*sizes, length],
        [],
        [0, dynamic, 0],
        [dynamic if axis < 2 and type_.is_dynamic_dim(axis) else extent
         for axis, extent in enumerate(type_.shape)],
        [1, 1, 1],
    )  # fmt: skip
