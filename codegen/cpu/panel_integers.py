"""
Linear layers on integers: weights in panels whose elements are integers up to a factor, times
rows of activations rounded to integers.

Products are added to int32 lanes, a row of w each. The offset that made weights unsigned and the
zero point are taken out through the sum of x's codes. A segment's sum is exact and converted once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dialects.formats.panels import PANEL_ROWS
from .emit import (
    Val,
    branch,
    broadcast,
    constant,
    f32,
    float_to_signed,
    fma,
    i8,
    i32,
    minimum,
    repeat,
    signed_to_float,
    size,
)
from .integer_elements import X_LARGEST, ByteUnit, integer_elements
from .integer_rows import IntegerRows
from .library import Arguments, KernelLibrary
from .panel_codes import wide
from .panel_decode import STRIDE, UNROLLED
from .panel_linear import GROUP, MC
from .panel_output import Columns
from .panel_reader import BlockScales, PanelReader

LARGEST_SUM = 2**31 - 1


def integer_segment(weight: PanelReader, x_block: int, x_blocks: int) -> int | None:
    """Values of k summed as integers: inside one block of both sides; None if blocks cross."""
    small, large = sorted([(weight.block, weight.blocks), (x_block, x_blocks)])
    if (large[1] > 1 and large[0] % small[0]) or (small[1] > 1 and small[0] % weight.unit):
        return None
    elements = integer_elements(weight.format)
    assert elements is not None
    fits = elements.largest * X_LARGEST * small[0] <= LARGEST_SUM
    return small[0] if fits else None


def integer_linear_launcher(
    library: KernelLibrary, weight: PanelReader, rows: IntegerRows, has_bias: bool
) -> str:
    """
    Arguments: codes, scales and sums of x (integer_rows.py), y, bias (0 when absent), m, then the
    weight's parts; total is `panel_tiles`.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _IntegerLinear(library, weight, rows, has_bias, arguments).run(begin, end)

    key = (
        f"integer linear {weight.rows}x{weight.k} {weight.key} by {rows.format.spelling} "
        f"bias={has_bias}"
    )
    return library.launcher(key, 6 + weight.part_count, emit)


class _IntegerLinear:
    """Emission of one layer's body."""

    def __init__(
        self,
        library: KernelLibrary,
        weight: PanelReader,
        rows: IntegerRows,
        has_bias: bool,
        arguments: Arguments,
    ) -> None:
        elements = integer_elements(weight.format)
        assert elements is not None
        self.w, self.rows, self.elements = weight, rows, elements
        self.unit = ByteUnit(library, elements)
        self.codes = arguments.address(0, i8())
        self.scales = arguments.address(1, f32())
        self.sums = arguments.address(2, i32())
        self.y = Columns(arguments.address(3, f32()), weight.rows)
        self.bias = Columns(arguments.address(4, f32()), weight.rows, present=has_bias)
        self.m = arguments.integer(5)
        self.block_rows = 8 if "avx512f" in library.features else 4
        weight.bind(arguments, 6)

    def run(self, begin: Val, end: Val) -> None:
        x_tiles = (self.m + (MC - 1)) // MC

        @repeat(begin, end)
        def _(tile: Val) -> None:
            first = (tile // x_tiles) * GROUP
            start = tile % x_tiles * MC
            stop = minimum(start + MC, self.m)

            @repeat(first, minimum(first + GROUP, self.w.panels))
            def _(panel: Val) -> None:
                one = self.m.compare("eq", 1)
                branch(one, lambda: self._rows(panel, start, stop, 1),
                       lambda: self._several(panel, start, stop))  # fmt: skip

    def _several(self, panel: Val, start: Val, stop: Val) -> None:
        few = self.m.compare("le", self.block_rows // 2)
        branch(few, lambda: self._rows(panel, start, stop, self.block_rows // 2),
               lambda: self._rows(panel, start, stop, self.block_rows))  # fmt: skip

    def _rows(self, panel: Val, start: Val, stop: Val, count: int) -> None:
        """Rows past the end repeat the last one, and store the same."""

        @repeat(start, stop, count)
        def _(m: Val) -> None:
            ms = [minimum(m + i, self.m - 1) for i in range(count)]
            zero = constant(0, wide(f32()))
            totals = self._segments(panel, ms, [zero] * count)
            bias = self.bias.sixteen(size(0), panel)
            for row, total in zip(ms, totals, strict=True):
                scaled = total
                if self.rows.blocks == 1:
                    scaled = total * broadcast(self.scales.at(row).load(), PANEL_ROWS)
                self.y.store(row, panel, scaled + bias)

    def _segments(self, panel: Val, ms: list[Val], totals: list[Val]) -> list[Val]:
        def add(segment: Val, length: int, totals: Sequence[Val]) -> list[Val]:
            start = segment * self.rows.segment
            scales = self.w.scales(panel, start // self.w.block, self.elements.step)
            sums = self._segment_sums(panel, start, length, ms)
            return [
                self._scaled(row, segment, row_sums, scales, total)
                for row, row_sums, total in zip(ms, sums, totals, strict=True)
            ]

        whole, rest = divmod(self.w.k, self.rows.segment)
        if whole == 1:
            totals = add(size(0), self.rows.segment, totals)
        elif whole:
            totals = repeat(0, whole, carry=totals)(
                lambda segment, *held: add(segment, self.rows.segment, held)
            )
        return add(size(whole), rest, totals) if rest else totals

    def _segment_sums(self, panel: Val, start: Val, length: int, ms: list[Val]) -> list[list[Val]]:
        """For each row, the sum of products with each of the operands."""
        xs = [self.codes.at(row * self.rows.pitch + start) for row in ms]
        operands = len(self.elements.tables) + (self.elements.ordinary is not None) or 1

        def add(k: Val | int, span: int, sums: Sequence[Val]) -> list[Val]:
            following = list(sums)
            unit = (start + k) // self.w.unit
            units = [
                self.w.codes(panel, unit, beyond)[0] for beyond in range(-(-span // self.w.unit))
            ]
            for position in range(0, span, 4):
                codes = units[position // self.w.unit]
                quads = self.unit.operands(codes, position % self.w.unit)
                for i, x in enumerate(xs):
                    word = x.at(k).at(position).as_type(i32()).load(align=1)
                    lane = broadcast(word, PANEL_ROWS)
                    for j, quad in enumerate(quads):
                        slot = i * operands + j
                        following[slot] = self.unit.dot(following[slot], quad, lane)
            return following

        sums = [constant(0, wide(i32()))] * (len(ms) * operands)
        done = 0
        if length > UNROLLED:
            done = length // STRIDE * STRIDE
            sums = repeat(0, done, STRIDE, carry=sums)(lambda k, *held: add(k, STRIDE, held))
        if length > done:
            sums = add(done, length - done, sums)
        return [sums[i : i + operands] for i in range(0, len(sums), operands)]

    def _scaled(
        self, m: Val, segment: Val, sums: list[Val], scales: BlockScales, total: Val
    ) -> Val:
        """total + a segment's sum less offset and zero point, times the scales."""
        if self.rows.blocks > 1:
            at = self.scales.at(
                m * self.rows.blocks + segment * self.rows.segment // self.rows.block
            )
            factor = broadcast(at.load(), PANEL_ROWS)
        else:
            factor = None
        if self.w.signs == 2:
            above, below = scales.factors
            value = signed_to_float(sums[0]) * above - signed_to_float(sums[1]) * below
        else:
            value = signed_to_float(self._without_offset(m, segment, sums, scales))
            if scales.factors and factor is None:
                return fma(value, scales.factors[0], total)
            value = value * scales.factors[0] if scales.factors else value
        return total + value if factor is None else fma(value, factor, total)

    def _without_offset(self, m: Val, segment: Val, sums: list[Val], scales: BlockScales) -> Val:
        of_x = self.sums.at(m * self.rows.segments + segment).load()
        value = sums[0]
        if self.elements.offset:
            value = value - broadcast(of_x * self.elements.offset, PANEL_ROWS)
        if scales.zero_point is None:
            return value
        zero_point = float_to_signed(scales.zero_point * (1 / self.elements.step), i32())
        ordinary = broadcast(of_x, PANEL_ROWS) if self.elements.ordinary is None else sums[1]
        return value - zero_point * ordinary
