"""
How sums over a row of k are put together: of segments, whose sums are exact integers, under the
scales of blocks of weights and of x.

Segments lie inside a block of each. Where several blocks of weights meet one of x, those are added
up first: x's scale is multiplied once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ...dialects.formats.panels import PANEL_ROWS
from .emit import Ptr, Val, branch_values, broadcast, constant, f32, fma, repeat, size
from .integer_elements import IntegerElements
from .integer_rows import IntegerRows
from .panel_codes import wide
from .panel_reader import BlockScales, PanelReader

InFloats = Callable[[Val, int, list[Val]], list[Val]]
"""(start, length, totals) -> totals + the products of so many k."""
OfSegment = Callable[[Val, int, list[Val], int], list[Val]]
"""(number, length, totals, digits of x) -> totals + the products of a segment or block."""


class Spans:
    """Emission of the sums of `weight` times `rows` of x, whose `scales` are f32 [m, blocks]."""

    def __init__(
        self, weight: PanelReader, rows: IntegerRows, elements: IntegerElements, scales: Ptr
    ) -> None:
        self._w, self._rows, self._elements, self._scales = weight, rows, elements, scales

    @property
    def _scaled_once(self) -> bool:
        return self._rows.blocks == 1 and self._rows.digits == 1

    def _over_segments(
        self, ms: list[Val], initial: list[Val], of_segment: OfSegment, in_floats: InFloats | None
    ) -> list[Val]:
        """The totals, each of a row of `ms`."""
        if self._rows.digits > 1:
            of_block = partial(self._block, ms, of_segment)
            apart = in_floats and partial(self._block_in_floats, in_floats)
            return self._each_span(self._rows.block, ms, initial, of_block, apart)
        if not self._scaled_once:
            return self._each_span(self._rows.segment, ms, initial, of_segment, in_floats)
        zeros = [constant(0, wide(f32()))] * len(ms)
        totals = self._each_span(self._rows.segment, ms, zeros, of_segment, in_floats)
        return [
            fma(total, self._scale(m, size(0)), start)
            for m, total, start in zip(ms, totals, initial, strict=True)
        ]

    def _each_span(
        self,
        length: int,
        ms: list[Val],
        totals: list[Val],
        of_span: OfSegment,
        in_floats: InFloats | None,
    ) -> list[Val]:
        """Over segments or blocks, `length` values of k each."""
        whole, rest = divmod(self._w.k, length)

        def add(number: Val, count: int, totals: Sequence[Val]) -> list[Val]:
            held = list(totals)
            if in_floats is None:
                return of_span(number, count, held, self._rows.digits)
            (m,) = dict.fromkeys(ms)
            apart = partial(in_floats, number * length, count, held)
            return self._by_kind(m, number, partial(of_span, number, count, held), held, apart)

        if whole == 1:
            totals = add(size(0), length, totals)
        elif whole:
            totals = repeat(0, whole, carry=totals)(lambda at, *held: add(at, length, held))
        return add(size(whole), rest, totals) if rest else totals

    @property
    def _shares_scales(self) -> bool:
        """Whether segments leave x's scale to their block."""
        return self._rows.digits > 1 and self._rows.block > self._rows.segment

    def _by_kind(
        self,
        m: Val,
        block: Val,
        of_digits: Callable[[int], list[Val]],
        like: list[Val],
        in_floats: Callable[[], list[Val]],
    ) -> list[Val]:
        """What a block of x has become is in its scale: 0 for floats, negative for few digits."""
        scale, digits = self._scales.at(m * self._rows.blocks + block).load(), self._rows.digits

        def split() -> list[Val]:
            if not self._rows.short_blocks:
                return of_digits(digits)
            short, whole = partial(of_digits, digits - 1), partial(of_digits, digits)
            return branch_values(scale.compare("lt", 0.0), like, short, whole)

        return branch_values(scale.compare("ne", 0.0), like, split, in_floats)

    def _block(
        self,
        ms: list[Val],
        of_segment: OfSegment,
        block: Val,
        length: int,
        totals: list[Val],
        digits: int,
    ) -> list[Val]:
        """totals + the products of a block of x of several digits."""
        if not self._shares_scales:
            return of_segment(block, length, totals, digits)
        segment = self._rows.segment
        first = block * (self._rows.block // segment)
        sums = [constant(0, wide(f32()))] * len(totals)
        for number, start in enumerate(range(0, length, segment)):
            sums = of_segment(first + number, min(segment, length - start), sums, digits)
        step = self._elements.step
        return [
            self._w.raise_sum(value, step, self._scale(m, block), total)
            for m, value, total in zip(ms, sums, totals, strict=True)
        ]

    def _block_in_floats(
        self, in_floats: InFloats, start: Val, length: int, totals: list[Val]
    ) -> list[Val]:
        """The same by floats, segment by segment: those are inside one block of weights."""
        step = self._rows.segment
        whole = length // step * step
        if whole > step:
            totals = repeat(0, whole, step, carry=totals)(
                lambda at, *held: in_floats(start + at, step, list(held))
            )
        elif whole:
            totals = in_floats(start, step, totals)
        if length > whole:
            totals = in_floats(start + whole, length - whole, totals)
        return totals

    def _block_scales(self, panel: Val, start: Val) -> BlockScales:
        """Those of the weights' block at `start`, with steps, lowered if x's are shared."""
        block = start // self._w.block
        if self._shares_scales:
            return self._w.lowered_scales(panel, block)
        return self._w.scales(panel, block, self._elements.step)

    def _scaled(
        self, values: list[Val], m: Val, start: Val, scales: BlockScales, total: Val
    ) -> Val:
        """total + a segment's sums times the scales of both sides."""
        if not self._scaled_once and not self._shares_scales:
            factor = self._scale(m, start // self._rows.block)
            values = [value * factor for value in values]
        return scales.apply(values, total)

    def _scale(self, m: Val, block: Val) -> Val:
        return broadcast(self._scales.at(m * self._rows.blocks + block).load(), PANEL_ROWS)
