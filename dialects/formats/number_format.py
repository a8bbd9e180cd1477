"""
`Format`: one number format, complete, and the operations computed from its definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError, UsageError
from .decoding import decode_rows
from .definition import (
    Admission,
    Block,
    Element,
    HalfStepInteger,
    Integer,
    Minifloat,
    Nested,
    Plane,
    Scale,
    ScaleDecoding,
    View,
)
from .elements import element_values
from .encoding import Range, TensorScales, encode_rows, scales_of_range
from .layout import SCALE_DTYPES, Parts, PartSpecs, block_columns
from .nested import PLANES, rounded_to_half
from .packing import row_bytes
from .quantized_array import QuantizedArray, quantize_array

if TYPE_CHECKING:
    from .resolve import Family

OptionValue = str | int | float | bool | tuple[float, ...]
# Of a scale, by its type: hazard 4, an E4M3 scale rounds to zero; an fp16 one gets coarse.
SCALE_REACH = {
    "e4m3": (2.0**-10, np.inf),
    "e4m3max480": (2.0**-10, np.inf),
    "fp16": (2.0**-14, 65504.0),
}


@dataclass(frozen=True, slots=True, repr=False)
class Format:
    """
    A number format: element, block, scales and packing; all else is computed from these fields.

    Storage of [rows, K], K the reduction axis: see `part_specs`. `spelling` and `definition`
    together re-create the format in another process.
    """

    name: str
    title: str
    source: str
    element: Element
    block: Block
    block_scales: tuple[Scale, ...]
    second_level: Scale | None
    zero_point: str | None
    byte_codes: bool
    admits: Admission | None
    views: tuple[View, ...]
    options: tuple[tuple[str, OptionValue], ...]
    spelling: str
    family: Family = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Format({self.spelling!r}, {self.bits_per_value:.4g} bits per value)"

    @property
    def definition(self) -> str:
        """The text this format was read from; `from_definition` reads it again."""
        return self.family.text

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.element.bits

    @property
    def stored_bits(self) -> int:
        """Width of a code in its packed row."""
        return 8 if self.byte_codes and self.bits < 8 else self.bits

    @property
    def code_part(self) -> str:
        """The stored part, or the first of two, that holds the codes."""
        if isinstance(self.element, Plane):
            return self.element.part
        return PLANES[0] if isinstance(self.element, Nested) else "codes"

    @property
    def precisions(self) -> tuple[str, ...]:
        """
        What the stored bytes can be read as, the whole of them first; empty without views.

        The option `view` turns a format into one of its views, which has the same parts or fewer.

        >>> from qcc.dialects.formats import format
        >>> whole = format("nestedfp16")
        >>> whole.precisions, list(whole.with_options(view="fp8_e4m3").part_specs(1, 1))
        (('fp16', 'fp8_e4m3'), ['upper'])
        """
        if not isinstance(self.element, Nested) or not self.views:
            return ()
        return (self.element.reads_as, *(view.format for view in self.views))

    @property
    def code_type(self) -> type[np.unsignedinteger]:
        return np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32

    @property
    def block_size(self) -> int | str | None:
        """Values that share a scale: a count, None for a whole row, or "tensor"."""
        return None if self.block.size == "channel" else self.block.size

    @property
    def bits_per_value(self) -> float:
        """
        Stored bits for each value of a long row.

        >>> from qcc.dialects.formats import format
        >>> format("amxfp4").bits_per_value, format("int4", group=64).bits_per_value
        (4.5, 4.5)
        """
        if not isinstance(self.block_size, int):
            return float(self.stored_bits)
        _, shared = self._block_parts()
        return self.stored_bits + sum(8 * kind.itemsize for kind in shared.values()) / (
            self.block_size
        )

    @property
    def splits_signs(self) -> bool:
        """Whether elements above zero and all others have a scale each."""
        return len(self.block_scales) == 2

    @property
    def symmetric_extent(self) -> bool:
        """Whether scales depend on magnitudes only."""
        element = self.element
        return not (
            isinstance(element, Integer | HalfStepInteger)
            and (self.zero_point is not None or element.lowest != -element.largest)
        )

    @property
    def needs_means(self) -> bool:
        return any(s.rule == "clip" and isinstance(s.value, str) for s in self.block_scales)

    @property
    def tensor_roles(self) -> frozenset[str]:
        """Parts that hold one number for the whole array."""
        roles = set()
        if self.block_size == "tensor":
            roles = {scale.role for scale in self.block_scales}
            if self.zero_point is not None:
                roles.add("zero_point")
        if self.second_level is not None:
            roles.add(self.second_level.role)
        return frozenset(roles)

    @property
    def rows_independent(self) -> bool:
        """
        Whether every row is encoded by itself, so that rows can be appended to stored ones.

        >>> from qcc.dialects.formats import format
        >>> format("int8").rows_independent, format("int8", group="tensor").rows_independent
        (True, False)
        """
        return not self.tensor_roles

    @property
    def fixed_scales(self) -> bool:
        """Whether no scale depends on the values: there is none, or the user gave numbers."""
        return not any(scale.reads_values for scale in self._scales())

    @property
    def takes_range(self) -> bool:
        """
        Whether scales of the whole tensor follow from its least and greatest value alone, and
        values beyond saturate.

        >>> from qcc.dialects.formats import format
        >>> [format(s).takes_range for s in ("int8", "int8<group=tensor>", "nvfp4<two_level=true>")]
        [False, True, True]
        """
        overflows = isinstance(self.element, Minifloat) and self.element.overflow == "infinity"
        if self.needs_means or overflows:
            return False
        level = self.second_level
        if level is not None and level.reads_values:
            return True
        return self.block_size == "tensor" and not self.fixed_scales

    @property
    def needs_stats(self) -> bool:
        """Whether `inadmissible` looks at the range of the values."""
        return self.admits is not None or self._reach() is not None

    def element_values(self) -> NDArray[np.float32]:
        """float32[2**bits]: each code's value before zero point and scale."""
        if self.bits > 16:
            raise UnsupportedError(
                "format-no-table",
                f"{self.name} has no table of 2**{self.bits} values",
                next_step="read its codes as IEEE single precision",
            )
        return element_values(self.element)

    def zero_point_codes(self) -> NDArray[np.bool_]:
        """bool[2**bits]: the codes from whose value the zero point is subtracted."""
        codes = np.full(1 << self.bits, self.zero_point is not None)
        if isinstance(self.element, HalfStepInteger):
            codes[[self.element.plus, self.element.minus]] = False
        return codes

    def scale_decoding(self, role: str) -> ScaleDecoding:
        """How the stored numbers of one role become float32 factors."""
        for scale in self._scales():
            if scale.role == role:
                divide = scale.rule == "inverse"
                return ScaleDecoding(
                    scale.type,
                    "all" if divide else scale.of,
                    divide=divide,
                    tensor=role in self.tensor_roles,
                )
        known = ", ".join(scale.role for scale in self._scales()) or "none"
        raise UsageError("format-role", f"{self.name} has no scale {role!r}; it has {known}")

    def part_specs(self, rows: int, k: int) -> PartSpecs:
        """
        Shape and dtype of each stored part of [rows, k].

        >>> from qcc.dialects.formats import format
        >>> {name: shape for name, (shape, _) in format("mxfp4").part_specs(2, 70).items()}
        {'codes': (2, 36), 'scale': (2, 3)}
        """
        byte = np.dtype(np.uint8)
        if isinstance(self.element, Nested | Plane):
            planes = PLANES if isinstance(self.element, Nested) else (self.element.part,)
            return dict.fromkeys(planes, ((rows, k), byte))
        specs: PartSpecs = {"codes": ((rows, row_bytes(k, self.stored_bits)), byte)}
        columns = block_columns(self.block_size, k)[1]
        once, shared = self._block_parts()
        for role, kind in shared.items():
            specs[role] = ((1, 1) if role in self.tensor_roles else (rows, columns), kind)
        for role, kind in once.items():
            specs[role] = ((1,), kind)
        return specs

    def encode_rows(self, rows: NDArray[Any], tensor_range: Range | None = None) -> Parts:
        """
        Stored parts of [rows, K] of any float type; raises UsageError on NaN and infinity.

        Works in pieces of bounded size: rows may be a memory map larger than memory.
        `tensor_range` as in `quantize`.
        """
        return encode_rows(self, rows, tensor_range)

    def tensor_scales(self, tensor_range: Range) -> TensorScales:
        """The scales of a tensor whose least and greatest values are these, as `quantize` has."""
        return scales_of_range(self, tensor_range)

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], k: int) -> NDArray[np.float32]:
        """float32 [rows, k] that the parts stand for."""
        return decode_rows(self, dict(parts), k)

    def quantize(
        self, x: Any, axis: int = -1, *, tensor_range: Range | None = None, **options: Any
    ) -> QuantizedArray:
        """
        Quantize a NumPy array or torch tensor of any rank; blocks lie along `axis`.

        With `tensor_range` (least, most), scales of the whole tensor are those of a tensor with
        these extremes, whatever `x` holds; values beyond saturate as the format does. It needs a
        format that `takes_range`. `options` override the format's own for this call. Raises
        UsageError on NaN, infinity or values the format cannot hold. A short last block is
        accepted here whatever the format; `inadmissible` is what a compiler asks.
        """
        fmt = self.with_options(**options) if options else self
        return quantize_array(fmt, x, axis, tensor_range)

    def with_options(self, **options: Any) -> Format:
        """The same definition with some options changed."""
        return self.family.build(self.name, dict(self.options) | options)

    def inadmissible(
        self, shape: tuple[int, ...], k: int, stats: Mapping[str, float] | None = None
    ) -> str | None:
        """
        Why a compiler must not give a tensor this format, or None.

        `k` is the length of its reduction axis; `stats` holds min and max where `needs_stats`.
        """
        size = self.block_size
        if not self.block.ragged and isinstance(size, int) and k % size:
            return f"{self.name}: rows of {k} do not divide into groups of {size}"
        if stats is None or 0 in shape:
            return None
        largest = max(abs(float(stats["min"])), abs(float(stats["max"])))
        if not np.isfinite(largest):
            return f"{self.name}: the tensor holds non-finite values"
        if self.admits is not None:
            half = rounded_to_half(largest)
            if half > self.admits.max_abs or half >= self.admits.limit:
                return (
                    f"{self.name}: largest magnitude {largest:g} is above the threshold "
                    f"{self.admits.max_abs:g} or not below {self.admits.limit:g}"
                )
        kind, low, high = self._reach() or ("", 0.0, np.inf)
        if 0 < largest < low:
            return (
                f"{self.name}: largest magnitude {largest:g} is below {low:g}, "
                f"where an {kind} scale without a tensor scale underflows"
            )
        if largest > high:
            return (
                f"{self.name}: largest magnitude {largest:g} is above {high:g}, "
                f"which no {kind} scale reaches"
            )
        return None

    def _scales(self) -> tuple[Scale, ...]:
        return self.block_scales + ((self.second_level,) if self.second_level else ())

    def _reach(self) -> tuple[str, float, float] | None:
        """A type of scale, and the magnitudes between which a tensor's largest one must lie."""
        types = {scale.type for scale in self.block_scales} & SCALE_REACH.keys()
        if self.second_level is not None or not types:
            return None
        (kind,) = types
        # A step under a zero point spans both signs.
        levels = self.element.largest / (2 if self.zero_point else 1)
        low, high = (bound * levels for bound in SCALE_REACH[kind])
        name = "fp16" if kind == "fp16" else "E4M3"
        return name, low, high

    def _block_parts(self) -> tuple[dict[str, np.dtype[Any]], dict[str, np.dtype[Any]]]:
        """Types of the parts held once, and of those held for each block."""
        shared = {scale.role: SCALE_DTYPES[scale.type] for scale in self.block_scales}
        if self.zero_point is not None:
            shared["zero_point"] = np.dtype(self.zero_point)
        second = self.second_level
        return ({second.role: SCALE_DTYPES[second.type]} if second else {}), shared
