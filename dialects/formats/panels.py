"""
The layout "panel16": stored parts with sixteen rows side by side.

A vector register then holds one position k of sixteen rows: a kernel multiplies it by the scalar
x[k], adds no lanes up, and reads the scales of sixteen rows with one load. Rows are padded to
whole panels and K to whole units, with zeros.

    codes   uint8 [panels, units, bytes]     a unit is a power of two of consecutive k
    scales        [panels, blocks, 16]       scales of the whole tensor stay as they are

In a unit, a code is cut into planes of 1, 2, 4, 8, 16 or 32 bits, the widest first and lowest:
6 = 4 + 2. Each plane is little-endian words of 32 bits (fewer where a short unit has no more),
sixteen rows after one another. In a word of n bytes, code c of a plane of at most 8 bits begins at
bit 8 * (c % n) + bits * (c // n): shifting and masking gives n consecutive codes in n bytes, as
byte dot products want them. Codes of 16 bits follow each other.

>>> from qcc.dialects.formats import format
>>> {role: shape for role, (shape, _) in panel_specs(format("int4", group=32), 40, 96).items()}
{'codes': (3, 12, 64), 'scale': (3, 3, 16)}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoding import row_codes
from .definition import Nested, Plane
from .layout import Parts, PartSpecs, block_columns, padded_count
from .number_format import Format
from .packing import pack_codes

LAYOUT = "panel16"
PANEL_ROWS = 16
WORD_BITS = 32
LONGEST_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class CodePlane:
    """`bits` bits of each code of a unit, from bit `low` of the code, beginning at byte `start`."""

    bits: int
    low: int
    start: int
    words: int
    word_bits: int

    @property
    def codes(self) -> int:
        """Codes of a word."""
        return self.word_bits // self.bits

    def place(self, position: int) -> tuple[int, int]:
        """The word, and the bit in it, where code `position` of the unit begins."""
        word, code = divmod(position, self.codes)
        field = max(8, self.bits)
        fields = self.word_bits // field
        return word, field * (code % fields) + self.bits * (code // fields)


def panel_unit(fmt: Format) -> int | None:
    """
    Consecutive k of a unit, None where blocks begin inside bytes or are too long for kernels.

    >>> from qcc.dialects.formats import format
    >>> panel_unit(format("int4")), panel_unit(format("int3")), panel_unit(format("int3", group=8))
    (8, 32, 8)
    """
    narrowest = min(_widths(code_bits(fmt)))
    unit = WORD_BITS // narrowest
    block = fmt.block_size
    if isinstance(block, int):
        unit = min(unit, block & -block)
        if unit * narrowest < 8 or block > LONGEST_BLOCK:
            return None
    return unit


def code_bits(fmt: Format) -> int:
    """Width of the codes in each code part: of one byte plane in a nested format."""
    return 8 if isinstance(fmt.element, Nested | Plane) else fmt.stored_bits


def code_planes(bits: int, unit: int) -> list[CodePlane]:
    """
    How a unit of codes of `bits` bits lies in a panel.

    >>> [(p.bits, p.low, p.start, p.words, p.word_bits) for p in code_planes(3, 16)]
    [(2, 0, 0, 1, 32), (1, 2, 64, 1, 16)]
    """
    planes, low, start = [], 0, 0
    for width in _widths(bits):
        total = width * unit
        words, word_bits = max(1, total // WORD_BITS), min(total, WORD_BITS)
        planes.append(CodePlane(width, low, start, words, word_bits))
        low, start = low + width, start + PANEL_ROWS * total // 8
    return planes


def panel_specs(fmt: Format, rows: int, k: int) -> PartSpecs:
    """Shape and dtype of each stored part of [rows, k] in panels."""
    unit = _unit(fmt)
    panels = -(-rows // PANEL_ROWS)
    specs: PartSpecs = {}
    for role, (shape, kind) in fmt.part_specs(rows, k).items():
        if role in _code_roles(fmt):
            shape = panels, -(-k // unit), PANEL_ROWS * unit * code_bits(fmt) // 8
        elif role not in fmt.tensor_roles:
            shape = panels, block_columns(fmt.block_size, k)[1], PANEL_ROWS
        specs[role] = shape, kind
    return specs


def to_panels(fmt: Format, parts: Parts, k: int) -> Parts:
    """The parts of [rows, k] that `Format.encode_rows` gives, in panels."""
    panels = {}
    for role, part in parts.items():
        if role in _code_roles(fmt):
            codes = part if isinstance(fmt.element, Nested) else row_codes(fmt, parts, k)
            panels[role] = _panel_codes(codes, code_bits(fmt), _unit(fmt))
        elif role in fmt.tensor_roles:
            panels[role] = part
        else:
            by_panel = _pad(part, PANEL_ROWS, 1).reshape(-1, PANEL_ROWS, part.shape[1])
            panels[role] = np.ascontiguousarray(by_panel.swapaxes(1, 2))
    return panels


def from_panels(fmt: Format, panels: Parts, rows: int, k: int) -> Parts:
    """Undo `to_panels`: parts as `Format.decode_rows` takes them."""
    parts = {}
    for role, part in panels.items():
        if role in _code_roles(fmt):
            codes = _row_codes(part, code_bits(fmt), _unit(fmt))[:rows, :k]
            parts[role] = packed_rows(fmt, codes)
        elif role in fmt.tensor_roles:
            parts[role] = part
        else:
            by_row = part.swapaxes(1, 2).reshape(-1, part.shape[1])
            parts[role] = np.ascontiguousarray(by_row[:rows])
    return parts


def _unit(fmt: Format) -> int:
    unit = panel_unit(fmt)
    if unit is None:
        raise ValueError(f"{fmt.spelling} has no panels")
    return unit


def _widths(bits: int) -> list[int]:
    return [1 << place for place in reversed(range(6)) if bits >> place & 1]


def _code_roles(fmt: Format) -> set[str]:
    return {"codes", "upper", "lower"} & set(fmt.part_specs(1, 1))


def _pad(array: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Zeros at the ends, until both extents are multiples."""
    missing = -array.shape[0] % rows, -array.shape[1] % columns
    return np.pad(array, [(0, count) for count in missing]) if any(missing) else array


def _panel_codes(codes: NDArray[Any], bits: int, unit: int) -> NDArray[np.uint8]:
    padded = _pad(codes, PANEL_ROWS, unit)
    units = padded.shape[1] // unit
    shape = len(padded) // PANEL_ROWS, PANEL_ROWS, units, unit
    of_unit = padded.reshape(shape)
    pieces = []
    for plane in code_planes(bits, unit):
        kind = np.dtype(f"<u{plane.word_bits // 8}")
        words = np.zeros((shape[0], units, plane.words, PANEL_ROWS), kind)
        mask = (1 << plane.bits) - 1
        for position in range(unit):
            word, bit = plane.place(position)
            field = (of_unit[..., position] >> plane.low) & mask
            words[:, :, word] |= field.astype(kind).swapaxes(1, 2) << kind.type(bit)
        pieces.append(words.view(np.uint8).reshape(shape[0], units, -1))
    return np.concatenate(pieces, 2)


def _row_codes(panels: NDArray[np.uint8], bits: int, unit: int) -> NDArray[np.unsignedinteger]:
    count, units = panels.shape[:2]
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    codes = np.zeros((count, PANEL_ROWS, units, unit), kind)
    for plane in code_planes(bits, unit):
        size = PANEL_ROWS * plane.words * plane.word_bits // 8
        piece = np.ascontiguousarray(panels[:, :, plane.start : plane.start + size])
        words = piece.view(f"<u{plane.word_bits // 8}")
        words = words.reshape(count, units, plane.words, PANEL_ROWS)
        for position in range(unit):
            word, bit = plane.place(position)
            field = (words[:, :, word] >> bit) & ((1 << plane.bits) - 1)
            codes[..., position] |= field.astype(kind).swapaxes(1, 2) << kind(plane.low)
    return codes.reshape(count * PANEL_ROWS, units * unit)


def packed_rows(fmt: Format, codes: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """Codes as `Format.part_specs` stores them, row by row."""
    rows, k = codes.shape
    if code_bits(fmt) == 8 and isinstance(fmt.element, Nested | Plane):
        return np.ascontiguousarray(codes.astype(np.uint8))
    padded = np.zeros((rows, padded_count(k)), codes.dtype)
    padded[:, :k] = codes
    if fmt.bits > 8:
        return padded.view(np.uint8)
    return pack_codes(padded, fmt.stored_bits)
