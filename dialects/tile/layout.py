"""
Linear layouts: where each element of a tile lives, as a linear map over bits.

A tile of 16 by 8 held by 32 lanes, four elements each, is a function (register, lane) → (row,
column). Every such function that hardware uses for extents that are powers of two sends bits to
bits: the image of an index is the exclusive or of the images of its bits. So a layout is a list
of images, one for each bit of each index, and everything asked of it is linear algebra over F2:
vector widths, shared-memory addresses, bank conflicts, and the order in which weights are stored
so that the lane that needs them reads them in one piece.

Matrix-unit fragments, swizzled memory and stored weights are all layouts, and composing two gives
the way from one to the other. The idea is that of linear layouts (Zhou et al., 2025,
arXiv:2505.23819).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Position = tuple[int, ...]


@dataclass(frozen=True)
class Term:
    """Bits of an index as they enter a coordinate: ((index >> shift) & mask) << place."""

    index: str
    shift: int
    mask: int
    place: int


@dataclass(frozen=True)
class Layout:
    """
    The map from named indices to the coordinates of a tile of `shape`, all powers of two.

    `images[name][bit]` is the coordinate that bit `bit` of index `name` adds, without carries. A
    bit whose image is zero does not matter: its two values hold the same element.
    """

    shape: Position
    images: Mapping[str, tuple[Position, ...]]

    def __post_init__(self) -> None:
        for extent in self.shape:
            if extent < 1 or extent & (extent - 1):
                raise ValueError(f"a tile extent must be a power of two, not {extent}")
        for image in (image for images in self.images.values() for image in images):
            if len(image) != len(self.shape) or any(
                not 0 <= part < extent for part, extent in zip(image, self.shape, strict=True)
            ):
                raise ValueError(f"{image} is no position in a tile of {self.shape}")

    def __call__(self, **indices: Any) -> tuple[Any, ...]:
        """
        The coordinates of indices, given as integers or as arrays that broadcast.

        >>> Layout((4, 2), {"lane": ((1, 0), (2, 0)), "register": ((0, 1),)})(lane=3, register=1)
        (3, 1)
        """
        origin = sum(0 * index for index in indices.values())
        coordinates: list[Any] = [origin] * len(self.shape)
        for name, index in indices.items():
            for bit, image in enumerate(self.images[name]):
                chosen = (index >> bit) & 1
                for axis, part in enumerate(image):
                    coordinates[axis] = coordinates[axis] ^ (chosen * part)
        return tuple(coordinates)

    def size(self, name: str) -> int:
        """How many values index `name` takes."""
        return 1 << len(self.images.get(name, ()))

    @cached_property
    def is_injective(self) -> bool:
        """Whether no two values of the indices hold the same element."""
        return self._rank == sum(map(len, self.images.values()))

    @cached_property
    def is_surjective(self) -> bool:
        """Whether every element of the tile is held."""
        return 1 << self._rank == int(np.prod(self.shape))

    def repeat(self, name: str, axis: int, times: int) -> Layout:
        """
        The layout of a tile that is `times` as long along `axis`: index `name` counts the pieces.

        The new bits of the index are above those it has.
        """
        length = self.shape[axis]
        shape = _with(self.shape, axis, length * times)
        steps = [_unit(len(shape), axis, length << bit) for bit in range(_log2(times))]
        return Layout(shape, {**self.images, name: (*self.images.get(name, ()), *steps)})

    def share(self, name: str, times: int) -> Layout:
        """The layout whose index `name` has new upper bits that do not matter."""
        nothing = ((0,) * len(self.shape),) * _log2(times)
        return Layout(self.shape, {**self.images, name: (*self.images.get(name, ()), *nothing)})

    def renamed(self, names: Mapping[str, str]) -> Layout:
        return Layout(self.shape, {names.get(name, name): v for name, v in self.images.items()})

    def transposed(self) -> Layout:
        """The layout of the tile with its axes in reverse."""
        images = {name: tuple(image[::-1] for image in v) for name, v in self.images.items()}
        return Layout(self.shape[::-1], images)

    def then(self, memory: Layout) -> Layout:
        """
        From these indices to the index `memory` has for the same element.

        `memory` has one index, and gives each element one value of it; the result is a layout
        of the one axis that this index is. So a register's place in memory is
        image(register) ^ image(lane) ^ image(warp): an address and constants to flip in it.
        """
        ((name, _),) = memory.images.items()
        back = memory._preimages()
        images = {
            index: tuple((_combined(back, self._flat(image)),) for image in images)
            for index, images in self.images.items()
        }
        return Layout((memory.size(name),), images)

    def contiguous(self, name: str) -> int:
        """
        How many consecutive values of index `name`, from 0 on, lie one behind the other along
        the last axis: the widest vector that moves them, if aligned.
        """
        count = 0
        for image in self.images.get(name, ()):
            if image != _unit(len(self.shape), len(self.shape) - 1, 1 << count):
                break
            count += 1
        return 1 << count

    def terms(self, axis: int) -> list[Term]:
        """The coordinate along `axis` as an exclusive or of shifted pieces of the indices."""
        return [term for name, images in self.images.items() for term in _terms(name, images, axis)]

    @cached_property
    def _rank(self) -> int:
        return len(_echelon(self._flat(image) for v in self.images.values() for image in v))

    def _flat(self, position: Position) -> int:
        number = 0
        for part, extent in zip(position, self.shape, strict=True):
            number = number * extent + part
        return number

    def _preimages(self) -> dict[int, tuple[int, int]]:
        """{pivot bit: (reduced position, value of the only index)}, for solving."""
        ((_, images),) = self.images.items()
        solved: dict[int, tuple[int, int]] = {}
        for bit, image in enumerate(images):
            position, value = self._flat(image), 1 << bit
            for pivot in sorted(solved, reverse=True):
                if position >> pivot & 1:
                    position ^= solved[pivot][0]
                    value ^= solved[pivot][1]
            if position:
                solved[position.bit_length() - 1] = position, value
        return solved


def row_major(shape: Sequence[int], name: str = "offset") -> Layout:
    """
    Elements one behind the other, the last axis first.

    >>> row_major((2, 4)).images
    {'offset': ((0, 1), (0, 2), (1, 0))}
    """
    images = [
        _unit(len(shape), axis, 1 << bit)
        for axis in reversed(range(len(shape)))
        for bit in range(_log2(shape[axis]))
    ]
    return Layout(tuple(shape), {name: tuple(images)})


def swizzled(shape: tuple[int, int], vector: int, period: int) -> Layout:
    """
    Rows one behind the other, vectors of `vector` elements exchanged within them by the row.

    Vector v of row r stands where v ^ (r mod period) would without: then the same vector of
    `period` rows that follow one another lies in different banks (spec: rows of 128 bytes are
    exchanged by row & 7).
    """
    rows, columns = shape
    if vector * period > columns:
        raise ValueError(f"rows of {columns} have no {period} vectors of {vector}")
    plain = row_major(shape)
    images = list(plain.images["offset"])
    first_row = _log2(columns)
    for bit in range(min(_log2(period), _log2(rows))):
        row, column = images[first_row + bit]
        images[first_row + bit] = row, column ^ (vector << bit)
    return Layout(shape, {"offset": tuple(images)})


def bank_conflicts(offsets: np.ndarray, width: int) -> int:
    """
    How many turns the lanes of a warp take for one access of `width` bytes each, 1 at best.

    `offsets` are the lanes' byte addresses in shared memory. There are 32 banks of 4 bytes, and
    wide accesses are done by half or quarter warps; lanes that read the same word share it.
    """
    lanes = 32 * 4 // max(width, 4)
    words = np.asarray(offsets).reshape(-1, lanes)[:, :, None] // 4
    words = words + np.arange(max(width // 4, 1))
    return max(
        int(np.bincount(np.unique(part) % 32, minlength=32).max())
        for part in words.reshape(len(words), -1)
    )


def _terms(name: str, images: tuple[Position, ...], axis: int) -> Iterator[Term]:
    """Runs of bits that keep their distance; a bit whose image has several bits counts in each."""
    places: dict[int, list[int]] = {}
    for bit, image in enumerate(images):
        for place in range(image[axis].bit_length()):
            if image[axis] >> place & 1:
                places.setdefault(place - bit, []).append(bit)
    for distance, bits in sorted(places.items()):
        for run in _runs(bits):
            yield Term(name, run[0], (1 << len(run)) - 1, run[0] + distance)


def _runs(bits: list[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for bit in bits:
        if run and bit != run[-1] + 1:
            yield run
            run = []
        run.append(bit)
    if run:
        yield run


def _combined(solved: dict[int, tuple[int, int]], position: int) -> int:
    value = 0
    while position:
        pivot = position.bit_length() - 1
        if pivot not in solved:
            raise ValueError("the memory has no place for an element of the tile")
        position ^= solved[pivot][0]
        value ^= solved[pivot][1]
    return value


def _echelon(vectors: Iterator[int]) -> dict[int, int]:
    basis: dict[int, int] = {}
    for vector in vectors:
        while vector and vector.bit_length() in basis:
            vector ^= basis[vector.bit_length()]
        if vector:
            basis[vector.bit_length()] = vector
    return basis


def _log2(number: int) -> int:
    if number < 1 or number & (number - 1):
        raise ValueError(f"{number} is not a power of two")
    return number.bit_length() - 1


def _unit(rank: int, axis: int, length: int) -> Position:
    return tuple(length if index == axis else 0 for index in range(rank))


def _with(shape: Position, axis: int, extent: int) -> Position:
    return tuple(extent if index == axis else old for index, old in enumerate(shape))
