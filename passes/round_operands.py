"""
Round what matrix units multiply to half precision, as part of the program.

    qcc.linear(x, w)    =>    qcc.linear(extf(truncf(x : f32 → f16)), w)

Tensor cores multiply 16-bit floats and add in fp32. The rounding stands in the program, so that the
reference interpreter does it too; it changes values by at most half a unit in the last place of
the type, and takes those beyond its range to infinity. Operands that are half precision
already, or codes that the target multiplies as such, stay; beside the former, others are rounded
to the same type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from .conv_layers import reads_codes
from .float_casts import cast_to
from .narrow_operands import HALVES, narrow
from .schedule_linear import multiplied_codes

OPERANDS: dict[type, tuple[int, ...]] = {
    qcc.LinearOp: (0,),
    qcc.Conv2dOp: (0,),
    qcc.MatmulOp: (0, 1),
    qcc.AttentionOp: (0, 1, 2),
}
"""The operands of ops that run on matrix units, packed weights apart."""


@dataclass(frozen=True)
class Rounding:
    """`element` is f16 or bf16; `target` says which codes are multiplied without being decoded."""

    element: str = "f16"
    target: str = "sm_80"


def round_operands(options: Rounding) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        with module.context:
            for op in walk(module):
                indices = OPERANDS.get(type(op), ())
                read = {_element(narrow(op.operation.operands[index])) for index in indices}
                halves = sorted(read & set(HALVES))
                for index in indices:
                    _round(op, index, halves[0] if halves else options.element, options.target)

    return apply


def _round(op: Any, index: int, element: str, target: str) -> None:
    value = op.operation.operands[index]
    if _element(value) != "f32" or narrow(value) != value:
        return
    if isinstance(op, qcc.LinearOp) and multiplied_codes(op, target) is not None:
        return
    if isinstance(op, qcc.Conv2dOp) and reads_codes(op, target):
        return
    with ir.InsertionPoint(op), op.location:
        half = cast_to(value, ir.Type.parse(element))
        op.operation.operands[index] = cast_to(half, ir.F32Type.get())


def _element(value: ir.Value) -> str:
    return str(ir.RankedTensorType(value.type).element_type)
