"""Rows of plain fp32 weights as panels, sixteen channels side by side: what register tiles read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...dialects.formats.panels import PANEL_ROWS
from .emit import Ptr, Val, f32, lane_mask, repeat, shuffle, size
from .panel_codes import wide

LANES = range(PANEL_ROWS)
"""Of sixteen lanes of two vectors: in each group of four, alternately one or two of each."""
LOW = [i // 4 * 4 + i % 4 // 2 + i % 2 * PANEL_ROWS for i in LANES]
HIGH = [lane + 2 for lane in LOW]
LOW_TWO = [i // 4 * 4 + i % 2 + i % 4 // 2 * PANEL_ROWS for i in LANES]
HIGH_TWO = [lane + 2 for lane in LOW_TWO]
"""Groups 0 and 2 of the one, then of the other."""
EVEN = [i % 4 + i // 4 % 2 * 8 + i // 8 * PANEL_ROWS for i in LANES]
ODD = [lane + 4 for lane in EVEN]


def panel_of_rows(row: Callable[[int], Ptr], part: tuple[Val, int], target: Ptr) -> None:
    """Write `part` = (first, length) of k of sixteen rows to `target` [length][16]."""
    first, length = part
    starts = [row(i).at(first) for i in range(PANEL_ROWS)]

    def turn(k: Val, count: int, load: Callable[[Ptr], Val]) -> None:
        columns = transposed([load(start.at(k)) for start in starts])
        for i, column in enumerate(columns[:count]):
            target.at((k + i) * PANEL_ROWS).store(column)

    whole = length // PANEL_ROWS * PANEL_ROWS
    repeat(0, whole, PANEL_ROWS)(lambda k: turn(k, PANEL_ROWS, lambda row: row.load(wide(f32()))))
    if length > whole:
        rest = length - whole
        mask = lane_mask(size(rest), PANEL_ROWS)
        turn(size(whole), rest, lambda row: row.load_while(mask))


def transposed(rows: Sequence[Val]) -> list[Val]:
    """
    Sixteen vectors of sixteen lanes, lane i of vector j in lane j of vector i.

    By lanes inside groups of four, then by groups: each shuffle is one instruction.
    """
    columns: list[Val] = [rows[0]] * PANEL_ROWS
    fours = [_four(rows[first : first + 4]) for first in range(0, PANEL_ROWS, 4)]
    for column in range(4):
        a, b, c, d = (four[column] for four in fours)
        even, odd = [(shuffle(x, y, EVEN), shuffle(x, y, ODD)) for x, y in ((a, b), (c, d))]
        for i in range(2):
            columns[column + 4 * i] = shuffle(even[i], odd[i], EVEN)
            columns[column + 8 + 4 * i] = shuffle(even[i], odd[i], ODD)
    return columns


def _four(rows: Sequence[Val]) -> list[Val]:
    """Four vectors: number i has in its group g lanes 4 g + i of the four `rows`."""
    pairs = [[shuffle(a, b, picks) for picks in (LOW, HIGH)]
             for a, b in (rows[:2], rows[2:])]  # fmt: skip
    return [
        shuffle(pairs[0][i], pairs[1][i], picks) for i in range(2) for picks in (LOW_TWO, HIGH_TWO)
    ]
