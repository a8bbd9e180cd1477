"""Affine maps: as views of an array where they are linear, as index arrays where they are not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..affine import evaluate
from ..bindings import ir
from ..errors import UnsupportedError
from .element_types import Array


@dataclass(frozen=True, slots=True)
class Linear:
    """constant + sum over d of coefficients[d] * index d."""

    coefficients: tuple[int, ...]
    constant: int

    @property
    def dimension(self) -> int | None:
        """The one index that this is, or None."""
        used = [d for d, factor in enumerate(self.coefficients) if factor]
        if self.constant or len(used) != 1 or self.coefficients[used[0]] != 1:
            return None
        return used[0]

    @property
    def is_constant(self) -> bool:
        return not any(self.coefficients)


@dataclass(frozen=True, slots=True)
class Box:
    """A part of an iteration space: the first index and the number of them on each axis."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def volume(self) -> int:
        return int(np.prod(self.sizes, dtype=np.int64))

    def indices(self) -> tuple[Array, ...]:
        """int64 index of each axis, as an open mesh."""
        rank = len(self.sizes)
        return tuple(
            (start + np.arange(size)).reshape([-1 if d == axis else 1 for d in range(rank)])
            for axis, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True))
        )


class Map:
    """An affine map from an iteration space of `rank` axes to the axes of an array."""

    def __init__(self, attribute: ir.Attribute) -> None:
        affine_map = ir.AffineMapAttr(attribute).value
        self.rank: int = affine_map.n_dims
        self.expressions: list[ir.AffineExpr] = list(affine_map.results)
        forms = [linear_form(expression, self.rank) for expression in self.expressions]
        self.linear = [form for form in forms if form is not None]
        self.is_linear = len(self.linear) == len(forms)
        # For each axis of the array, the iteration axis that it is, or None.
        self.axes = [form.dimension if form is not None else None for form in forms]

    @property
    def used(self) -> frozenset[int]:
        """The iteration axes that a linear map mentions."""
        return frozenset(
            axis for form in self.linear for axis, factor in enumerate(form.coefficients) if factor
        )

    def read(self, array: Array, box: Box) -> Array:
        """
        What the array holds at each point of the box, broadcastable to the box.

        Axes that the map does not mention have length 1. A linear map copies nothing.
        """
        if self.is_linear:
            return self.view(array, box, writeable=False)
        mesh = box.indices()
        index = [np.asarray(evaluate(expression, mesh)) for expression in self.expressions]
        check_range(index, array.shape)
        return array[tuple(index)].reshape(np.broadcast_shapes(*(i.shape for i in index)))

    def view(self, array: Array, box: Box, *, writeable: bool) -> Array:
        """A strided view of the array over the box; only for a linear map."""
        origin, strides = [], [0] * self.rank
        for form, stride, extent in zip(self.linear, array.strides, array.shape, strict=True):
            first, last = value_range(form, box)
            if first < 0 or last >= extent:
                raise out_of_bounds(first if first < 0 else last, array.shape)
            start = form.constant + dot(form.coefficients, box.starts)
            origin.append(slice(start, start + 1))
            for axis, factor in enumerate(form.coefficients):
                strides[axis] += factor * stride
        used = self.used
        sizes = [size if axis in used else 1 for axis, size in enumerate(box.sizes)]
        return as_strided(array[(*origin, ...)], sizes, strides, writeable=writeable)


def dot(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(left, right, strict=True))


def value_range(form: Linear, box: Box) -> tuple[int, int]:
    """The smallest and the largest value of a linear form over a box."""
    first = last = form.constant
    for factor, start, size in zip(form.coefficients, box.starts, box.sizes, strict=True):
        ends = factor * start, factor * (start + size - 1)
        first, last = first + min(ends), last + max(ends)
    return first, last


def linear_form(expression: ir.AffineExpr, rank: int) -> Linear | None:
    """The expression as a linear form, or None."""
    if isinstance(expression, ir.AffineDimExpr):
        return Linear(tuple(int(d == expression.position) for d in range(rank)), 0)
    if isinstance(expression, ir.AffineConstantExpr):
        return Linear((0,) * rank, expression.value)
    if not isinstance(expression, ir.AffineAddExpr | ir.AffineMulExpr):
        return None
    left, right = linear_form(expression.lhs, rank), linear_form(expression.rhs, rank)
    if left is None or right is None:
        return None
    if isinstance(expression, ir.AffineAddExpr):
        pairs = zip(left.coefficients, right.coefficients, strict=True)
        return Linear(tuple(a + b for a, b in pairs), left.constant + right.constant)
    form, factor = (left, right) if right.is_constant else (right, left)
    scale = factor.constant
    return Linear(tuple(scale * c for c in form.coefficients), scale * form.constant)


def check_range(indices: Sequence[Array], shape: tuple[int, ...]) -> None:
    for index, extent in zip(indices, shape, strict=True):
        if index.size and (index.min() < 0 or index.max() >= extent):
            raise out_of_bounds(int(index.max()), shape)


def out_of_bounds(index: int, shape: tuple[int, ...]) -> UnsupportedError:
    return UnsupportedError(
        "map-range",
        f"an indexing map reads index {index} of an array of shape {list(shape)}",
        why="the shapes of the operands do not fit one another",
    )
