"""The element types that matrix units multiply, as bits and as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

REGISTER_BITS = 32


@dataclass(frozen=True, slots=True)
class OperandType:
    """
    An element type by its MLIR name; `exponent` is 0 for an integer, and `mantissa` its digits.

    `dtype` is NumPy's type of the same bits, which has a whole byte for those of 4.
    """

    name: str
    bits: int
    exponent: int
    mantissa: int
    dtype: np.dtype[Any]

    @property
    def per_register(self) -> int:
        return REGISTER_BITS // self.bits

    @property
    def is_float(self) -> bool:
        return self.exponent > 0

    @property
    def extremes(self) -> tuple[int, int]:
        """
        The least and the largest integer.

        >>> OPERAND_TYPES["i4"].extremes, OPERAND_TYPES["ui4"].extremes
        ((-8, 7), (0, 15))
        """
        most = (1 << self.mantissa) - 1
        return (-most - 1 if self.mantissa < self.bits else 0), most

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    def rounded(self, values: Any) -> NDArray[np.float64]:
        """The values rounded to this type, to nearest and even; integers saturate."""
        wide = np.asarray(values, np.float64)
        if not self.is_float:
            return np.clip(np.rint(wide), *self.extremes)
        with np.errstate(over="ignore"):
            return wide.astype(self.dtype).astype(np.float64)

    def split(self, registers: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Values [..., e] of registers [...], the lowest bits first."""
        flat = np.ascontiguousarray(registers, "<u4")
        if self.bits == 4:
            shifts = np.arange(0, REGISTER_BITS, 4, dtype=np.uint32)
            nibbles = (flat[..., None] >> shifts & 15).astype(np.uint8)
            return nibbles.view(self.dtype).astype(np.float64)
        values = flat.reshape(*flat.shape, 1).view(self.dtype)
        with np.errstate(invalid="ignore"):
            return values.astype(np.float64)

    def joined(self, values: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Registers [...] of values [..., e] that this type can hold; integers wrap."""
        if not self.is_float:
            wide = np.ascontiguousarray(values).astype(np.int64)
            if self.bits == 4:
                return _nibbles((wide & 15).astype(np.uint32))
            return wide.astype(np.uint8).view("<u4")[..., 0]
        with np.errstate(over="ignore", invalid="ignore"):
            elements = np.ascontiguousarray(values).astype(self.dtype)
        if self.bits == 4:
            return _nibbles(elements.view(np.uint8).astype(np.uint32))
        return elements.view("<u4")[..., 0]

    def repeated(self, value: float) -> int:
        """The register whose elements all are `value`."""
        return int(self.joined(np.full(self.per_register, value, np.float64)))

    def holds(self, value: float) -> bool:
        return float(self.rounded(value)) == value


def _nibbles(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Registers of eight codes each, the first one lowest."""
    shifts = np.arange(0, REGISTER_BITS, 4, dtype=np.uint32)
    return np.bitwise_or.reduce(codes << shifts, axis=-1)


OPERAND_TYPES = {
    each.name: each
    for each in (
        OperandType("f16", 16, 5, 10, np.dtype(np.float16)),
        OperandType("bf16", 16, 8, 7, np.dtype(ml_dtypes.bfloat16)),
        OperandType("i8", 8, 0, 7, np.dtype(np.int8)),
        OperandType("i4", 4, 0, 3, np.dtype(ml_dtypes.int4)),
        OperandType("ui4", 4, 0, 4, np.dtype(ml_dtypes.uint4)),
        OperandType("f8E4M3FN", 8, 4, 3, np.dtype(ml_dtypes.float8_e4m3fn)),
        OperandType("f8E5M2", 8, 5, 2, np.dtype(ml_dtypes.float8_e5m2)),
        OperandType("f4E2M1FN", 4, 2, 1, np.dtype(ml_dtypes.float4_e2m1fn)),
    )
}
