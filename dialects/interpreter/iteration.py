"""Iteration spaces: their extents, and their division into boxes of bounded cost."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from .affine import Box, Map
from .element_types import Array

Cost = Callable[[Sequence[int]], int]


def space_extents(maps: Sequence[Map], operands: Sequence[Array]) -> tuple[int, ...]:
    """The length of each axis, from the first operand that has it as an axis of its own."""
    extents: dict[int, int] = {}
    for affine_map, operand in zip(maps, operands, strict=True):
        for axis, extent in zip(affine_map.axes, operand.shape, strict=True):
            if axis is not None:
                extents.setdefault(axis, extent)
    return tuple(extents[axis] for axis in range(maps[0].rank))


def tile_sizes(extents: Sequence[int], cost: Cost, limit: int) -> list[int]:
    """The largest tile of at most `limit` cost that is cut from the outermost axes first."""
    sizes = list(extents)
    for axis in range(len(sizes)):
        while cost(sizes) > limit and sizes[axis] > 1:
            sizes[axis] = (sizes[axis] + 1) // 2
    return sizes


def boxes(extents: Sequence[int], tile: Sequence[int]) -> Iterator[Box]:
    """The boxes that cover the space, first to last in each axis; none of an empty space."""
    if 0 in extents:
        return
    spans = [range(0, extent, size) for extent, size in zip(extents, tile, strict=True)]
    for starts in product(*spans):
        sizes = [min(s, e - b) for s, e, b in zip(tile, extents, starts, strict=True)]
        yield Box(tuple(starts), tuple(sizes))
