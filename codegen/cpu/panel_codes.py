"""
Codes of sixteen rows out of the words of a panel, and elements out of codes.

The words are those of dialects/formats/panels.py. How an element decodes follows from its table of
values: up to sixteen are permuted inside a register, whose index needs no masking; integers are
converted; minifloats are moved into fp32's fields, two at once where they lie in bytes; any other
table is gathered from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ...dialects.bindings import ir, llvm, vector
from ...dialects.formats.panels import PANEL_ROWS, CodePlane
from .closed_form import Affine, Minifloat, closed_form
from .decode import moved_halves, moved_topmost, raised
from .emit import (
    Ptr,
    Val,
    constant,
    f32,
    i1,
    i8,
    i16,
    i32,
    lane_constants,
    lanes,
    reinterpret,
    select,
    shuffle,
    signed_to_float,
    widen,
)
from .library import KernelLibrary

REGISTER_TABLE = 16
PAIR_TABLE = 64
EVERY_BYTE = 0x01010101
SELECT = 0xCA  # a ? b : c, as a table of eight bits


@dataclass(frozen=True, slots=True)
class Ahead:
    """Bytes from a word to the one that is fetched meanwhile, and whether into the first level."""

    distance: int
    near: bool


# A page, where the processor's own prefetching ends: for loops that memory alone slows down.
NEAR = Ahead(4096, near=True)
# Loops that compute about as long as they read hold lines of the first level up, which is small.
FAR = Ahead(16384, near=False)


def wide(element: ir.Type) -> ir.Type:
    """A lane for each row of a panel."""
    return lanes(element, PANEL_ROWS)


class UnitCodes:
    """The codes of one unit of one part, sixteen rows wide; each word is loaded once."""

    def __init__(
        self,
        address: Ptr,
        planes: Sequence[CodePlane],
        bits: int,
        ahead: Ahead | None = NEAR,
        ternary: bool = False,
    ) -> None:
        self._address, self._planes, self._bits, self._ahead = address, planes, bits, ahead
        self._ternary = ternary
        self._loaded: dict[tuple[int, int], Val] = {}
        self._kept: dict[Hashable, Val] = {}

    @property
    def whole_words(self) -> bool:
        """Whether four codes lie in the bytes of a lane (short units have narrower words)."""
        return all(plane.word_bits == 32 for plane in self._planes)

    def kept(self, key: Hashable, make: Callable[[], Val]) -> Val:
        """What several codes are made of: `make`'s result, the same for the same key."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def word(self, plane: CodePlane, index: int) -> Val:
        """Word `index` of `plane`, zero-extended to 32 bits a lane."""
        key = plane.low, index
        if key not in self._loaded:
            kind = {8: i8, 16: i16, 32: i32}[plane.word_bits]()
            start = plane.start + index * PANEL_ROWS * plane.word_bits // 8
            word = self._address.at(start).load(wide(kind), align=1)
            if self._ahead is not None:
                line = self._address.at(start + self._ahead.distance)
                line.prefetch(3 if self._ahead.near else 2)
            self._loaded[key] = word if plane.word_bits == 32 else widen(word, i32())
        return self._loaded[key]

    def loose(self, position: int, repeated: int = 1) -> Val:
        """
        Code `position` in the low bits of each lane, with anything above it.

        Masks are multiplied by `repeated`: 0x01010101 asks for four codes, one a byte.
        """
        code: Val | None = None
        for plane in self._planes:
            index, bit = plane.place(position)
            word = self.word(plane, index)
            if code is None:
                code = word >> bit if bit else word
                continue
            moved = word >> (bit - plane.low) if bit >= plane.low else word << (plane.low - bit)
            mask = ((1 << plane.low) - 1) * repeated
            code = self._select(mask, code, moved)
        assert code is not None
        return code

    def _select(self, mask: int, ones: Val, zeros: Val) -> Val:
        """Bits of `ones` where the mask has ones, else those of `zeros`."""
        if not self._ternary:
            return (ones & mask) | (zeros & ~mask)
        # Left to find the instruction, LLVM shrinks masks to the bits in use, and then needs more.
        operands = [constant(mask, ones.type).ssa, ones.ssa, zeros.ssa, constant(SELECT, i32()).ssa]
        return Val(
            llvm.call_intrinsic(ones.type, "llvm.x86.avx512.pternlog.d.512", operands, [], [])
        )

    def exact(self, position: int) -> Val:
        """Code `position`, zero-extended."""
        if self._bits == 32:
            return self.loose(position)
        return self.loose(position) & ((1 << self._bits) - 1)

    def topmost(self, position: int, bits: int) -> Val:
        """The low `bits` of code `position` in the high bits of each lane, over anything else."""
        if len(self._planes) > 1:
            return self.loose(position) << (32 - bits)
        (plane,) = self._planes
        index, bit = plane.place(position)
        shift = 32 - bits - bit
        word = self.word(plane, index)
        return word << shift if shift else word


class Elements:
    """The values of one format's elements, up to `step`, which the caller multiplies in."""

    def __init__(self, library: KernelLibrary, values: np.ndarray) -> None:
        self._library = library
        self._values = np.where(np.isfinite(values), values, 0).astype(np.float32)
        self.bits = len(values).bit_length() - 1
        form = closed_form(values)
        # Without 16-lane permutes a table costs two of them and a blend; a conversion is cheaper.
        converts = isinstance(form, Affine) and "avx512f" not in library.features
        self._in_register = self.bits <= 4 and _permutes(library) and not converts
        self._form = None if self._in_register else form
        self._pairs = _pair_table(library, self._values) if self.bits > 4 else None
        self.step = self._form.step if isinstance(self._form, Affine) else 1.0
        self.lowering = 0
        if isinstance(self._form, Minifloat) and self._pairs is None:
            self.lowering = self._form.lowering

    def lowered(self, codes: UnitCodes, position: int) -> Val:
        """The same as `value`, divided by 2**`lowering` too, which its sums must be raised by."""
        if self.lowering == 0 or not isinstance(self._form, Minifloat):
            return self.value(codes, position)
        return self._moved(codes, position, self._form)

    def value(self, codes: UnitCodes, position: int) -> Val:
        """Element `position` of a unit as fp32 lanes, divided by `step`."""
        if self._in_register:
            return self._permuted(self._values, codes, position)
        if isinstance(self._form, Affine):
            if self._form.flip:
                signed = codes.topmost(position, self.bits).shift_right_signed(32 - self.bits)
                return signed_to_float(signed)
            return signed_to_float(codes.exact(position))
        if self._pairs is not None and codes.whole_words:
            return self._of_pair(self._pairs, codes, position)
        if isinstance(self._form, Minifloat):
            return raised(self._moved(codes, position, self._form), self._form.lowering)
        return self._gathered(codes.exact(position), self._values)

    def halves(self, codes: UnitCodes, position: int) -> list[Val]:
        """The element where it is above zero, and where it is not; zero elsewhere."""
        above, below = np.maximum(self._values, 0), np.minimum(self._values, 0)
        if self._in_register:
            return [self._permuted(table, codes, position) for table in (above, below)]
        value = self.value(codes, position)
        zero = constant(0, value.type)
        positive = value.compare("gt", 0.0)
        return [select(positive, value, zero), select(positive, zero, value)]

    def flagged(self, flags: np.ndarray, codes: UnitCodes, position: int) -> Val:
        """1 for the codes that `flags` marks, 0 for others."""
        table = flags.astype(np.float32)
        if self.bits <= 4 and _permutes(self._library):
            return self._permuted(table, codes, position)
        return self._gathered(codes.exact(position), table)

    def _permuted(self, table: np.ndarray, codes: UnitCodes, position: int) -> Val:
        repeated = np.tile(table, REGISTER_TABLE // len(table)).tolist()
        index = codes.loose(position)
        if "avx512f" in self._library.features:
            entries = lane_constants(repeated, f32())
            name = "llvm.x86.avx512.permvar.sf.512"
            operands = [entries.ssa, index.ssa]
            return Val(llvm.call_intrinsic(wide(f32()), name, operands, [], []))
        low = _permute_halves(repeated[:8], index)
        if len(table) <= 8:
            return low
        upper = (index << 28).compare("lt", 0)
        return select(upper, _permute_halves(repeated[8:], index), low)

    def _of_pair(self, table: np.ndarray, codes: UnitCodes, position: int) -> Val:
        """Two codes of a lane are permuted at once, to halves of words: the upper ones of fp32."""
        byte = position % 4

        def pair() -> Val:
            index = codes.loose(position - byte, EVERY_BYTE) >> (8 * (byte % 2))
            low, high = (lane_constants(part.tolist(), i16()) for part in np.split(table, 2))
            operands = [low.ssa, as_halves(index).ssa, high.ssa]
            name = "llvm.x86.avx512.vpermi2var.hi.512"
            return as_words(Val(llvm.call_intrinsic(low.type, name, operands, [], [])))

        found = codes.kept((position - byte, byte % 2), pair)
        return _half(found, upper=byte >= 2)

    def _moved(self, codes: UnitCodes, position: int, form: Minifloat) -> Val:
        if not codes.whole_words or self.bits > 8:
            return moved_topmost(codes.topmost(position, self.bits), form)
        byte = position % 4

        def pair() -> Val:
            loose = as_halves(codes.loose(position - byte, EVERY_BYTE))
            shift = (8 if byte % 2 else 16) - self.bits
            return as_words(moved_halves(loose << shift if shift else loose, form))

        # Two codes of a lane at once, to halves of words: the upper ones of fp32.
        return _half(codes.kept((position - byte, byte % 2), pair), upper=byte >= 2)

    def _gathered(self, codes: Val, values: np.ndarray) -> Val:
        table = self._library.table([float(value) for value in values])
        addresses = llvm.getelementptr(
            ir.Type.parse(f"vector<{PANEL_ROWS}x!llvm.ptr>"),
            table.ssa, [codes.ssa], [-(2**31)], f32(), 0,
        )  # fmt: skip
        every, none = constant(1, wide(i1())), constant(0, wide(f32()))
        return Val(llvm.intr_masked_gather(wide(f32()), addresses, every.ssa, [none.ssa], 4))


def _half(words: Val, upper: bool) -> Val:
    """fp32 whose upper half is that half of each word."""
    return reinterpret(words & -(1 << 16) if upper else words << 16, f32())


def as_halves(words: Val) -> Val:
    """Lanes of 32 bits as twice as many of 16."""
    return Val(vector.bitcast(lanes(i16(), 2 * PANEL_ROWS), words.ssa))


def as_words(value: Val) -> Val:
    """The bits of all rows of a panel as lanes of 32."""
    return Val(vector.bitcast(wide(i32()), value.ssa))


def _pair_table(library: KernelLibrary, values: np.ndarray) -> np.ndarray | None:
    """The upper halves of up to 64 values (int16), None if the lower ones are not all 0."""
    bits = values.view(np.int32)
    permutes = "avx512bw" in library.features and len(values) <= PAIR_TABLE
    if not permutes or isinstance(closed_form(values), Affine) or (bits & 0xFFFF).any():
        return None
    return np.resize((bits >> 16).astype(np.int16), PAIR_TABLE)


def _permutes(library: KernelLibrary) -> bool:
    return bool({"avx2", "avx512f"} & library.features)


def _permute_halves(table: list[float], index: Val) -> Val:
    """Lane i of the result is table[index[i] mod 8], eight lanes at a time."""
    entries = lane_constants(table, f32())
    parts = []
    for first in (0, 8):
        lane = shuffle(index, index, range(first, first + 8))
        operands = [entries.ssa, lane.ssa]
        half = llvm.call_intrinsic(entries.type, "llvm.x86.avx2.permps", operands, [], [])
        parts.append(Val(half))
    return shuffle(parts[0], parts[1], range(PANEL_ROWS))
