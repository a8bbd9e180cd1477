"""
Elements of weights as integers in bytes, and dot products of bytes, on one instruction set.

An element qualifies if all values of its table are multiples of one step. Made unsigned by an
offset, four codes of a row fill a lane and meet four signed bytes of x at once.
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
from .emit import Val, constant, i8, i16, i32, lane_constants, lanes, shuffle
from .library import KernelLibrary
from .panel_codes import UnitCodes, wide

EVERY_BYTE = 0x01010101
TABLE_BYTES = 64
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
