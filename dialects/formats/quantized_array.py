"""`QuantizedArray`: an array held in a format, as it would be stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .decoding import decode_rows, row_codes
from .definition import Integer, View
from .encoding import encode_rows
from .layout import Parts, padded_count
from .nested import rounded_to_half
from .scales import decode_scale

if TYPE_CHECKING:
    from .number_format import Format


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedArray:
    """
    Packed codes and scales of an array of `shape`, blocks along `axis` (non-negative).

    `parts` are laid out as `format.part_specs` says, `axis` moved last and the others flattened.
    """

    format: Format
    shape: tuple[int, ...]
    axis: int
    parts: Parts

    @property
    def codes(self) -> NDArray[Any]:
        """
        One integer for each value, in the array's shape.

        Signed for signed integer formats, else the unsigned bit pattern; either way
        `format.element_values()[codes]` is the unscaled value.
        """
        codes = row_codes(self.format, self.parts, self._k)
        element = self.format.element
        if isinstance(element, Integer) and element.signed:
            spare = 8 - element.bits
            codes = (codes << np.uint8(spare)).view(np.int8) >> np.int8(spare)
        return self._in_shape(codes)

    @property
    def scales(self) -> dict[str, NDArray[Any]]:
        """
        Scales and zero points by role, as stored (E8M0, E5M2 and E4M3 as bytes).

        Of the array's shape with `axis` counting blocks; one element for the whole array where
        the scale is shared by all. `scale_values` has them decoded.
        """
        return {
            role: part if role in self.format.tensor_roles else self._in_shape(part)
            for role, part in self.parts.items()
            if role not in ("codes", "upper", "lower")
        }

    @property
    def scale_values(self) -> dict[str, NDArray[np.float32]]:
        """The scales as the float32 factors they mean, without the zero points."""
        return {
            role: decode_scale(self.format.scale_decoding(role).kind, stored)
            for role, stored in self.scales.items()
            if role != "zero_point"
        }

    @property
    def nbytes(self) -> int:
        """Stored bytes: packed codes, scales and zero points."""
        return sum(part.nbytes for part in self.parts.values())

    def dequantize(self) -> NDArray[np.float32]:
        """The values stored, float32 in the array's shape."""
        return self._in_shape(decode_rows(self.format, self.parts, self._k))

    def view(self, name: str) -> QuantizedArray:
        """The same bytes read as another format that the definition offers."""
        for view in self.format.views:
            if view.format == name:
                return self._viewed(view)
        known = ", ".join(view.format for view in self.format.views) or "none"
        raise UsageError(
            "format-view", f"{self.format.spelling} cannot be viewed as {name!r}; views: {known}"
        )

    def __repr__(self) -> str:
        return f"QuantizedArray({self.format.spelling}, shape={self.shape}, axis={self.axis})"

    @property
    def _k(self) -> int:
        return self.shape[self.axis] if self.shape else 1

    def _viewed(self, view: View) -> QuantizedArray:
        plane = self.parts[view.part]
        codes = np.zeros((len(plane), padded_count(self._k)), np.uint8)
        codes[:, : self._k] = plane
        scale = np.full((1, 1), view.scale, np.float32)
        target = self.format.family.lookup(view.format, group="tensor")
        return QuantizedArray(target, self.shape, self.axis, {"codes": codes, "scale": scale})

    def _in_shape(self, rows: NDArray[Any]) -> NDArray[Any]:
        """[rows, n] with the reduction axis back in its place."""
        if not self.shape:
            return rows.reshape(())
        others = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        return np.moveaxis(rows.reshape(*others, rows.shape[1]), -1, self.axis)


def quantize_array(fmt: Format, x: Any, axis: int) -> QuantizedArray:
    """See `Format.quantize`."""
    array = _as_floats(x)
    rank = array.ndim
    if not -max(rank, 1) <= axis < max(rank, 1):
        raise UsageError("format-axis", f"axis {axis} is out of range for an array of rank {rank}")
    axis %= max(rank, 1)
    rows = array.reshape(1, 1) if rank == 0 else np.moveaxis(array, axis, -1)
    rows = rows.reshape(int(np.prod(rows.shape[:-1])), rows.shape[-1])
    if fmt.admits is not None and rows.size:
        _refuse_out_of_range(fmt, rows)
    return QuantizedArray(fmt, array.shape, axis, encode_rows(fmt, rows))


def _as_floats(x: Any) -> NDArray[Any]:
    """An array of a float type no wider than float32; torch tensors by duck typing."""
    if hasattr(x, "detach") and hasattr(x, "cpu"):
        x = x.detach().float().cpu().numpy()
    array = np.asarray(x)
    if array.dtype.kind == "c" or array.dtype == object or array.dtype.kind in "SUmM":
        raise UsageError("format-dtype", f"cannot quantize an array of type {array.dtype}")
    if array.dtype.kind in "iub" or array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array


def _refuse_out_of_range(fmt: Format, rows: NDArray[Any]) -> None:
    low, high = float(np.nanmin(rows)), float(np.nanmax(rows))
    largest = max(abs(low), abs(high))
    if np.isnan(rows).any() or not np.isfinite(largest):
        raise UsageError(
            "format-non-finite",
            f"{fmt.name}: the array to quantize holds a NaN or an infinity",
            next_step="replace or clip non-finite values, or keep this tensor in full precision",
        )
    assert fmt.admits is not None
    if rounded_to_half(largest) >= fmt.admits.limit:
        raise UsageError(
            "format-range",
            f"{fmt.name} cannot hold a magnitude of {largest:g}; the bound is {fmt.admits.limit:g}",
            why="its upper plane would read as NaN or lose an exponent bit",
            next_step="keep this tensor in fp16",
        )
