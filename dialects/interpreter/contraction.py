"""
Sums of products as matrix products: `out += a * b` over the reduction axes.

Convolutions too: their windows are strided views. Sums are BLAS sums, in no fixed order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .affine import Map
from .element_types import Array
from .frame import Frame
from .program import Code, Step

PAIRS = {"arith.addf": "arith.mulf", "arith.addi": "arith.muli"}
CASTS = frozenset({"arith.extf", "arith.extsi", "arith.extui", "arith.sitofp", "arith.uitofp"})


@dataclass(frozen=True, slots=True)
class Contraction:
    """Which two operands are multiplied, and the casts of the body that come before."""

    left: int
    right: int
    left_value: int
    right_value: int
    casts: tuple[Step, ...]


def match_contraction(code: Code, inputs: int) -> Contraction | None:
    """The contraction that a body is, or None."""
    if len(code.yields) != 1 or len(code.steps) < 2:
        return None
    *casts, product, total = code.steps
    out = code.arguments[inputs]
    if total.results != code.yields or PAIRS.get(total.name) != product.name:
        return None
    if sorted(total.operands) != sorted((out, product.results[0])):
        return None
    if any(cast.name not in CASTS for cast in casts):
        return None
    sources = {cast.results[0]: cast.operands[0] for cast in casts}
    ends = [origin(value, sources) for value in product.operands]
    positions = [code.arguments.index(end) if end in code.arguments else -1 for end in ends]
    left, right = positions
    if left == right or not all(0 <= position < inputs for position in positions):
        return None
    left_value, right_value = product.operands
    return Contraction(left, right, left_value, right_value, tuple(casts))


def origin(value: int, sources: dict[int, int]) -> int:
    while value in sources:
        value = sources[value]
    return value


def fits_matmul(
    contraction: Contraction, maps: Sequence[Map], is_reduction: Sequence[bool], out: Array
) -> bool:
    """Whether each kept axis is read by an operand, each folded one by both, and BLAS applies."""
    if out.dtype.name not in ("float32", "float64", "int8", "int16", "int32", "int64"):
        return False
    left, right, result = (maps[i] for i in (contraction.left, contraction.right, -1))
    if not (left.is_linear and right.is_linear and result.is_linear):
        return False
    return all(
        (axis in left.used and axis in right.used)
        if folds
        else (axis in left.used or axis in right.used)
        for axis, folds in enumerate(is_reduction)
    )


def contract(
    contraction: Contraction,
    code: Code,
    frame: Frame,
    inputs: Sequence[Array],
    is_reduction: Sequence[bool],
) -> Array:
    """The sum of products over a box, with length 1 along the folded axes."""
    frame.values.update(zip(code.arguments, inputs, strict=False))
    for cast in contraction.casts:
        frame.carry_out(cast)
    left, right = (frame.values[v] for v in (contraction.left_value, contraction.right_value))
    for number in (*code.arguments, *(cast.results[0] for cast in contraction.casts)):
        frame.values.pop(number, None)
    return sum_of_products(left, right, is_reduction)


def sum_of_products(left: Array, right: Array, is_reduction: Sequence[bool]) -> Array:
    """
    sum over the folded axes of left * right, both over one space and of length 1 where unused.
    """
    sizes = np.maximum(left.shape, right.shape)
    folded = [axis for axis, folds in enumerate(is_reduction) if folds]
    kept = [axis for axis, folds in enumerate(is_reduction) if not folds]
    shared = [axis for axis in kept if left.shape[axis] == right.shape[axis]]
    rows = [axis for axis in kept if axis not in shared and right.shape[axis] == 1]
    columns = [axis for axis in kept if axis not in shared and axis not in rows]
    count = [int(np.prod(sizes[axes])) for axes in (shared, rows, columns, folded)]
    a = np.transpose(left, shared + rows + folded + columns)
    b = np.transpose(right, shared + folded + columns + rows)
    a = a.reshape(count[0], count[1], count[3])
    b = b.reshape(count[0], count[3], count[2])
    order = shared + rows + columns + folded
    shape = [1 if is_reduction[axis] else sizes[axis] for axis in order]
    return np.transpose(np.matmul(a, b).reshape(shape), np.argsort(order))


def operand_cost(maps: Sequence[Map], sizes: Sequence[int]) -> int:
    """Elements of the operands' views over a box."""
    return sum(int(np.prod([sizes[axis] for axis in m.used], dtype=np.int64)) for m in maps)
