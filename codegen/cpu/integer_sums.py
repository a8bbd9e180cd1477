"""
Products of panels of weights with rows of x, both integers times scales, in registers.

Products are added to int32 lanes, a row of w each. The offset that made weights unsigned and the
zero point are taken out through the sum of x's integers. A segment's sum is exact; it is converted
once, and multiplied by the scales of both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

from ...dialects.formats import Format
from ...dialects.formats.panels import PANEL_ROWS
from .byte_dots import EVERY_BYTE, LARGEST_X, ByteUnit
from .emit import (
    Val,
    broadcast,
    constant,
    f32,
    float_to_signed,
    fma,
    i8,
    i32,
    repeat,
    signed_to_float,
)
from .integer_elements import LARGEST_BYTE, IntegerElements, integer_elements
from .integer_rows import IntegerRows
from .integer_spans import Spans
from .library import Arguments, KernelLibrary
from .lookups import Lookups, looked_up_sums, tables_at
from .panel_codes import FAR, NEAR, Ahead, wide
from .panel_decode import STRIDE, UNROLLED, written_out
from .panel_reader import BlockScales, PanelReader
from .panel_streams import streams

ROW_ARGUMENTS = 3
LARGEST_SUM = 2**31 - 1
CHAINS = 4
SHORT_CHAINS, SHORTEST = 2, 16
# Sums of products with fewer fit 32 bits, put together.
MOST_DIGITS = 3
# Codes so wide are multiplied in less time than they are read.
WHOLE_BYTES = 8
# From this number of products of each byte of weights on, computing takes about as long as reading.
MANY_PRODUCTS = 6

Otherwise = Callable[[list[Val], Val, int, list[Val], list[Val]], list[Val]]


def sums_fit(elements: IntegerElements, segment: int, digits: int) -> bool:
    """Whether sums of a segment fit 32 bits; of two digits together where there are several."""
    factor = LARGEST_X * (257 if digits > 1 else 1)
    largest = LARGEST_BYTE if elements.nibbles else elements.largest
    return largest * factor * segment <= LARGEST_SUM


def factor_of_sums(fmt: Format, elements: IntegerElements) -> int:
    """What x's sums are multiplied by: where zero points need them, they are used in two ways."""
    apart = fmt.zero_point is not None and elements.ordinary is None
    return -elements.offset if elements.offset and not apart else 1


def reach_of(fmt: Format, elements: IntegerElements) -> int | None:
    """The largest integer of a weight, None where that depends on zero points."""
    if fmt.zero_point is not None and elements.ordinary is None:
        return None
    return max(elements.offset, elements.largest - elements.offset)


class IntegerSums(Spans):
    """
    Emission of sums; `rows` are the codes, scales and sums of x, three arguments from `first`.

    Rows of several digits may have blocks of scale 0, which are computed by the caller's
    `otherwise(panels, start, length, rows of x, totals)`. Where products are `found` in tables,
    the address of those is the argument after the sums. Totals are by panel, then by row of x.
    """

    def __init__(
        self,
        library: KernelLibrary,
        weight: PanelReader,
        rows: IntegerRows,
        arguments: Arguments,
        first: int,
        found: Lookups | None = None,
    ) -> None:
        elements = integer_elements(weight.format, weight.k)
        assert elements is not None
        super().__init__(weight, rows, elements, arguments.address(first + 1, f32()))
        self._unit = ByteUnit(library, elements)
        self.streams = streams(library, weight, weight.format.stored_bits >= WHOLE_BYTES)
        """Panels that one row of x had best meet at a time."""
        self._codes = arguments.address(first, i8())
        self._sums = arguments.address(first + 2, i32())
        self._found = found
        if found is not None:
            self._tables = tables_at(arguments, first + ROW_ARGUMENTS)

    def totals(
        self,
        panels: list[Val],
        ms: list[Val],
        initial: list[Val],
        otherwise: Otherwise | None = None,
    ) -> list[Val]:
        """initial + the products of panels with rows `ms` of x."""

        def of_segment(segment: Val, length: int, held: list[Val], digits: int) -> list[Val]:
            return self._segment(panels, (segment, length), ms, held, digits)

        def in_floats(start: Val, length: int, held: list[Val]) -> list[Val]:
            assert otherwise is not None
            return otherwise(panels, start, length, ms, held)

        return self._over_segments(ms * len(panels), initial, of_segment, otherwise and in_floats)

    def looked_up(
        self, panels: list[Val], m: Val, initial: list[Val], otherwise: Otherwise | None = None
    ) -> list[Val]:
        """
        initial + the products of several panels with row `m` of x, by its tables.

        Panels share the reads of tables, which are many times a panel's bytes.
        """

        def of_segment(segment: Val, length: int, held: list[Val], _: int) -> list[Val]:
            return self._looked_up_segment(panels, segment, length, m, held)

        def in_floats(start: Val, length: int, held: list[Val]) -> list[Val]:
            assert otherwise is not None
            return otherwise(panels, start, length, [m], held)

        ms = [m] * len(panels)
        return self._over_segments(ms, initial, of_segment, otherwise and in_floats)

    def _ahead(self, panels: int) -> Ahead | None:
        """By the products that a byte of weights takes part in."""
        if panels > 1:
            return None
        products = self._rows.digits * self._elements.operands * 8 // self._w.format.stored_bits
        return FAR if products >= MANY_PRODUCTS else NEAR

    def _segment(
        self,
        panels: list[Val],
        span: tuple[Val, int],
        ms: list[Val],
        totals: list[Val],
        digits: int,
    ) -> list[Val]:
        segment, _ = span
        start = segment * self._rows.segment
        scales = [self._block_scales(panel, start) for panel in panels]
        sums = self._products(panels, span, ms, scales, digits)
        places = [(of_panel, m) for of_panel in scales for m in ms]
        following = []
        for (of_panel, m), of_digits, total in zip(places, sums, totals, strict=True):
            values = self._values(m, segment, of_digits, of_panel)
            following.append(self._scaled(values, m, start, of_panel, total))
        return following

    def _looked_up_segment(
        self, panels: list[Val], segment: Val, length: int, m: Val, held: list[Val]
    ) -> list[Val]:
        found = self._found
        assert found is not None
        start = segment * self._rows.segment
        tables = found.of_unit(self._tables, m, start // found.unit)
        sums = looked_up_sums(found, self._w, panels, tables, (start, length))
        following = []
        for panel, value, total in zip(panels, sums, held, strict=True):
            scales = self._block_scales(panel, start)
            following.append(self._scaled([value], m, start, scales, total))
        return following

    def _products(
        self,
        panels: list[Val],
        span: tuple[Val, int],
        ms: list[Val],
        scales: list[BlockScales],
        digits: int,
    ) -> list[list[list[Val]]]:
        """For each panel and row, by digit, the sums of products with each of the operands."""
        segment, length = span
        start = segment * self._rows.segment
        places = [(m, digit) for m in ms for digit in range(digits)]
        xs = [
            self._codes.at((m * self._rows.digits + digit) * self._rows.pitch + start)
            for m, digit in places
        ]

        shifts = [self.shift(of_panel) for of_panel in scales]
        ahead = self._ahead(len(panels))

        def add(k: Val | int, span: int, sums: Sequence[Val]) -> list[Val]:
            running = [self._unit.sum(held) for held in sums]
            quads = [
                self.quads(panel, start + k, span, shift, ahead)
                for panel, shift in zip(panels, shifts, strict=True)
            ]
            for position in range(0, span, 4):
                words = [x.at(k).at(position).as_type(i32()).load(align=1) for x in xs]
                factors = [broadcast(word, PANEL_ROWS) for word in words]
                chain = position // 4 % chains * (len(running) // chains)
                added = iter(running[chain : chain + len(running) // chains])
                for of_panel in quads:
                    for factor, operand in product(factors, of_panel(position)):
                        next(added).add(operand, factor)
            return [one.value() for one in running]

        of_panel = [
            start
            for m, digit in places
            for start in self._starts(m, segment, digit, last=digit == digits - 1)
        ]
        sums = of_panel * len(panels)
        # A sum alone would wait for each of its additions; short ones overlap with the next ones.
        most = CHAINS if length > UNROLLED else SHORT_CHAINS if length > SHORTEST else 1
        chains = max(1, most // (len(ms) * len(panels)) // self._elements.operands)
        sums = [*sums, *[constant(0, wide(i32()))] * ((chains - 1) * len(sums))]
        done = 0
        if not written_out(length, len(ms) * len(panels)):
            done = length // STRIDE * STRIDE
            sums = repeat(0, done, STRIDE, carry=sums)(lambda k, *held: add(k, STRIDE, held))
        if length > done:
            sums = add(done, length - done, sums)
        return self._by_digit(self._unit.by_table(_folded(sums, chains)), digits)

    def quads(
        self, panel: Val, start: Val, count: int, shift: Val | None, ahead: Ahead | None = NEAR
    ) -> Callable[[int], list[Val]]:
        """position → the operands of four k from `start` + position, out of codes."""
        unit = self._w.unit
        units = [
            self._w.codes(panel, start // unit, beyond, ahead)[0]
            for beyond in range(-(-count // unit))
        ]
        return lambda at: self._unit.operands(units[at // unit], at % unit, shift)

    def shift(self, scales: BlockScales) -> Val | None:
        """What ordinary codes are less in each byte, where those are some only."""
        if self._elements.ordinary is None:
            return None
        return self._zero_points(scales) * EVERY_BYTE

    def _by_digit(self, sums: list[Val], digits: int) -> list[list[list[Val]]]:
        count = self._elements.operands
        grouped = [sums[i : i + count] for i in range(0, len(sums), count)]
        return [grouped[i : i + digits] for i in range(0, len(grouped), digits)]

    def _starts(self, m: Val, segment: Val, digit: int, last: bool = True) -> list[Val]:
        """What each operand's sum begins with: what the weights' offset adds, taken away."""
        zero = constant(0, wide(i32()))
        first = zero
        counts = last or not self._rows.whole_sums
        if self._elements.offset and counts:
            first = broadcast(self._sum_of_x(m, segment, digit), PANEL_ROWS)
            if self._rows.factor != -self._elements.offset:
                first = first * -self._elements.offset
        return [first] + [zero] * (self._elements.operands - 1)

    def _sum_of_x(self, m: Val, segment: Val, digit: int) -> Val:
        count = self._rows.sums_of_segment
        return self._sums.at((m * self._rows.segments + segment) * count + digit % count).load()

    def _values(
        self, m: Val, segment: Val, sums: list[list[Val]], scales: BlockScales
    ) -> list[Val]:
        """A segment's sum as floats without scales; two where each sign has a scale."""
        if self._w.signs == 2:
            above, below = (self._whole([digit[j] for digit in sums]) for j in range(2))
            return [above, -below]
        plain = [digit[0] for digit in sums]
        if scales.zero_point is None or self._elements.ordinary is not None:
            return [self._whole(plain)]
        zero_points = self._zero_points(scales)
        of_x = [self._sum_of_x(m, segment, place) for place in range(len(sums))]
        shifts = [zero_points * broadcast(total, PANEL_ROWS) for total in of_x]
        return [self._whole([value - shift for value, shift in zip(plain, shifts, strict=True)])]

    def _whole(self, digits: list[Val]) -> Val:
        """The number of these digits, the most significant first, as a float."""
        if self._rows.whole_sums or len(digits) < MOST_DIGITS:
            return signed_to_float(reduce(lambda high, low: (high << 8) + low, digits))
        high, middle, low = digits
        upper = signed_to_float((high << 8) + middle)
        return fma(upper, constant(256, upper.type), signed_to_float(low))

    def _zero_points(self, scales: BlockScales) -> Val:
        """A block's zero points in steps (i32 lanes)."""
        assert scales.zero_point is not None
        return float_to_signed(scales.zero_point * (1 / self._elements.step), i32())


def _folded(sums: list[Val], chains: int) -> list[Val]:
    """The sums of so many chains, one after the other, added up."""
    count = len(sums) // chains
    totals = sums[:count]
    for first in range(count, len(sums), count):
        totals = [a + b for a, b in zip(totals, sums[first : first + count], strict=True)]
    return totals
