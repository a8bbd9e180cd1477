"""What the rules of decode programs are asked, and the moves of bits that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decode_program import AND_XOR, Builder
from .operand_types import OperandType

ALL_ONES = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Question:
    """
    How do codes of these values become elements of `operand`?

    `shifted` marks the codes from whose value a zero point of `zeros` is subtracted; it is None
    for formats without.
    """

    values: NDArray[np.float64]
    operand: OperandType
    shifted: NDArray[np.bool_] | None
    zeros: NDArray[np.float64]

    @property
    def bits(self) -> int:
        return len(self.values).bit_length() - 1

    @property
    def whole(self) -> bool:
        """Whether every code has a value, so that arithmetic may be tried."""
        return bool(np.isfinite(self.values).all())

    @property
    def partly_shifted(self) -> bool:
        return self.shifted is not None and not self.shifted.all()


@dataclass(frozen=True, slots=True)
class Affine:
    """value = step * ((code ^ flip) - middle), middle a multiple of 1/2."""

    flip: int
    step: float
    middle: float


def affine_form(values: NDArray[np.float64], tolerance: float = 2.0**-22) -> Affine | None:
    """
    The affine form of a table of values.

    >>> affine_form(np.array([0.0, 1.0, -2.0, -1.0]))
    Affine(flip=2, step=1.0, middle=2.0)
    """
    codes = np.arange(len(values))
    for flip in (0, len(values) // 2):
        ascending = values[codes ^ flip]
        step = (ascending[-1] - ascending[0]) / (len(values) - 1)
        if step <= 0:
            continue
        middle = np.rint(-2 * ascending[0] / step) / 2
        if np.abs(step * (codes - middle) - ascending).max() <= tolerance * np.abs(values).max():
            return Affine(flip, float(step), float(middle))
    return None


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` bits of a code from bit `low` on, and where in the element they go."""

    low: int
    count: int
    target: int


def gathered(build: Builder, register: int, segments: Sequence[Segment], constant: int = 0) -> str:
    """A register whose elements hold these segments of its codes, exclusive-or `constant`."""
    result: str | None = None
    for (word, distance), mask in masks(build, register, segments).items():
        word = build.moved(word, distance)
        repeated = spread(build, mask)
        if result is None and constant == 0:
            result = word if repeated == ALL_ONES else build("and", word, repeated)
        elif result is None:
            result = build("lop3", word, repeated, spread(build, constant), AND_XOR)
        else:
            result = build("lop3", word, repeated, result, AND_XOR)
    assert result is not None
    return result


def masks(build: Builder, register: int, segments: Sequence[Segment]) -> dict[tuple[str, int], int]:
    """{(word, distance to shift it right): bits to keep of an element}, for element 0."""
    found: dict[tuple[str, int], int] = {}
    for plane in build.empty.planes:
        word, bit = build.empty.place(plane, register, 0)
        for segment in segments:
            low = max(plane.low, segment.low)
            high = min(plane.low + plane.bits, segment.low + segment.count)
            if low < high:
                target = segment.target + low - segment.low
                key = word, bit + low - plane.low - target
                found[key] = found.get(key, 0) | ((1 << (high - low)) - 1) << target
    return found


def spread(build: Builder, mask: int) -> int:
    """The mask in every element of a register."""
    operand = build.empty.operand
    return sum(mask << (operand.bits * element) for element in range(operand.per_register))


def new_shifts(build: Builder, register: int, segments: Sequence[Segment]) -> int:
    """How many shifts this gathering would add."""
    return sum(
        distance != 0
        and not build.has("shift_right" if distance > 0 else "shift_left", word, abs(distance))
        for word, distance in masks(build, register, segments)
    )
