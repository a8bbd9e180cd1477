"""
Products of weights of few bits looked up in tables of x (bit-serial, as in T-MAC, EuroSys'25).

Half a byte of a panel holds as many codes as fit, those of four neighbouring halves lie in the
four bytes of a lane. What the codes of a half add up to with their x is one of sixteen sums: these
are computed once for a row of x, and a permutation of 64 bytes looks four halves of sixteen rows
up. Codes in several planes add up by planes, if their values do.

    tables   i8 [m, units, halves, pieces, 4, 16]     a sum is `pieces` digits of seven bits

Sums are exact. Digits are non-negative but for the highest, so that byte dot products with the
constants 1 and 128 add two of them to one lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.bindings import llvm
from ...dialects.formats.panels import WORD_BITS, CodePlane, code_bits, code_planes
from .byte_dots import EVERY_BYTE, LARGEST_X, ByteSum, permuted_bytes
from .call_site import CallSite
from .emit import (
    Ptr,
    Val,
    broadcast,
    constant,
    fma,
    i8,
    i32,
    lane_constants,
    lanes,
    maximum,
    pointer,
    repeat,
    signed_to_float,
    size,
    truncate,
    widen_signed,
)
from .integer_elements import IntegerElements, integer_elements
from .integer_rows import IntegerRows
from .library import Arguments, KernelLibrary, grain_of
from .panel_codes import FAR, UnitCodes, wide
from .panel_reader import PanelReader

HALF_BITS, HALVES_OF_BYTE, BYTES = 4, 2, 4
ENTRIES = 1 << HALF_BITS
PIECE_BITS = 7
REGISTER = BYTES * ENTRIES
NEEDED = frozenset({"avx512bw", "avx512vnni", "avx512vbmi"})
# Formats of more bits are no faster so: `python -m benchmarks.lookups` prints the ratios.
MOST_BITS = 1
# Units that are looked up in one turn of a loop.
TURN = 4
# Multiply-adds that take as long as the tables of a unit.
TABLE_WORK = 1 << 10
# 1 and 128, in each of four bytes.
WEIGHTS = EVERY_BYTE, -0x7F7F7F80
# Four bytes, each with the number of its table above the half.
TABLE_NUMBERS = 0x30201000


@dataclass(frozen=True, slots=True)
class Half:
    """
    Half `index` (0 is the low one) of each byte of a word of a plane.

    `codes` are (position in the unit, bit in the half) for each of the four bytes.
    """

    plane: CodePlane
    word: int
    index: int
    codes: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True, slots=True)
class Lookups:
    """How rows of x become tables; `parts` are the values of each plane's fields."""

    rows: IntegerRows
    unit: int
    halves: tuple[Half, ...]
    parts: tuple[tuple[int, tuple[int, ...]], ...]
    pieces: int

    @property
    def units(self) -> int:
        return -(-self.rows.k // self.unit)

    @property
    def width(self) -> int:
        """Words of 32 bits that the tables of a row take."""
        return self.units * self.of_unit_bytes // 4

    @property
    def key(self) -> str:
        return f"{self.rows.key} unit={self.unit} {self.parts} pieces={self.pieces}"

    @property
    def of_unit_bytes(self) -> int:
        return len(self.halves) * self.pieces * REGISTER

    def of_unit(self, tables: Ptr, m: Val, unit: Val) -> Ptr:
        return tables.at((m * self.units + unit) * self.of_unit_bytes)


def lookups(library: KernelLibrary, weight: PanelReader, rows: IntegerRows) -> Lookups | None:
    """How `rows` meet `weight` by tables, None where products are faster or needed."""
    fmt, unit = weight.format, weight.unit
    elements = integer_elements(fmt, weight.k)
    assert elements is not None
    bits = code_bits(fmt)
    apart = fmt.zero_point is not None or elements.operands > 1
    fits = bits <= MOST_BITS and not apart and not rows.short_blocks
    if not fits or not library.features >= NEEDED:
        return None
    planes = code_planes(bits, unit)
    parts = _parts(_values(elements), planes)
    if parts is None or any(HALF_BITS % plane.bits for plane in planes):
        return None
    halves = tuple(half for plane in planes for half in _halves(plane, unit))
    largest = max(abs(value) for _, values in parts for value in values)
    bound = HALF_BITS * largest * (LARGEST_X << 8 * (rows.digits - 1))
    if bound.bit_length() >= WORD_BITS:
        return None
    pieces = -(-bound.bit_length() // PIECE_BITS)
    return Lookups(rows, unit, halves, parts, pieces)


def _values(elements: IntegerElements) -> list[int]:
    tables = elements.tables or (tuple(c ^ elements.flip for c in range(1 << elements.bits)),)
    return [byte - elements.offset for byte in tables[0]]


def _parts(
    values: list[int], planes: list[CodePlane]
) -> tuple[tuple[int, tuple[int, ...]], ...] | None:
    """(lowest bit, values of each field) of planes whose sums are `values`; None if none such."""
    parts = []
    for plane in planes:
        base = values[0] if plane.low else 0
        fields = range(1 << plane.bits)
        parts.append((plane.low, tuple(values[field << plane.low] - base for field in fields)))
    for code, value in enumerate(values):
        fields = [part[code >> low & len(part) - 1] for low, part in parts]
        if sum(fields) != value:
            return None
    return tuple(parts)


def _halves(plane: CodePlane, unit: int) -> list[Half]:
    found: dict[tuple[int, int], list[list[tuple[int, int]]]] = {}
    for position in range(unit):
        word, bit = plane.place(position)
        half, within = bit % 8 // HALF_BITS, bit % HALF_BITS
        of_half = found.setdefault((word, half), [[] for _ in range(BYTES)])
        of_half[bit // 8].append((position, within))
    return [
        Half(plane, word, half, tuple(tuple(byte) for byte in codes))
        for (word, half), codes in found.items()
    ]


def tables_launcher(library: KernelLibrary, found: Lookups) -> str:
    """Arguments: codes of `found.rows`, tables; total is the number of rows times units."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        codes, tables = arguments.address(0, i8()), tables_at(arguments, 1)

        @repeat(begin, end)
        def _(index: Val) -> None:
            m, unit = index // found.units, index % found.units
            source = codes.at(m * (found.rows.digits * found.rows.pitch) + unit * found.unit)
            target = found.of_unit(tables, m, unit)
            xs = [_integer(found.rows, source, position) for position in range(found.unit)]
            for place, half in enumerate(found.halves):
                of_half = target.at(place * found.pieces * REGISTER)
                for byte, of_byte in enumerate(half.codes):
                    sums = _sums(dict(found.parts)[half.plane.low], half.plane.bits, of_byte, xs)
                    for piece in range(found.pieces):
                        digit = _piece(sums, piece, last=piece == found.pieces - 1)
                        of_half.at(piece * REGISTER + byte * ENTRIES).store(truncate(digit, i8()))

    return library.launcher(f"tables {found.key}", 2, emit)


def tables_at(arguments: Arguments, index: int) -> Ptr:
    """The tables in the buffer of an argument: where a register's bytes lie in one cache line."""
    start = arguments.integer(index) + (REGISTER - 1)
    return Ptr(llvm.inttoptr(pointer(), (start & -REGISTER).ssa), i8())


def launch_tables(site: CallSite, found: Lookups, codes: Val, rows: Val) -> Val:
    """The address of the tables of so many rows, whose digits are at `codes`."""
    tables = site.buffer(maximum(rows, size(1)) * found.width + REGISTER // 4)
    total = rows * found.units
    launcher = tables_launcher(site.library, found)
    site.launch(launcher, [codes, tables], total, grain_of(total, total * TABLE_WORK))
    return tables


def _integer(rows: IntegerRows, codes: Ptr, position: int) -> Val:
    """The integer of a row at `position` (i32)."""
    digits = [
        widen_signed(codes.at(position + digit * rows.pitch).load(), i32())
        for digit in range(rows.digits)
    ]
    total = digits[0]
    for digit in digits[1:]:
        total = (total << 8) + digit
    return total


def _sums(
    values: tuple[int, ...], bits: int, codes: tuple[tuple[int, int], ...], xs: list[Val]
) -> Val:
    """The sum for each half (i32 lanes)."""
    total = constant(0, lanes(i32(), ENTRIES))
    for position, bit in codes:
        factors = [values[half >> bit & (1 << bits) - 1] for half in range(ENTRIES)]
        total = total + broadcast(xs[position], ENTRIES) * lane_constants(factors, i32())
    return total


def _piece(sums: Val, piece: int, last: bool) -> Val:
    shifted = sums.shift_right_signed(PIECE_BITS * piece) if piece else sums
    return shifted if last else shifted & ((1 << PIECE_BITS) - 1)


def looked_up_sums(
    found: Lookups, weight: PanelReader, panels: list[Val], tables: Ptr, span: tuple[Val, int]
) -> list[Val]:
    """
    For each of several panels, which share `tables`, the sum over `span` = (start, length) of k, as
    floats without scales.
    """
    start, length = span
    first, units, count = start // found.unit, -(-length // found.unit), -(-found.pieces // 2)

    def add(unit: Val | int, many: int, sums: Sequence[Val]) -> list[Val]:
        running = [[ByteSum(one) for one in sums[i :: len(panels)]] for i in range(len(panels))]
        for beyond in range(many):
            codes = [weight.codes(panel, first + unit, beyond, FAR)[0] for panel in panels]
            at = tables.at((unit + beyond) * found.of_unit_bytes)
            _add_unit(found, running, codes, at)
        return [panel[pair].value() for pair in range(count) for panel in running]

    sums, done = [constant(0, wide(i32()))] * (len(panels) * count), 0
    if units > TURN:
        done = units // TURN * TURN
        sums = repeat(0, done, TURN, carry=sums)(lambda unit, *held: add(unit, TURN, held))
    if units > done:
        sums = add(done, units - done, sums)
    return [_whole(sums[i :: len(panels)]) for i in range(len(panels))]


def _add_unit(
    found: Lookups, running: list[list[ByteSum]], codes: list[UnitCodes], tables: Ptr
) -> None:
    """To each panel's lanes for every two pieces, the lowest first."""
    for place, half in enumerate(found.halves):
        indices = [_index(half, each) for each in codes]
        of_half = tables.at(place * found.pieces * REGISTER)
        for piece in range(found.pieces):
            table = of_half.at(piece * REGISTER).load(lanes(i8(), REGISTER), align=REGISTER)
            weight = constant(WEIGHTS[piece % 2], wide(i32()))
            for pairs, index in zip(running, indices, strict=True):
                pairs[piece // 2].add(weight, permuted_bytes(table, index))


def _index(half: Half, codes: UnitCodes) -> Val:
    """Which of the 64 bytes each byte of a word asks for."""
    word = codes.word(half.plane, half.word)
    moved = word >> (HALF_BITS * half.index) if half.index else word
    return (moved & ((ENTRIES - 1) * EVERY_BYTE)) | TABLE_NUMBERS


def _whole(sums: list[Val]) -> Val:
    """The number that lanes of two pieces each make up, as a float."""
    total = signed_to_float(sums[-1])
    for lower in reversed(sums[:-1]):
        total = fma(total, constant(4.0**PIECE_BITS, total.type), signed_to_float(lower))
    return total
