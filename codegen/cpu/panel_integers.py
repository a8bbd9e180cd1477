"""
Linear layers on integers: weights in panels whose elements are integers up to a factor, times
rows of activations rounded to integers.

Four codes of a row of w lie in the four bytes of a lane. Made unsigned by an offset, they meet
four codes of x in one instruction that adds the products to an int32 lane; offset and zero point
are taken out through the sum of x's codes. A segment's sum is exact and converted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...dialects.bindings import ir, llvm, vector
from ...dialects.formats import Format
from ...dialects.formats.definition import Nested
from ...dialects.formats.panels import PANEL_ROWS, code_bits, code_planes, panel_unit
from .closed_form import Affine, closed_form
from .emit import (
    Val,
    branch,
    broadcast,
    constant,
    f32,
    float_to_signed,
    fma,
    i8,
    i16,
    i32,
    lane_constants,
    lanes,
    minimum,
    repeat,
    shuffle,
    signed_to_float,
    size,
)
from .integer_rows import IntegerRows
from .library import Arguments, KernelLibrary
from .panel_codes import UnitCodes, wide
from .panel_linear import GROUP, MC, STRIDE, UNROLLED, Columns
from .panel_reader import BlockScales, PanelReader

EVERY_BYTE = 0x01010101
TABLE_BYTES = 64
LARGEST_SUM = 2**31 - 1
X_LARGEST = 128


@dataclass(frozen=True, slots=True)
class IntegerElements:
    """
    Elements as `step` times integers: code → byte - offset for each table.

    Without tables the bytes are code ^ flip. With two tables the second is subtracted: it holds
    the magnitudes below zero. `ordinary` marks the codes from which a zero point is taken.
    """

    bits: int
    step: float
    offset: int
    flip: int = 0
    tables: tuple[tuple[int, ...], ...] = ()
    ordinary: tuple[int, ...] | None = None

    @property
    def largest(self) -> int:
        """The largest byte."""
        return max((max(table) for table in self.tables), default=(1 << self.bits) - 1)


def integer_elements(fmt: Format) -> IntegerElements | None:
    """The elements of `fmt` as integers, None where they are none, or lie in no panels."""
    unit, plain = panel_unit(fmt), isinstance(fmt.element, Nested) or fmt.bits > 8
    if unit is None or plain or any(p.word_bits < 32 for p in code_planes(code_bits(fmt), unit)):
        return None
    if any(fmt.scale_decoding(scale.role).divide for scale in fmt.block_scales):
        return None
    values = fmt.element_values()
    form = closed_form(values)
    if fmt.bits > 4:
        if not isinstance(form, Affine) or fmt.splits_signs:
            return None
        if fmt.zero_point is not None and (1 / form.step % 1 or not fmt.zero_point_codes().all()):
            return None
        return IntegerElements(fmt.bits, form.step, form.flip, form.flip)
    return _from_table(fmt, values)


def _from_table(fmt: Format, values: np.ndarray) -> IntegerElements | None:
    step = float(np.min(np.abs(values[values != 0]), initial=np.inf))
    multiples = values / np.float32(step)
    if not np.isfinite(values).all() or not np.isfinite(step) or (multiples % 1).any():
        return None
    whole = multiples.astype(int)
    if whole.max() - whole.min() > 254 or (fmt.zero_point is not None and 1 / step % 1):
        return None
    if fmt.splits_signs:
        tables = tuple(np.maximum(whole, 0)), tuple(np.maximum(-whole, 0))
        return IntegerElements(fmt.bits, step, 0, tables=tables)
    ordinary = fmt.zero_point_codes()
    takes = fmt.zero_point is not None and not ordinary.all()
    offset = -int(min(whole.min(), 0))
    flags = tuple(int(flag) for flag in ordinary) if takes else None
    return IntegerElements(fmt.bits, step, offset, tables=(tuple(whole + offset),), ordinary=flags)


def integer_segment(weight: PanelReader, x_block: int, x_blocks: int) -> int | None:
    """Values of k summed as integers: inside one block of both sides; None if blocks cross."""
    small, large = sorted([(weight.block, weight.blocks), (x_block, x_blocks)])
    if (large[1] > 1 and large[0] % small[0]) or (small[1] > 1 and small[0] % weight.unit):
        return None
    elements = integer_elements(weight.format)
    assert elements is not None
    fits = elements.largest * X_LARGEST * small[0] <= LARGEST_SUM
    return small[0] if fits else None


def has_byte_dot(features: frozenset[str]) -> bool:
    return "avx2" in features


class ByteUnit:
    """Bytes of weights, and their products with bytes of x, on one instruction set."""

    def __init__(self, library: KernelLibrary, elements: IntegerElements) -> None:
        self._elements = elements
        features = library.features
        self._whole = {"avx512bw", "avx512vnni"} <= features
        self._permutes = self._whole and "avx512vbmi" in features

    def operands(self, codes: UnitCodes, position: int) -> list[Val]:
        """Four codes from `position` as unsigned bytes (i32 lanes), for each table and flags."""
        elements = self._elements
        if not elements.tables:
            code = codes.loose(position, EVERY_BYTE)
            if elements.bits < 8:
                code = code & (((1 << elements.bits) - 1) * EVERY_BYTE)
            return [code ^ (elements.flip * EVERY_BYTE) if elements.flip else code]
        index = codes.loose(position, EVERY_BYTE)
        if not self._permutes:
            index = index & (15 * EVERY_BYTE)
        tables = [*elements.tables] + ([elements.ordinary] if elements.ordinary else [])
        return [self._looked_up(table, index) for table in tables]

    def _looked_up(self, table: Sequence[int], index: Val) -> Val:
        repeated = np.resize(np.asarray(table, np.uint8), TABLE_BYTES).view(np.int8)
        entries = lane_constants(repeated.tolist(), i8())
        if self._permutes:
            return _call("llvm.x86.avx512.permvar.qi.512", i32(), entries, _bytes(index))
        if self._whole:
            return _call("llvm.x86.avx512.pshuf.b.512", i32(), entries, _bytes(index))
        return _as_words(_by_halves("llvm.x86.avx2.pshuf.b", entries, _bytes(index)))

    def dot(self, total: Val, weights: Val, x: Val) -> Val:
        """total + the products of four unsigned bytes with four signed ones, lane by lane."""
        if self._whole:
            name = "llvm.x86.avx512.vpdpbusd.512"
            operands = [total.ssa, _bytes(weights).ssa, _bytes(x).ssa]
            return Val(llvm.call_intrinsic(wide(i32()), name, operands, [], []))
        # Pairs of products are added in int16, which saturates for bytes from 129 on.
        if 2 * self._elements.largest * X_LARGEST < 2**15:
            return total + _pairs(weights, x)
        halves = (weights >> 1) & (127 * EVERY_BYTE)
        return total + (_pairs(halves, x) << 1) + _pairs(weights & EVERY_BYTE, x)


def _pairs(weights: Val, x: Val) -> Val:
    ones = constant(1, lanes(i16(), 2 * PANEL_ROWS))
    pairs = _by_halves("llvm.x86.avx2.pmadd.ub.sw", _bytes(weights), _bytes(x), i16())
    return _by_halves("llvm.x86.avx2.pmadd.wd", pairs, ones, i32())


def _bytes(words: Val) -> Val:
    return Val(vector.bitcast(lanes(i8(), TABLE_BYTES), words.ssa))


def _as_words(value: Val) -> Val:
    return Val(vector.bitcast(wide(i32()), value.ssa))


def _call(name: str, element: ir.Type, a: Val, b: Val) -> Val:
    found = Val(llvm.call_intrinsic(a.type, name, [a.ssa, b.ssa], [], []))
    return Val(vector.bitcast(wide(element), found.ssa))


def _by_halves(name: str, a: Val, b: Val, element: ir.Type | None = None) -> Val:
    """An instruction of 256 bits on both halves of vectors of 512."""
    count = ir.VectorType(a.type).shape[0]
    kind = element or ir.VectorType(a.type).element_type
    result = lanes(kind, 256 // ir.IntegerType(kind).width)
    parts = []
    for first in (0, count // 2):
        picks = range(first, first + count // 2)
        operands = [shuffle(a, a, picks).ssa, shuffle(b, b, picks).ssa]
        parts.append(Val(llvm.call_intrinsic(result, name, operands, [], [])))
    return shuffle(parts[0], parts[1], range(2 * ir.VectorType(result).shape[0]))


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
                self.w.codes(panel, unit + first)[0] for first in range(-(-span // self.w.unit))
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
