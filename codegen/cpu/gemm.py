"""
The contraction kernel behind linear: y[m, n] = sum over k of x[m, k] * w[n, k]  + bias[n].

Both operands are contiguous along k, so a vector register holds eight neighbouring k of one row
and the inner loop is loads and fused multiply-adds alone; lanes are summed at the end of a row.
Work is cut into tiles of `rows` weight rows times `MC` rows of x. A tile decodes its weight rows
once into a scratch that stays in the L2 cache, then runs MR x NR register blocks over it. With
one row of x (decoding a token) weights go from packed bytes to registers directly. Plain weights
meet some rows of x as they lie (row_tiles.py), and more as panels (panel_tiles.py), which add no
lanes up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from ...dialects.cpu.schedule import LinearSchedule
from ...dialects.formats.panels import PANEL_ROWS
from .decode import PlainReader
from .emit import (
    LANES,
    Ptr,
    Val,
    branch,
    f32,
    floats,
    fma,
    lane_sum,
    minimum,
    repeat,
    select,
    size,
    splat,
)
from .library import Arguments, KernelLibrary, fits_scratch, scratch
from .panel_output import Columns
from .panel_tiles import FloatTiles, units_of_work
from .plain_panels import panel_of_rows
from .row_tiles import MOST_ROWS, WEIGHTS, RowTiles
from .source_rows import Source, decode_rows, padded, walk_rows

MR, NR = 3, 4
MC = 192
FEW_ROWS = 4
SCRATCH_FLOATS = 32 * 1024


@dataclass(frozen=True, slots=True)
class Contraction:
    """Static facts of one contraction: the sizes of the weight, how it is read, and the bias."""

    n: int
    k: int
    weight: Source
    has_bias: bool
    schedule: LinearSchedule | None = None
    """How plain weights meet many rows; None for packed ones."""
    by_rows: bool = False
    """Whether plain weights meet some rows in tiles of rows (row_tiles.py)."""

    @property
    def key(self) -> str:
        ways = f"{self.schedule} {self.by_rows}"
        return f"linear {self.n}x{self.k} {self.weight.key} bias={self.has_bias} {ways}"

    def total(self, m: Val) -> Val:
        """Of the launcher."""
        tiles = (m + (MC - 1)) // MC * self.row_tiles
        if self.schedule is None:
            return tiles
        panels = -(-self.n // PANEL_ROWS)
        many = units_of_work(self.schedule, panels, m, FEW_ROWS)
        if self.by_rows:
            some = select(m.compare("gt", 1), size(-(-self.n // WEIGHTS)), tiles)
            return select(m.compare("le", MOST_ROWS), some, many)
        return select(m.compare("le", FEW_ROWS), tiles, many)

    @property
    def rows(self) -> int:
        """Weight rows of a tile: a multiple of NR whose decoded form fits the scratch."""
        fitting = SCRATCH_FLOATS // max(1, padded(self.k)) // NR * NR
        return max(NR, min(16, fitting))

    @property
    def row_tiles(self) -> int:
        return -(-self.n // self.rows)

    @property
    def decodes_once(self) -> bool:
        """Whether a tile's rows fit the scratch; others are decoded for every MR rows of x."""
        return fits_scratch(self.rows * padded(self.k))


def contraction_launcher(library: KernelLibrary, contraction: Contraction) -> str:
    """
    The launcher of `contraction`.

    Arguments: x, y, bias (0 when absent), m, then the weight's parts; total is the contraction's.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Tiles(contraction, arguments).run(begin, end)

    return library.launcher(contraction.key, 4 + contraction.weight.part_count, emit)


class _Tiles:
    """Emission of one contraction's body."""

    def __init__(self, contraction: Contraction, arguments: Arguments) -> None:
        self.c = contraction
        self.x, self.y, self.bias = (arguments.address(index, f32()) for index in range(3))
        self.m = arguments.integer(3)
        contraction.weight.bind(arguments, 4)

    def run(self, begin: Val, end: Val) -> None:
        def one_row() -> None:
            @repeat(begin, end)
            def _(tile: Val) -> None:
                self._vector_tile(tile, [size(0)])

        def several_rows() -> None:
            tiles, some = self._panel_tiles(), self._row_tiles()
            if tiles is None:
                self._each_matrix_tile(begin, end)
                return
            few = self.m.compare("le", FEW_ROWS if some is None else MOST_ROWS)
            with_few = self._each_matrix_tile if some is None else some.run
            branch(few, lambda: with_few(begin, end), lambda: tiles.run(begin, end))

        branch(self.m.compare("eq", 1), one_row, several_rows)

    def _panel_tiles(self) -> FloatTiles | None:
        c, weight = self.c, self.c.weight
        if c.schedule is None or not isinstance(weight, PlainReader):
            return None

        def fill(panel: Val, part: tuple[Val, int], target: Ptr) -> None:
            first = panel * PANEL_ROWS
            panel_of_rows(lambda i: weight.address(self._clamped(first + i)), part, target)

        return FloatTiles(
            c.schedule, c.k, -(-c.n // PANEL_ROWS), self.m, self.x,
            Columns(self.y, c.n), Columns(self.bias, c.n, present=c.has_bias), fill,
        )  # fmt: skip

    def _row_tiles(self) -> RowTiles | None:
        c, weight = self.c, self.c.weight
        if not c.by_rows or not isinstance(weight, PlainReader):
            return None
        return RowTiles(c.n, c.k, self.m, self.x, self.y, self.bias if c.has_bias else None, weight)

    def _each_matrix_tile(self, begin: Val, end: Val) -> None:
        x_tiles = (self.m + (MC - 1)) // MC
        if not self.c.decodes_once:

            @repeat(begin, end)
            def _(tile: Val) -> None:
                rows = tile // x_tiles
                self._each_few_rows(tile % x_tiles, lambda ms: self._vector_tile(rows, ms))

            return
        decoded = scratch(self.c.rows * padded(self.c.k))

        @repeat(begin, end, carry=(size(-1),))
        def _(tile: Val, held: Val) -> Val:
            rows = tile // x_tiles
            branch(rows.compare("ne", held), lambda: self._decode(rows, decoded))
            self._matrix_tile(rows, tile % x_tiles, decoded)
            return rows

    def _clamped(self, row: Val) -> Val:
        """Rows past the end repeat the last one; they are stored to the same place again."""
        return minimum(row, self.c.n - 1)

    def _decode(self, rows: Val, decoded: Ptr) -> None:
        @repeat(0, self.c.rows)
        def _(r: Val) -> None:
            row = self._clamped(rows * self.c.rows + r)
            decode_rows(self.c.weight, [row], decoded.at(r * padded(self.c.k)))

    def _each_few_rows(self, x_tile: Val, visit: Callable[[list[Val]], None]) -> None:
        """`visit(MR rows of x)`; rows past the end repeat the last one."""
        start = x_tile * MC

        @repeat(start, minimum(start + MC, self.m), MR)
        def _(m: Val) -> None:
            visit([minimum(m + i, self.m - 1) for i in range(MR)])

    def _matrix_tile(self, rows: Val, x_tile: Val, decoded: Ptr) -> None:
        def few_rows(ms: list[Val]) -> None:
            @repeat(0, self.c.rows, NR)
            def _(n: Val) -> None:
                panel = decoded.at(n * padded(self.c.k))
                sums = self._register_block([self.x.at(i * self.c.k) for i in ms], panel)
                for i, row_sums in zip(ms, sums, strict=True):
                    for j, total in enumerate(row_sums):
                        self._store(i, self._clamped(rows * self.c.rows + n + j), total)

        self._each_few_rows(x_tile, few_rows)

    def _register_block(self, xs: Sequence[Ptr], panel: Ptr) -> list[list[Val]]:
        """MR x NR sums over k; lanes of x beyond K read as zero."""
        k, pitch = self.c.k, padded(self.c.k)
        whole = k // LANES * LANES

        def step(ws: list[Val], lanes_of_x: list[Val], sums: Sequence[Val]) -> list[Val]:
            return [
                fma(lanes_of_x[i], ws[j], sums[i * NR + j]) for i in range(MR) for j in range(NR)
            ]

        @repeat(0, whole, LANES, carry=[splat(0.0)] * (MR * NR))
        def sums(at: Val, *sums: Val) -> list[Val]:
            ws = [panel.at(at + j * pitch).load(floats()) for j in range(NR)]
            return step(ws, [x.at(at).load(floats()) for x in xs], sums)

        if whole < k:
            ws = [panel.at(whole + j * pitch).load(floats()) for j in range(NR)]
            sums = step(ws, [x.at(whole).load_first(k - whole) for x in xs], sums)
        return [[lane_sum(sums[i * NR + j]) for j in range(NR)] for i in range(MR)]

    def _store(self, m: Val, n: Val, total: Val) -> None:
        if self.c.has_bias:
            total = total + self.bias.at(n).load()
        self.y.at(m * self.c.n + n).store(total)

    def _vector_tile(self, tile: Val, ms: Sequence[Val]) -> None:
        """Rows of x times a tile's weights, from their bytes to registers."""

        @repeat(0, self.c.rows, NR)
        def _(r: Val) -> None:
            rows = [self._clamped(tile * self.c.rows + r + j) for j in range(NR)]

            def accumulate(k: Val, ws: list[Val], sums: Sequence[Val], count: int) -> Sequence[Val]:
                at = [self.x.at(m * self.c.k + k) for m in ms]
                lanes_of_x = [
                    each.load(floats()) if count == LANES else each.load_first(count) for each in at
                ]
                pairs = product(lanes_of_x, ws)
                return [fma(x, w, total) for (x, w), total in zip(pairs, sums, strict=True)]

            sums = walk_rows(self.c.weight, rows, accumulate, [splat(0.0)] * (NR * len(ms)))
            for (m, row), total in zip(product(ms, rows), sums, strict=True):
                self._store(m, row, lane_sum(total))
