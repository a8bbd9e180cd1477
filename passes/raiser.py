"""What the rules of raise_torch.py share: a torch op's operands as builtin tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .torch_constants import is_none, producer

_DYNAMIC = ir.ShapedType.get_dynamic_size()


@dataclass(frozen=True)
class Raiser:
    """One torch op being raised: its operands as builtin tensors and Python constants."""

    op: Operation

    def operand(self, index: int) -> ir.Value:
        return self.op.operands[index]

    def tensor(self, value: ir.Value, tail: Sequence[int] = ()) -> ir.Value:
        """
        `value` on the builtin side of a bridge; an existing bridge is reused.

        `tail` is what is known of its last sizes: types of the program may know less.
        """
        source = producer(value)
        if source is not None and source.name == "torch_c.from_builtin_tensor":
            bridged = source.operands[0]
        else:
            type_ = builtin_tensor_type(value.type)
            bridged = Operation.create(
                "torch_c.to_builtin_tensor", results=[type_], operands=[value]
            ).result
        return _with_tail(bridged, tail)

    def optional(self, value: ir.Value) -> ir.Value | None:
        return None if is_none(value) else self.tensor(value)

    @property
    def result_type(self) -> ir.RankedTensorType:
        return builtin_tensor_type(self.op.results[0].type)

    def floats(self, *values: ir.Value) -> bool:
        """Every present operand is an fp32 tensor of known rank."""
        return all(is_none(value) or _is_float_tensor(value) for value in values)


def _is_float_tensor(value: ir.Value) -> bool:
    return is_tensor(value.type) and isinstance(
        builtin_tensor_type(value.type).element_type, ir.F32Type
    )


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
