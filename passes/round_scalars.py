"""
Round the numbers that torch converts to the type of the tensor beside them.

    eq.Scalar %x, 0.1 : f32     =>   eq.Scalar %x, 0.10000000149011612
    add.Scalar %x, 0.1 : bf16   =>   add.Scalar %x, 0.10009765625

What torch does: comparisons, sums, powers and remainders take a number in the tensor's type,
products and quotients of half precision in fp32. torch-mlir compares in fp64, where no element of
fp32 is 0.1; and with an integer it folds a constant's comparison wrongly (0.7 < 0), so that floats
are compared with floats alone.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from ..dialects.torch_types import is_tensor
from .raiser import element_of
from .torch_constants import float_constant

DTYPES = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
COMPARISONS = frozenset(
    f"torch.aten.{name}.Scalar" for name in ("eq", "ne", "lt", "le", "gt", "ge")
)
ARITHMETIC = frozenset(
    f"torch.aten.{name}"
    for name in (
        *("add.Scalar", "add.Tensor", "sub.Scalar", "sub.Tensor", "rsub.Scalar", "hardshrink"),
        *("pow.Tensor_Scalar", "pow.Scalar", "remainder.Scalar", "fmod.Scalar"),
    )
)


def round_scalars(module: Operation, _: object = None) -> None:
    for op in (child.operation for child in walk(module)):
        if op.name in COMPARISONS | ARITHMETIC:
            elements = {element_of(each) for each in op.operands if is_tensor(each.type)}
            if len(elements) == 1 and elements <= DTYPES.keys():
                _round(op, DTYPES[elements.pop()])


def _round(op: Operation, dtype: np.dtype) -> None:
    for index, operand in enumerate(op.operands):
        number = None if is_tensor(operand.type) else float_constant(operand)
        if number is None:
            continue
        with np.errstate(over="ignore"):
            rounded = float(np.asarray(number).astype(dtype))
        if rounded != number or op.name in COMPARISONS:
            with ir.InsertionPoint(op), op.location:
                op.operands[index] = _float(rounded)


def _float(number: float) -> ir.Value:
    return Operation.create(
        "torch.constant.float",
        results=[ir.Type.parse("!torch.float")],
        attributes={"value": ir.FloatAttr.get_f64(number)},
    ).result
