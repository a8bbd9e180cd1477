"""
`tensor`: shapes, slices and single elements.

Inside a vectorised body an index is an array, so `extract` there is a gather.
"""

from collections.abc import Sequence

import numpy as np

from ...bindings import ir
from ...errors import UsageError
from ..element_types import DYNAMIC, Array, dtype_of
from ..frame import Frame, Rule, checked_indices, integer
from ..program import Step, place


def filled_in(static: Sequence[int], dynamic: Sequence[Array], step: Step) -> list[int]:
    """Static values with the dynamic ones, in order, where the sentinel stands."""
    values = iter(dynamic)
    return [integer(next(values), step) if s == DYNAMIC else s for s in static]


def static_values(step: Step, name: str) -> list[int]:
    return list(ir.DenseI64ArrayAttr(step.op.attributes[name]))


def segments(step: Step, operands: Sequence[Array]) -> list[list[Array]]:
    """The operands of each group of a variadic op."""
    groups, position = [], 0
    for size in ir.DenseI32ArrayAttr(step.op.attributes["operandSegmentSizes"]):
        groups.append(list(operands[position : position + size]))
        position += size
    return groups


def result_type(step: Step) -> ir.RankedTensorType:
    return ir.RankedTensorType(step.op.results[0].type)


def empty(step: Step, operands: list[Array], _frame: Frame) -> Array:
    """Zeros: what is undefined is at least the same each time."""
    type_ = result_type(step)
    return np.zeros(filled_in(type_.shape, operands, step), dtype_of(type_))


def dim(step: Step, operands: list[Array], _frame: Frame) -> Array:
    source, axis = operands
    return np.asarray(source.shape[integer(axis, step)], np.int64)


def rank(_step: Step, operands: list[Array], _frame: Frame) -> Array:
    return np.asarray(operands[0].ndim, np.int64)


def extract(step: Step, operands: list[Array], frame: Frame) -> Array:
    source, *indices = operands
    return source[checked_indices(indices, source.shape, step, frame.mask)]


def insert(step: Step, operands: list[Array], _frame: Frame) -> Array:
    value, target, *indices = operands
    result = target.copy()
    scalars = [np.asarray(integer(index, step)) for index in indices]
    result[checked_indices(scalars, target.shape, step, None)] = value.reshape(())
    return result


def region_slices(
    step: Step, shape: Sequence[int], groups: Sequence[Sequence[Array]]
) -> tuple[tuple[slice, ...], list[int]]:
    """The slices that offsets, sizes and strides describe, and the sizes."""
    offsets, sizes, strides = (
        filled_in(static_values(step, f"static_{name}"), group, step)
        for name, group in zip(("offsets", "sizes", "strides"), groups, strict=True)
    )
    for axis, (o, n, s, extent) in enumerate(zip(offsets, sizes, strides, shape, strict=True)):
        if o < 0 or n < 0 or (n and o + (n - 1) * s >= extent):
            raise UsageError(
                "slice-range",
                f"a slice [{o} : +{n} : {s}] leaves axis {axis} of a tensor {list(shape)}",
                where=place(step.op),
                next_step="check the sizes of the model's inputs",
            )
    spans = zip(offsets, sizes, strides, strict=True)
    return tuple(slice(o, o + n * s, s) if n else slice(0, 0) for o, n, s in spans), sizes


def reduced_shape(sizes: Sequence[int], static: Sequence[int]) -> list[int]:
    """`sizes` with leading ones dropped, first to last, until the rank of `static` is reached."""
    shape, surplus = [], len(sizes) - len(static)
    for size in sizes:
        wanted = static[len(shape)] if len(shape) < len(static) else None
        if surplus and size == 1 and wanted != 1:
            surplus -= 1
        else:
            shape.append(size)
    return shape


def extract_slice(step: Step, operands: list[Array], _frame: Frame) -> Array:
    (source,), *groups = segments(step, operands)
    slices, sizes = region_slices(step, source.shape, groups)
    return source[slices].reshape(reduced_shape(sizes, result_type(step).shape))


def insert_slice(step: Step, operands: list[Array], _frame: Frame) -> Array:
    (source,), (target,), *groups = segments(step, operands)
    slices, sizes = region_slices(step, target.shape, groups)
    result = target.copy()
    result[slices] = source.reshape(sizes)
    return result


def expand_shape(step: Step, operands: list[Array], _frame: Frame) -> Array:
    source, *dynamic = operands
    return source.reshape(filled_in(static_values(step, "static_output_shape"), dynamic, step))


def collapse_shape(step: Step, operands: list[Array], _frame: Frame) -> Array:
    (source,) = operands
    groups = [[int(axis) for axis in group] for group in step.op.attributes["reassociation"]]
    return source.reshape([int(np.prod([source.shape[a] for a in axes])) for axes in groups])


def reshape(_step: Step, operands: list[Array], _frame: Frame) -> Array:
    source, shape = operands
    return source.reshape(shape.tolist())


def cast(step: Step, operands: list[Array], _frame: Frame) -> Array:
    (source,) = operands
    type_ = step.op.results[0].type
    if isinstance(type_, ir.RankedTensorType) and not fits(source.shape, type_.shape):
        raise UsageError(
            "cast-shape",
            f"a tensor of shape {list(source.shape)} is not a {type_}",
            where=place(step.op),
            next_step="check the sizes of the model's inputs",
        )
    return source


def fits(shape: Sequence[int], static: Sequence[int]) -> bool:
    """Whether a run-time shape is one of a static shape with dynamic axes."""
    return len(shape) == len(static) and all(
        s in (DYNAMIC, n) for n, s in zip(shape, static, strict=True)
    )


def concat(step: Step, operands: list[Array], _frame: Frame) -> Array:
    return np.concatenate(operands, axis=ir.IntegerAttr(step.op.attributes["dim"]).value)


def open_mesh(shape: Sequence[int]) -> list[Array]:
    return list(np.ix_(*(np.arange(extent) for extent in shape)))


def pad(step: Step, operands: list[Array], frame: Frame) -> Array:
    (source,), low_operands, high_operands = segments(step, operands)
    low = filled_in(static_values(step, "static_low"), low_operands, step)
    high = filled_in(static_values(step, "static_high"), high_operands, step)
    shape = [a + n + b for a, n, b in zip(low, source.shape, high, strict=True)]
    result = from_body(step, shape, source.dtype, frame)
    result[tuple(slice(a, a + n) for a, n in zip(low, source.shape, strict=True))] = source
    return result


def from_body(step: Step, shape: Sequence[int], dtype: np.dtype, frame: Frame) -> Array:
    """A new tensor whose elements the op's body gives from their indices."""
    result = np.empty(shape, dtype)
    (value,) = frame.over(()).run(step.blocks[0], open_mesh(shape))
    result[...] = value
    return result


def generate(step: Step, operands: list[Array], frame: Frame) -> Array:
    type_ = result_type(step)
    return from_body(step, filled_in(type_.shape, operands, step), dtype_of(type_), frame)


def from_elements(step: Step, operands: list[Array], _frame: Frame) -> Array:
    type_ = result_type(step)
    elements = [element.reshape(()) for element in operands]
    return np.array(elements, dtype_of(type_)).reshape(type_.shape)


def splat(step: Step, operands: list[Array], _frame: Frame) -> Array:
    value, *dynamic = operands
    shape = filled_in(result_type(step).shape, dynamic, step)
    return np.broadcast_to(value.reshape(()), shape)


def bitcast(step: Step, operands: list[Array], _frame: Frame) -> Array:
    return np.ascontiguousarray(operands[0]).view(dtype_of(result_type(step)))


def gather(step: Step, operands: list[Array], frame: Frame) -> Array:
    """result[i..., :] = source at coordinates indices[i...], whole along the other axes."""
    source, coordinates = operands
    index = slice_index(step, "gather_dims", source, coordinates, frame)
    gathered = source[index]
    return gathered.reshape(
        reduced_or_kept(coordinates.shape[:-1], source.shape, step, "gather_dims")
    )


def scatter(step: Step, operands: list[Array], frame: Frame) -> Array:
    """The destination with `source` written at the coordinates."""
    source, target, coordinates = operands
    result = target.copy()
    index = slice_index(step, "scatter_dims", target, coordinates, frame)
    result[index] = source.reshape(result[index].shape)
    return result


def slice_index(
    step: Step, name: str, array: Array, coordinates: Array, frame: Frame
) -> tuple[Array, ...]:
    """Index arrays [coordinates..., other axes...] into `array`."""
    axes = static_values(step, name)
    others = [axis for axis in range(array.ndim) if axis not in axes]
    lead = coordinates.ndim - 1
    index: dict[int, Array] = {}
    for column, axis in enumerate(axes):
        place_ = coordinates[..., column].astype(np.int64)
        index[axis] = place_.reshape(place_.shape + (1,) * len(others))
    for position, axis in enumerate(others):
        shape = [1] * (lead + len(others))
        shape[lead + position] = array.shape[axis]
        index[axis] = np.arange(array.shape[axis]).reshape(shape)
    ordered = [index[axis] for axis in range(array.ndim)]
    return checked_indices(ordered, array.shape, step, frame.mask)


def reduced_or_kept(lead: Sequence[int], shape: Sequence[int], step: Step, name: str) -> list[int]:
    """The result's shape: gathered axes are dropped, or kept with length 1."""
    axes = static_values(step, name)
    kept = [1 if axis in axes else extent for axis, extent in enumerate(shape)]
    dropped = [extent for axis, extent in enumerate(shape) if axis not in axes]
    rank_ = result_type(step).rank
    return [*lead, *(kept if rank_ == len(lead) + len(kept) else dropped)]


RULES: dict[str, Rule] = {
    "tensor.bitcast": bitcast,
    "tensor.cast": cast,
    "tensor.collapse_shape": collapse_shape,
    "tensor.concat": concat,
    "tensor.dim": dim,
    "tensor.empty": empty,
    "tensor.expand_shape": expand_shape,
    "tensor.extract": extract,
    "tensor.extract_slice": extract_slice,
    "tensor.from_elements": from_elements,
    "tensor.gather": gather,
    "tensor.generate": generate,
    "tensor.insert": insert,
    "tensor.insert_slice": insert_slice,
    "tensor.pad": pad,
    "tensor.rank": rank,
    "tensor.reshape": reshape,
    "tensor.scatter": scatter,
    "tensor.splat": splat,
}
