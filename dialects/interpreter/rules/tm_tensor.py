"""`tm_tensor`: torch-mlir's scan, sort and scatter."""

import numpy as np

from ...bindings import ir
from ...errors import UnsupportedError
from ..element_types import Array
from ..folds import combiner
from ..frame import Frame, Results, Rule, checked_indices
from ..program import Code, Step, place

# Comparators by predicate number: True where the larger of two comes first. cmpf: ogt, oge, olt,
# ole, ugt, uge, ult, ule; cmpi: slt, sle, sgt, sge.
LARGER_FIRST = {
    "arith.cmpf": {2: True, 3: True, 4: False, 5: False, 9: True, 10: True, 11: False, 12: False},
    "arith.cmpi": {2: False, 3: False, 4: True, 5: True},
}


def single_ufunc(code: Code, dtype: np.dtype) -> np.ufunc | None:
    """The ufunc that a body of two arguments is, or None."""
    if len(code.steps) != 1 or code.steps[0].results != code.yields:
        return None
    if sorted(code.steps[0].operands) != sorted(code.arguments):
        return None
    return combiner(code.steps[0].name, dtype)


def scan(step: Step, operands: list[Array], frame: Frame) -> Results:
    """
    Prefixes along an axis: out[i] = body(out[i - 1], in[i]), out[0] = in[0]; exclusive ones begin
    with the given accumulator and read in[i - 1]. The second result is the last prefix.
    """
    source, _, start = operands
    axis = ir.IntegerAttr(step.op.attributes["dimension"]).value
    points = np.moveaxis(source, axis, 0)
    if not ir.BoolAttr(step.op.attributes["inclusive"]).value:
        points = np.concatenate([start[None], points[:-1]])
    if not len(points):
        return [source, start]
    code = step.blocks[0]
    ufunc = single_ufunc(code, source.dtype)
    if ufunc is not None:
        prefixes = ufunc.accumulate(points, axis=0, dtype=source.dtype)
    else:
        prefixes = np.array(points)
        for position in range(1, len(points)):
            arguments = [prefixes[position - 1], points[position]]
            (prefixes[position],) = frame.over(()).run(code, arguments)
    return [np.moveaxis(prefixes, 0, axis), prefixes[-1]]


def sort(step: Step, operands: list[Array], _frame: Frame) -> Results:
    """All operands in the order of the one that the body compares; equal ones keep theirs."""
    axis = ir.IntegerAttr(step.op.attributes["dimension"]).value
    key, descending = sort_key(step)
    keys = operands[key]
    if descending:
        backwards = np.argsort(np.flip(keys, axis), axis=axis, kind="stable")
        order = keys.shape[axis] - 1 - np.flip(backwards, axis)
    else:
        order = np.argsort(keys, axis=axis, kind="stable")
    return [np.take_along_axis(operand, order, axis) for operand in operands]


def sort_key(step: Step) -> tuple[int, bool]:
    """Which operand is compared, and whether the larger is first."""
    code = step.blocks[0]
    if len(code.steps) == 1 and code.steps[0].results == code.yields:
        compare = code.steps[0]
        directions = LARGER_FIRST.get(compare.name, {})
        if directions and set(compare.operands) <= set(code.arguments):
            larger_first = directions.get(ir.IntegerAttr(compare.op.attributes["predicate"]).value)
            left, right = (code.arguments.index(value) for value in compare.operands)
            if larger_first is not None and left // 2 == right // 2 and left != right:
                return left // 2, larger_first == (left < right)
    raise UnsupportedError(
        "interpreter-sort",
        "tm_tensor.sort by something else than one comparison",
        where=place(step.op),
    )


def scatter(step: Step, operands: list[Array], frame: Frame) -> Results:
    """original[indices[n] + offset] = body(updates[n, offset], original[…]), n in order."""
    updates, indices, original = operands
    code, result = step.blocks[0], np.array(original)
    target = scatter_index(step, updates, indices, original)
    if code.yields == code.arguments[:1]:
        result[target] = updates
        return result
    ufunc = single_ufunc(code, result.dtype)
    if ufunc is not None:
        ufunc.at(result, target, updates)
        return result
    full = [np.broadcast_to(index, updates.shape) for index in target]
    for number in range(len(updates)):
        one = tuple(index[number] for index in full)
        (result[one],) = frame.over(()).run(code, [updates[number], result[one]])
    return result


def scatter_index(step: Step, updates: Array, indices: Array, original: Array) -> tuple[Array, ...]:
    """For each axis of `original` the index arrays, broadcastable to the updates."""
    offsets = np.ix_(*(np.arange(extent) for extent in updates.shape))[1:]
    missing = original.ndim - len(offsets)
    index: list[Array] = [np.zeros((1,) * updates.ndim, np.int64)] * missing + list(offsets)
    axes = list(ir.DenseI64ArrayAttr(step.op.attributes["dimension_map"]))
    for column, axis in enumerate(axes):
        start = indices[:, column].astype(np.int64).reshape(-1, *(1,) * (updates.ndim - 1))
        index[axis] = index[axis] + start
    return checked_indices(index, original.shape, step, None)


RULES: dict[str, Rule] = {
    "tm_tensor.scan": scan,
    "tm_tensor.scatter": scatter,
    "tm_tensor.sort": sort,
}
