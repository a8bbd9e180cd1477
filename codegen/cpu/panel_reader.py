"""
Reading weights that lie in panels: for any format, sixteen rows of one k as fp32 lanes.

A reader gives elements and the scales of their block apart, so that a kernel multiplies a block's
sum once instead of every element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...dialects.formats import Format
from ...dialects.formats.definition import Nested
from ...dialects.formats.layout import block_columns
from ...dialects.formats.panels import PANEL_ROWS, code_bits, code_planes, panel_specs, panel_unit
from .closed_form import Minifloat
from .decode import SMALL_SCALES, decode_scale, moved_topmost, raised, stored_type
from .emit import (
    Val,
    broadcast,
    constant,
    f32,
    fma,
    i32,
    reinterpret,
    signed_to_float,
    size,
    widen,
    widen_signed,
)
from .library import Arguments, KernelLibrary
from .panel_codes import (
    NEAR,
    Ahead,
    Elements,
    UnitCodes,
    as_halves,
    as_words,
    wide,
)

CODE_ROLES = ("codes", "upper", "lower")
HALF = Minifloat(16, 5, 10, 15)


@dataclass(frozen=True, slots=True)
class BlockScales:
    """
    What one block of sixteen rows shares, decoded: a factor, or one for each sign.

    `divide` says that sums are divided by it.
    """

    factors: list[Val]
    zero_point: Val | None
    divide: bool

    def apply(self, sums: Sequence[Val], total: Val) -> Val:
        """total + the sums of the block's products, each times its factor."""
        if self.divide:
            return total + sums[0] / self.factors[0]
        if not self.factors:
            return total + sums[0]
        for block_sum, factor in zip(sums, self.factors, strict=True):
            total = fma(block_sum, factor, total)
        return total


class PanelReader:
    """[rows, k] in `fmt`, in panels; `block` values of a row share scales."""

    def __init__(self, library: KernelLibrary, fmt: Format, rows: int, k: int) -> None:
        self.format, self.rows, self.k = fmt, rows, k
        unit = panel_unit(fmt)
        assert unit is not None
        self.unit = unit
        self.specs = panel_specs(fmt, rows, k)
        self.parts = list(self.specs)
        self.part_count = len(self.parts)
        self.block, self.blocks = block_columns(fmt.block_size, k)
        self.key = f"panels {fmt.spelling}"
        self._library = library
        plain = fmt.bits == 32 or isinstance(fmt.element, Nested)
        self._elements = None if plain else Elements(library, fmt.element_values())

    @property
    def panels(self) -> int:
        return -(-self.rows // PANEL_ROWS)

    @property
    def panel_bytes(self) -> int:
        """From the codes of a panel to those of the next."""
        role = next(role for role in self.parts if role in CODE_ROLES)
        (_, units, size), dtype = self.specs[role]
        return units * size * dtype.itemsize

    @property
    def signs(self) -> int:
        """Sums that a block has: 2 where each sign has a scale of its own."""
        return 2 if self.format.splits_signs else 1

    @property
    def lowering(self) -> int:
        """Lowered terms are divided by 2 to this power."""
        if self.format.zero_point is not None or self.signs == 2:
            return 0
        if self._elements is not None:
            return self._elements.lowering
        return HALF.lowering if isinstance(self.format.element, Nested) else 0

    @property
    def small_scales(self) -> bool:
        """Whether blocks have scales of a kind of minifloat, and no zero point."""
        kinds = self._scale_kinds
        return len(kinds) == 1 and kinds <= SMALL_SCALES.keys() and self.format.zero_point is None

    @property
    def _scale_kinds(self) -> set[str]:
        fmt = self.format
        return {fmt.scale_decoding(scale.role).kind for scale in fmt.block_scales}

    def bind(self, arguments: Arguments, first: int) -> None:
        """Take the addresses of the parts from consecutive argument slots."""
        self._addresses = {
            role: arguments.address(first + index, stored_type(self.specs[role][1]))
            for index, role in enumerate(self.parts)
        }

    def codes(
        self, panel: Val, unit: Val, beyond: int = 0, ahead: Ahead | None = NEAR
    ) -> list[UnitCodes]:
        """The codes of a panel's unit number unit + beyond, from each part that holds some."""
        found = []
        for role in self.parts:
            if role in CODE_ROLES:
                _, units, size = self.specs[role][0]
                # One address and constant distances, which instructions add by themselves.
                address = self._addresses[role].at((panel * units + unit) * size).at(beyond * size)
                bits = code_bits(self.format)
                ternary = "avx512f" in self._library.features
                found.append(UnitCodes(address, code_planes(bits, self.unit), bits, ahead, ternary))
        return found

    def lowered(self, codes: list[UnitCodes], position: int, scales: BlockScales) -> list[Val]:
        """`terms` divided by 2**`lowering`, which takes fewer instructions where that is not 0."""
        if self.lowering == 0:
            return self.terms(codes, position, scales)
        if self._elements is None:
            return [self._whole(codes, position)]
        return [self._elements.lowered(codes[0], position)]

    def terms(self, codes: list[UnitCodes], position: int, scales: BlockScales) -> list[Val]:
        """Element `position` of a unit less its zero point; above and below zero if `signs` is 2"""
        if self._elements is None:
            return [raised(self._whole(codes, position), self.lowering)]
        if self.signs == 2:
            return self._elements.halves(codes[0], position)
        value = self._elements.value(codes[0], position)
        if scales.zero_point is None:
            return [value]
        if self._elements.step != 1:
            value = value * self._elements.step
        ordinary = self.format.zero_point_codes()
        if ordinary.all():
            return [value - scales.zero_point]
        flag = self._elements.flagged(ordinary, codes[0], position)
        return [value - flag * scales.zero_point]

    def scales(self, panel: Val, block: Val, step: float | None = None) -> BlockScales:
        """
        The scales of one block of a panel, times `step`: by default what the elements leave to
        be multiplied.
        """
        fmt = self.format
        factors = [self._factor(scale.role, panel, block) for scale in fmt.block_scales]
        zero_point = None
        if fmt.zero_point is not None:
            zero_point = self._factor("zero_point", panel, block)
        if fmt.second_level is not None:
            second = self._factor(fmt.second_level.role, panel, block)
            factors = [factor * second for factor in factors]
        divide = bool(factors) and fmt.scale_decoding(fmt.block_scales[0].role).divide
        if step is None:
            step = self._elements.step if self._elements and zero_point is None else 1.0
        if step != 1 and not factors:
            factors = [constant(step, wide(f32()))]
        elif step != 1:
            factors = [f / step if divide else f * step for f in factors]
        return BlockScales(factors, zero_point, divide)

    def lowered_scales(self, panel: Val, block: Val) -> BlockScales:
        """
        The scales of one block where those are small, divided by what `raise_sum` multiplies by:
        sums of integers times these can be added up, as they are no smaller than fp32 can hold.
        """
        factors = []
        for scale in self.format.block_scales:
            stored = widen(self._stored(scale.role, panel, block), i32())
            form = SMALL_SCALES[self.format.scale_decoding(scale.role).kind]
            factors.append(moved_topmost(stored << (32 - form.bits), form))
        return BlockScales(factors, None, divide=False)

    def raise_sum(self, value: Val, step: float, factor: Val, total: Val) -> Val:
        """
        total + a sum of integers, of `step` each, times `lowered_scales`, times a factor.

        In this order no product is much smaller than the result, or larger than fp32 can hold.
        """
        fmt, (kind,) = self.format, self._scale_kinds
        value = value * (step * 2.0 ** SMALL_SCALES[kind].lowering)
        if fmt.second_level is None:
            return fma(value, factor, total)
        # Of the whole tensor: any panel's.
        second = self._factor(fmt.second_level.role, size(0), size(0))
        return fma(value * factor, second, total)

    def decoded(self, terms: list[Val], scales: BlockScales) -> Val:
        """One element of each row with its scale, out of its `terms`."""
        if scales.divide:
            return terms[0] / scales.factors[0]
        value = terms[0] * scales.factors[0] if scales.factors else terms[0]
        return value if len(terms) == 1 else fma(terms[1], scales.factors[1], value)

    def _stored(self, role: str, panel: Val, block: Val) -> Val:
        """What is stored for a block of each lane."""
        address = self._addresses[role]
        if role in self.format.tensor_roles:
            return broadcast(address.load(), PANEL_ROWS)
        return address.at((panel * self.blocks + block) * PANEL_ROWS).load(wide(address.element))

    def _factor(self, role: str, panel: Val, block: Val) -> Val:
        stored, kind = self._stored(role, panel, block), self.specs[role][1]
        if kind == np.float32:
            return stored
        if role == "zero_point":
            widened = widen(stored, i32()) if kind.kind == "u" else widen_signed(stored, i32())
            return signed_to_float(widened)
        return decode_scale(widen(stored, i32()), self.format.scale_decoding(role).kind)

    def _whole(self, codes: list[UnitCodes], position: int) -> Val:
        """An element of 32 bits, or merge(U, L) of formats.md §3.1, lowered."""
        if len(codes) == 1:
            return reinterpret(codes[0].exact(position), f32())
        (plane,) = code_planes(8, self.unit)
        word, bit = plane.place(position)
        odd = bit // 8 % 2

        def merged() -> Val:
            upper, lower = (as_halves(each.word(plane, word)) for each in codes)
            upper, lower = (v >> 8 if odd else v & 0xFF for v in (upper, lower))
            high = (upper & 0x80) | (((upper - (lower >> 7)) >> 1) & 0x3F)
            return as_words((high << 8) | lower)

        # Two elements of a lane at once; none has fp16's highest exponents.
        pair = codes[0].kept((word, odd), merged)
        return moved_topmost(pair if bit >= 16 else pair << 16, HALF)
