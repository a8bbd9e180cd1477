"""
What the rules of raise_torch.py share: a torch op's operands as builtin fp32 tensors.

    linear %x, %w : f16   =>   %a = x to f32; %b = qcc.linear %a, %p; b to f16
                               with %p = qcc.param "w" : !qcc.packed<tensor<NxKxf32>, "fp16">

Operands of another float type become fp32, and a result rounds once to the type that it had. A
parameter that a layer reads as its weight gets no conversion in the program: it is stored in
its own type and read as fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .torch_constants import is_none, producer

FLOATS = {"f16": "fp16", "bf16": "bf16", "f32": "fp32", "f64": None}
"""Element types that layers may have, and the format that holds exactly their values."""

CASTS = ("torch.aten._to_copy", "torch.aten.to.dtype", "torch.prims.convert_element_type")
TRANSPOSES = (
    "torch.aten.numpy_T",
    "torch.aten.permute",
    "torch.aten.t",
    "torch.aten.transpose.int",
)
UNSQUEEZE = "torch.aten.unsqueeze"
_SCALAR_TYPES = {"f16": 5, "f32": 6, "f64": 7, "bf16": 15}  # torch's numbers
_WIDTHS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}  # of significands

_DYNAMIC = ir.ShapedType.get_dynamic_size()


@dataclass(frozen=True)
class Raiser:
    """One torch op being raised: its operands as builtin tensors and Python constants."""

    op: Operation
    doubles: bool = False

    def operand(self, index: int) -> ir.Value:
        return self.op.operands[index]

    def tensor(self, value: ir.Value, tail: Sequence[int] = ()) -> ir.Value:
        """
        `value` in fp32 on the builtin side of a bridge; an existing bridge is reused.

        `tail` is what is known of its last sizes: types of the program may know less.
        """
        return _with_tail(self.bridged(converted(value, "f32")), tail)

    def bridged(self, value: ir.Value) -> ir.Value:
        """`value` on the builtin side, in its own type."""
        source = producer(value)
        if source is not None and source.name == "torch_c.from_builtin_tensor":
            return source.operands[0]
        type_ = builtin_tensor_type(value.type)
        return Operation.create(
            "torch_c.to_builtin_tensor", results=[type_], operands=[value]
        ).result

    def weight(self, value: ir.Value) -> ir.Value:
        """
        `value` as a layer's weight: a parameter is read in fp32 from what stores it exactly.

        So is one that the program converts before the layer; see `stored_element`.
        """
        parameter = _parameter(value)
        if parameter is None:
            return self.tensor(value)
        stored = builtin_tensor_type(value.type)
        single = ir.RankedTensorType.get(list(stored.shape), ir.F32Type.get())
        held = FLOATS[stored_element(element_of(parameter.value), str(stored.element_type))]
        type_ = single if held in (None, "fp32") else qcc.packed(single, held)
        return qcc.ParamOp(parameter.symbol, type_).value

    def transposed_weight(self, value: ir.Value) -> ir.Value | None:
        """The transpose of `value`, a matrix, as a layer's weight, if it is a parameter."""
        parameter = _parameter(value)
        if parameter is None or static_sizes(value) is None:
            return None
        rows, columns = builtin_tensor_type(value.type).shape
        single = ir.RankedTensorType.get([columns, rows], ir.F32Type.get())
        held = FLOATS[stored_element(element_of(parameter.value), element_of(value))]
        type_ = single if held in (None, "fp32") else qcc.packed(single, held)
        symbol = ir.StringAttr(parameter.symbol).value + qcc.TRANSPOSE
        return qcc.ParamOp(ir.StringAttr.get(symbol), type_).value

    def computes_signal_weight(self, value: ir.Value) -> bool:
        """Whether `value` is the weight of a convolution of signals, and no parameter."""
        made_by = producer(value)
        return made_by is not None and made_by.name == UNSQUEEZE and _parameter(value) is None

    def optional(self, value: ir.Value) -> ir.Value | None:
        return None if is_none(value) else self.tensor(value)

    @property
    def result_type(self) -> ir.RankedTensorType:
        """The type of the op's result, in fp32."""
        type_ = builtin_tensor_type(self.op.results[0].type)
        return ir.RankedTensorType.get(list(type_.shape), ir.F32Type.get())

    def floats(self, *values: ir.Value) -> bool:
        """Every present operand is a float tensor of known rank that layers may have."""
        return all(is_none(value) or self._is_float(value) for value in values)

    def _is_float(self, value: ir.Value) -> bool:
        if not is_tensor(value.type):
            return False
        element = element_of(value)
        return element in FLOATS and (self.doubles or element != "f64")


def element_of(value: ir.Value) -> str:
    """The element type of a torch or builtin tensor, as the IR spells it."""
    if is_tensor(value.type):
        return str(builtin_tensor_type(value.type).element_type)
    return str(ir.RankedTensorType(value.type).element_type)


def stored_element(own: str, read: str) -> str:
    """
    The type that holds what a layer reads of a parameter of type `own` converted to `read`.

    The narrower of both, so that a conversion to more digits costs no bytes and one to fewer
    (autocast) is done once, while packing.

    >>> stored_element("bf16", "f32"), stored_element("f32", "bf16"), stored_element("f64", "f64")
    ('bf16', 'bf16', 'f64')
    """
    return min(own, read, key=_WIDTHS.__getitem__)


def converted(value: ir.Value, element: str) -> ir.Value:
    """A torch tensor of floats in another float type: itself, or one conversion of it."""
    present = element_of(value)
    return conversion(value, element) if present in FLOATS and present != element else value


def conversion(value: ir.Value, element: str) -> ir.Value:
    """A torch tensor of any type, converted to a float type."""
    wanted = ir.Type.parse(str(value.type).rpartition(",")[0] + f",{element}>")
    number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _SCALAR_TYPES[element])
    kind = Operation.create(
        "torch.constant.int",
        results=[ir.Type.parse("!torch.int")],
        attributes={"value": number},
    ).result
    return Operation.create(CASTS[-1], results=[wanted], operands=[value, kind]).result


def unconverted(value: ir.Value) -> ir.Value:
    """What `value` was before conversions between float types."""
    op = producer(value)
    while op is not None and op.name in CASTS and _is_float_cast(op):
        value = op.operands[0]
        op = producer(value)
    return value


def narrowest(value: ir.Value) -> str:
    """The float type with the fewest digits that `value` had on its way; its values fit it."""
    seen = [element_of(value)]
    op = producer(value)
    while op is not None and op.name in CASTS and _is_float_cast(op):
        seen.append(element_of(op.operands[0]))
        op = producer(op.operands[0])
    return min(seen, key=_WIDTHS.__getitem__)


def _is_float_cast(op: Operation) -> bool:
    tensors = (op.operands[0], op.results[0])
    return all(is_tensor(each.type) and element_of(each) in FLOATS for each in tensors)


def _parameter(value: ir.Value) -> qcc.ParamOp | None:
    """The parameter that `value` is, or was before one conversion and without an axis of one."""
    op = producer(value)
    if op is not None and op.name == UNSQUEEZE and _only_unsqueezed(op.operands[0]):
        op = producer(op.operands[0])
    if op is not None and op.name in CASTS and _is_float_cast(op):
        op = producer(op.operands[0])
    if op is None or op.name != "torch_c.from_builtin_tensor":
        return None
    made_by = producer(op.operands[0])
    view = None if made_by is None else made_by.opview
    return view if isinstance(view, qcc.ParamOp) else None


def _only_unsqueezed(value: ir.Value) -> bool:
    """Whether all see `value` with the same axis of one: a parameter is stored in one shape."""
    seen = {str(use.owner.operation.results[0].type) for use in value.uses}
    return len(seen) == 1 and all(use.owner.operation.name == UNSQUEEZE for use in value.uses)


def _with_tail(value: ir.Value, tail: Sequence[int]) -> ir.Value:
    """`value`, cast where its last sizes are dynamic in its type and given by `tail`."""
    type_ = ir.RankedTensorType(value.type)
    first = type_.rank - len(tail)
    shape = [
        tail[axis - first] if axis >= first and size == _DYNAMIC else size
        for axis, size in enumerate(type_.shape)
    ]
    if shape == list(type_.shape):
        return value
    refined = ir.RankedTensorType.get(shape, type_.element_type)
    return Operation.create("tensor.cast", results=[refined], operands=[value]).result


def static_sizes(value: ir.Value, axes: int | None = None) -> list[int] | None:
    """The last `axes` sizes (by default all) of a tensor, None where one is dynamic."""
    shape = list(builtin_tensor_type(value.type).shape)
    sizes = shape if axes is None else shape[len(shape) - axes :]
    return None if _DYNAMIC in sizes else sizes


def rank(value: ir.Value) -> int:
    return builtin_tensor_type(value.type).rank
