"""Dot products of bytes: unsigned ones of weights with signed ones of x, four to a lane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.bindings import ir, llvm, vector
from ...dialects.formats import Format
from ...dialects.formats.definition import Integer
from ...dialects.formats.panels import PANEL_ROWS
from .emit import Val, constant, i8, i16, i32, lane_constants, lanes, select, shuffle
from .integer_elements import LARGEST_BYTE, IntegerElements
from .library import KernelLibrary
from .panel_codes import EVERY_BYTE, UnitCodes, as_words, wide

REGISTER_BYTES = 64
SHUFFLED_BITS = 4
LARGEST_X = 128
LARGEST_PAIRS = 2**15 - 1
HIGH_NIBBLES = -0x0F0F0F10


class ByteUnit:
    """Bytes of weights, and their products with bytes of x, on one instruction set."""

    def __init__(self, library: KernelLibrary, elements: IntegerElements) -> None:
        features = library.features
        self._elements = elements
        self._wide = {"avx512bw", "avx512vnni"} <= features
        self._permutes = self._wide and "avx512vbmi" in features
        # Elsewhere products of such large bytes take twice as many instructions.
        self._nibbles = elements.nibbles if self._wide else None
        # Pairs of products that fit an int16 together.
        self._chain = LARGEST_PAIRS // (2 * elements.largest * LARGEST_X)
        tables = elements.bits <= SHUFFLED_BITS or not elements.tables or self._permutes
        self.usable = tables and (self._wide or "avx2" in features)
        self.fast = self.usable and (self._wide or self._chain > 0)
        """Whether several products of one weight cost less than one in fp32."""

    def operands(self, codes: UnitCodes, position: int, shift: Val | None) -> list[Val]:
        """
        Four codes from `position` as unsigned bytes (i32 lanes), for each table; or two tables in
        the halves of bytes, and the second there alone, whose sums `by_table` takes apart.

        `shift` is what `ordinary` codes are less, in each byte.
        """
        elements = self._elements
        index = codes.loose(position, EVERY_BYTE)
        if not elements.tables:
            if elements.bits < 8:
                index = index & (((1 << elements.bits) - 1) * EVERY_BYTE)
            return [index ^ (elements.flip * EVERY_BYTE) if elements.flip else index]
        if not self._permutes:
            index = index & (15 * EVERY_BYTE)
        if self._nibbles is not None:
            both = self._looked_up(self._nibbles, index)
            return [both, both & HIGH_NIBBLES]
        found = [self._looked_up(table, index) for table in elements.tables]
        if elements.ordinary is None or shift is None:
            return found
        (value,) = found
        bit = elements.marking_bit
        if self._wide and bit is not None:
            place, ordinary = bit
            marked = (_bytes(value) & place).compare("eq", place if ordinary else 0)
            return [as_words(select(marked, _bytes(value) - _bytes(shift), _bytes(value)))]
        masks = self._looked_up([LARGEST_BYTE * flag for flag in elements.ordinary], index)
        return [as_words(_bytes(value) - _bytes(masks & shift))]

    def by_table(self, sums: Sequence[Val]) -> list[Val]:
        """Sums of products with tables, out of those with each of the operands."""
        if self._nibbles is None:
            return list(sums)
        pairs = zip(sums[::2], sums[1::2], strict=True)
        return [one for both, high in pairs for one in (both - high, high.shift_right_signed(4))]

    def sum(self, start: Val) -> ByteSum:
        """A sum of products that begins with `start` (i32 lanes)."""
        if self._wide:
            return ByteSum(start)
        return _HalvedSum(start) if self._chain == 0 else _PairSum(start, self._chain)

    def _looked_up(self, table: Sequence[int], index: Val) -> Val:
        repeated = np.resize(np.asarray(table, np.uint8), REGISTER_BYTES).view(np.int8)
        entries = lane_constants(repeated.tolist(), i8())
        if self._permutes:
            return permuted_bytes(entries, index)
        if self._wide:
            return _call("llvm.x86.avx512.pshuf.b.512", entries, _bytes(index))
        return as_words(_by_halves("llvm.x86.avx2.pshuf.b", entries, _bytes(index)))


class SignedUnit:
    """
    Codes of signed integers as signed bytes, which meet unsigned bytes of x.

    Values are the bytes times `step`.
    """

    def __init__(self, library: KernelLibrary, fmt: Format) -> None:
        element = fmt.element
        assert isinstance(element, Integer)
        self._bits = element.bits
        self._features = library.features
        self.step = 2.0**-element.fraction_bits

    def quad(self, codes: UnitCodes, position: int) -> Val:
        """Four codes from `position` as signed bytes (i32 lanes)."""
        loose = codes.loose(position, EVERY_BYTE)
        if self._bits == 8:
            return loose
        half = 1 << (self._bits - 1)
        flipped = _bytes((loose & ((2 * half - 1) * EVERY_BYTE)) ^ (half * EVERY_BYTE))
        return as_words(flipped - half)

    def sum(self, start: Val) -> ByteSum:
        """A sum of products, unsigned bytes first, that begins with `start` (i32 lanes)."""
        if {"avx512bw", "avx512vnni"} <= self._features:
            return ByteSum(start)
        return _HalvedSum(start) if "avx2" in self._features else _PlainSum(start)


class ByteSum:
    """start + products, by vpdpbusd."""

    def __init__(self, start: Val) -> None:
        self._total = start

    def add(self, weights: Val, x: Val) -> None:
        """Four products in each lane."""
        operands = [self._total.ssa, _bytes(weights).ssa, _bytes(x).ssa]
        name = "llvm.x86.avx512.vpdpbusd.512"
        self._total = Val(llvm.call_intrinsic(wide(i32()), name, operands, [], []))

    def value(self) -> Val:
        return self._total


class _PairSum(ByteSum):
    """The same for vpmaddubsw, whose sums of two products saturate in int16: `chain` of them fit"""

    def __init__(self, start: Val, chain: int) -> None:
        super().__init__(start)
        self._chain, self._held = chain, 0
        self._pairs: Val | None = None

    def add(self, weights: Val, x: Val) -> None:
        pairs = _pairs(weights, x)
        self._pairs = pairs if self._pairs is None else self._pairs + pairs
        self._held += 1
        if self._held == self._chain:
            self.value()

    def value(self) -> Val:
        if self._pairs is not None:
            self._total = self._total + _folded(self._pairs)
            self._pairs, self._held = None, 0
        return self._total


class _HalvedSum(ByteSum):
    """Bytes from 128 on, of which not even one pair fits: seven bits and the last one apart."""

    def add(self, weights: Val, x: Val) -> None:
        high = _folded(_pairs((weights >> 1) & (127 * EVERY_BYTE), x)) << 1
        self._total = self._total + high + _folded(_pairs(weights & EVERY_BYTE, x))


class _PlainSum(ByteSum):
    """The same without an instruction for it."""

    def add(self, weights: Val, x: Val) -> None:
        for place in range(0, 32, 8):
            signed = (x << (24 - place)).shift_right_signed(24)
            self._total = self._total + ((weights >> place) & 0xFF) * signed


def permuted_bytes(table: Val, index: Val) -> Val:
    """The bytes of `table` (64 of them) that the low six bits of each byte of `index` name."""
    return _call("llvm.x86.avx512.permvar.qi.512", table, _bytes(index))


def _pairs(weights: Val, x: Val) -> Val:
    return _by_halves("llvm.x86.avx2.pmadd.ub.sw", _bytes(weights), _bytes(x), i16())


def _folded(pairs: Val) -> Val:
    ones = constant(1, lanes(i16(), 2 * PANEL_ROWS))
    return _by_halves("llvm.x86.avx2.pmadd.wd", pairs, ones, i32())


def _bytes(words: Val) -> Val:
    return Val(vector.bitcast(lanes(i8(), REGISTER_BYTES), words.ssa))


def _call(name: str, a: Val, b: Val) -> Val:
    return as_words(Val(llvm.call_intrinsic(a.type, name, [a.ssa, b.ssa], [], [])))


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
