"""
The embedding over a table in panels: one row of a panel, sixteen units of it at a time.

A lane is a unit of the row here, where other kernels have a row in each lane. All else that they
do with lanes is the same; the words of a row lie apart, so they are gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.bindings import ir, llvm
from ...dialects.formats.panels import PANEL_ROWS, CodePlane, code_bits, code_planes
from .emit import (
    Ptr,
    Val,
    broadcast,
    constant,
    f32,
    i1,
    i8,
    i16,
    i32,
    i64,
    lane,
    lane_constants,
    minimum,
    pointer,
    repeat,
    size,
    truncate,
    widen,
)
from .library import Arguments, KernelLibrary, scratch
from .panel_codes import NEAR, Ahead, UnitCodes, wide
from .panel_reader import CODE_ROLES, PanelReader
from .rows import looked_up

UNITS = PANEL_ROWS  # as many as there are lanes


class RowReader(PanelReader):
    """Reads row `row` of a panel; units and blocks are vectors of numbers (i32), one a lane."""

    row: Val

    def codes(
        self, panel: Val, unit: Val, beyond: int = 0, ahead: Ahead | None = NEAR
    ) -> list[UnitCodes]:
        found = list[UnitCodes]()
        for role in self.parts:
            if role in CODE_ROLES:
                _, units, length = self.specs[role][0]
                address = self._addresses[role].at(panel * (units * length))
                bits = code_bits(self.format)
                place = RowUnits(self.row, unit + beyond, length)
                found.append(RowCodes(address, code_planes(bits, self.unit), bits, place))
        return found

    def _stored(self, role: str, panel: Val, block: Val) -> Val:
        if role in self.format.tensor_roles:
            return super()._stored(role, panel, block)
        address = self._addresses[role].at(panel * (self.blocks * PANEL_ROWS) + self.row)
        return gathered(address, block * PANEL_ROWS, address.element)


@dataclass(frozen=True, slots=True)
class RowUnits:
    """A row of a panel (i64) and the numbers of sixteen units of `length` bytes (i32)."""

    row: Val
    unit: Val
    length: int


class RowCodes(UnitCodes):
    """The codes of one row in sixteen units."""

    def __init__(
        self, address: Ptr, planes: Sequence[CodePlane], bits: int, place: RowUnits
    ) -> None:
        super().__init__(address, planes, bits)
        self._place = place
        self._offsets = place.unit * place.length

    def word(self, plane: CodePlane, index: int) -> Val:
        key = plane.low, index
        if key not in self._loaded:
            kind, width = {8: i8, 16: i16, 32: i32}[plane.word_bits](), plane.word_bits // 8
            start = plane.start + index * PANEL_ROWS * width
            address = self._address.at(self._place.row * width + start)
            word = gathered(address, self._offsets, kind)
            # Words that are lines apart, which the processor does not see coming.
            ahead = address.at(widen(lane(self._offsets, 0), i64()) + NEAR.distance)
            for unit in range(UNITS):
                ahead.at(unit * self._place.length).prefetch()
            self._loaded[key] = word if plane.word_bits == 32 else widen(word, i32())
        return self._loaded[key]


def gathered(address: Ptr, offsets: Val, kind: ir.Type) -> Val:
    """The `kind` at each of `offsets`, which count what `address` points at."""
    type_ = ir.Type.parse(f"vector<{UNITS}x{pointer()}>")
    at = llvm.getelementptr(type_, address.ssa, [offsets.ssa], [-(2**31)], address.element, 0)
    every, none = constant(1, wide(i1())), constant(0, wide(kind))
    return Val(llvm.intr_masked_gather(wide(kind), at, every.ssa, [none.ssa], 1))


def panel_embedding_launcher(library: KernelLibrary, table: PanelReader) -> str:
    """Arguments: indices (i64), y, N, then the table's parts; total is the number of indices."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        indices, y = arguments.address(0, i64()), arguments.address(1, f32())
        rows = arguments.integer(2)
        reader = RowReader(library, table.format, table.rows, table.k)
        reader.bind(arguments, 3)
        decoded = scratch(UNITS * reader.unit)

        @repeat(begin, end)
        def _(position: Val) -> None:
            row, one = looked_up(indices.at(position).load(), rows)
            reader.row = row % PANEL_ROWS
            _decode_row(reader, row // PANEL_ROWS, one, y.at(position * reader.k), decoded)

    return library.launcher(f"embedding {table.k} {table.key}", 3 + table.part_count, emit)


def _decode_row(reader: RowReader, panel: Val, factor: Val, target: Ptr, decoded: Ptr) -> None:
    """Write the reader's row of `panel` times `factor`; `decoded` is scratch [unit][UNITS]."""
    units = -(-reader.k // reader.unit)
    every = broadcast(factor, UNITS)

    @repeat(0, units, UNITS)
    def _(first: Val) -> None:
        # Lanes behind the last unit read it again; nothing of theirs is kept.
        numbers = lane_constants(list(range(UNITS)), i32())
        unit = minimum(numbers + broadcast(truncate(first, i32()), UNITS), units - 1)
        shared = reader.block // reader.unit if reader.blocks > 1 else units
        codes, scales = reader.codes(panel, unit), reader.scales(panel, unit // shared)
        for position in range(reader.unit):
            value = reader.decoded(reader.terms(codes, position, scales), scales)
            decoded.at(position * UNITS).store(value * every)
        start = first * reader.unit

        @repeat(0, minimum(size(reader.k) - start, UNITS * reader.unit))
        def _(k: Val) -> None:
            value = decoded.at(k % reader.unit * UNITS + k // reader.unit).load()
            target.at(start + k).store(value)
