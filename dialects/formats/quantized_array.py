"""`QuantizedArray`: an array held in a format, as it would be stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .decoding import decode_rows, row_codes
from .definition import Integer, View
from .encoding import Range, encode_rows
from .layout import Parts, padded_count
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


def quantize_array(
    fmt: Format, x: Any, axis: int, tensor_range: Range | None = None
) -> QuantizedArray:
    """See `Format.quantize`."""
    array = _as_floats(x)
    rank = max(array.ndim, 1)
    if not isinstance(axis, int | np.integer) or not -rank <= axis < rank:
        raise UsageError(
            "format-axis", f"axis {axis!r} is not one of an array of rank {array.ndim}"
        )
    axis = int(axis) % rank
    rows = array.reshape(1) if array.ndim == 0 else np.moveaxis(array, axis, -1)
    rows = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    return QuantizedArray(fmt, array.shape, axis, encode_rows(fmt, rows, tensor_range))


def _as_floats(x: Any) -> NDArray[Any]:
    """An array of a float type no wider than float32; torch tensors by duck typing."""
    try:
        array = np.asarray(_from_torch(x) if hasattr(x, "detach") and hasattr(x, "cpu") else x)
        if array.dtype.kind in "OSUmMc":
            raise TypeError(f"{array.dtype} is not a real number")
        np.zeros(1, array.dtype).astype(np.float32)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError("format-dtype", "cannot quantize this array", why=str(error)) from error
    if array.dtype.kind in "iub" or array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array


def _from_torch(x: Any) -> NDArray[Any]:
    """Raises TypeError for complex and sparse tensors, NotImplementedError for empty shells."""
    if x.is_complex():
        raise TypeError(f"{x.dtype} is not a real number")
    return x.detach().float().cpu().numpy()
