"""
Linear layers whose weights lie in panels: y[m, n] = sum over k of x[m, k] * w[n, k]  + bias[n].

A register holds one k of sixteen rows of w, so x[m, k] is a broadcast, sums need no folding of
lanes, and y gets sixteen neighbours at once. With few rows of x, weights go from packed bytes to
registers, and each block's sum is scaled once; where weights are integers times scales and the
processor multiplies bytes, x is split into bytes for that (split_rows.py). With more, panels are
decoded, scaled, to a scratch that stays in the L2 cache, and tiles run over it (panel_tiles.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...dialects.cpu.schedule import LinearSchedule
from ...dialects.formats.panels import PANEL_ROWS
from .emit import (
    Ptr,
    Val,
    branch,
    broadcast,
    constant,
    f32,
    fma,
    minimum,
    repeat,
    size,
)
from .integer_rows import IntegerRows
from .integer_sums import ROW_ARGUMENTS, IntegerSums, Otherwise
from .library import Arguments, KernelLibrary
from .lookups import Lookups
from .panel_codes import FAR, wide
from .panel_decode import STRIDE, UNROLLED, decode_panel, each_element
from .panel_output import Columns
from .panel_reader import BlockScales, PanelReader
from .panel_tiles import FEW_PANELS, FloatTiles

DIRECT_ROWS = 4
CHAINS = 4


@dataclass(frozen=True, slots=True)
class PanelMeeting:
    """
    Static facts of a layer: its weights, how few rows of x are split and looked up, how many are
    multiplied, and the bias.
    """

    weight: PanelReader
    rows: IntegerRows | None
    found: Lookups | None
    schedule: LinearSchedule
    has_bias: bool

    @property
    def key(self) -> str:
        weight, by = self.weight, "floats" if self.rows is None else self.rows.key
        if self.found is not None:
            by = self.found.key
        sizes = f"{weight.rows}x{weight.k} {weight.key}"
        return f"linear {sizes} bias={self.has_bias} by {by} {self.schedule}"


def panel_linear_launcher(library: KernelLibrary, meeting: PanelMeeting) -> str:
    """
    Arguments: x, y, bias (0 when absent), m; codes, scales and sums of the first DIRECT_ROWS of x
    where it is split into rows, and their tables where products are looked up; then the weight's
    parts. Total is `units_of_work` with DIRECT_ROWS as few.
    """
    weight, rows, found = meeting.weight, meeting.rows, meeting.found
    first = 4 if rows is None else 4 + ROW_ARGUMENTS + (found is not None)

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        sums = None if rows is None else IntegerSums(library, weight, rows, arguments, 4, found)
        weight.bind(arguments, first)
        _PanelLinear(meeting, sums, arguments).run(begin, end)

    return library.launcher(meeting.key, first + weight.part_count, emit)


class _PanelLinear:
    """Emission of one layer's body."""

    def __init__(
        self, meeting: PanelMeeting, sums: IntegerSums | None, arguments: Arguments
    ) -> None:
        weight, has_bias = meeting.weight, meeting.has_bias
        self.w, self.sums, self.s = weight, sums, meeting.schedule
        self.looks_up = meeting.found is not None
        self.x = arguments.address(0, f32())
        self.y = Columns(arguments.address(1, f32()), weight.rows)
        self.bias = Columns(arguments.address(2, f32()), weight.rows, present=has_bias)
        self.m = arguments.integer(3)

    def run(self, begin: Val, end: Val) -> None:
        def few_rows() -> None:
            first = begin * FEW_PANELS
            last = minimum(end * FEW_PANELS, self.w.panels)
            if self.sums is not None and self.looks_up:
                self._each_looked_up(self.sums, begin, end)
                return
            if self.sums is not None:
                self._each_split_row(self.sums, first, last)
                return
            one = self.m.compare("eq", 1)
            branch(one, lambda: self._each_panel(first, last, 1),
                   lambda: self._each_panel(first, last, DIRECT_ROWS))  # fmt: skip

        few = self.m.compare("le", DIRECT_ROWS)
        branch(few, few_rows, lambda: self._many_rows().run(begin, end))

    def _each_panel(self, first: Val, last: Val, rows: int) -> None:
        ms = [minimum(size(m), self.m - 1) for m in range(rows)]
        xs = [self.x.at(m * self.w.k) for m in ms]

        @repeat(first, last)
        def _(panel: Val) -> None:
            initial = [self.bias.sixteen(size(0), panel) for m in ms]
            for m, total in zip(ms, direct_sums(self.w, panel, xs, initial), strict=True):
                self.y.store(m, panel, total)

    def _each_split_row(self, sums: IntegerSums, first: Val, last: Val) -> None:
        """Row by row: what takes the time are the products, and a panel stays in the cache."""

        @repeat(first, last)
        def _(panel: Val) -> None:
            @repeat(0, self.m)
            def _(m: Val) -> None:
                initial = [self.bias.sixteen(size(0), panel)]
                (total,) = sums.totals(panel, [m], initial, self._in_floats())
                self.y.store(m, panel, total)

    def _each_looked_up(self, sums: IntegerSums, begin: Val, end: Val) -> None:
        @repeat(begin, end)
        def _(group: Val) -> None:
            # A group's missing panel is its last one again, and stores the same.
            first = group * FEW_PANELS
            panels = [minimum(first + i, self.w.panels - 1) for i in range(FEW_PANELS)]

            @repeat(0, self.m)
            def _(m: Val) -> None:
                initial = [self.bias.sixteen(size(0), panel) for panel in panels]
                found = sums.looked_up(panels, m, initial, self._in_floats())
                for panel, total in zip(panels, found, strict=True):
                    self.y.store(m, panel, total)

    def _in_floats(self) -> Otherwise:
        """Products with decoded weights, which are finite if any order of factors makes them so."""

        def add(panel: Val, start: Val, length: int, ms: list[Val], totals: list[Val]) -> list[Val]:
            scales = self.w.scales(panel, start // self.w.block)
            held = list(totals)

            def use(position: int, terms: list[Val]) -> None:
                value = self.w.decoded(terms, scales)
                for i, m in enumerate(ms):
                    x = self.x.at(m * self.w.k + start).at(position).load()
                    held[i] = fma(value, broadcast(x, PANEL_ROWS), held[i])

            each_element(self.w, panel, (start, length), scales, use)
            return held

        return add

    def _many_rows(self) -> FloatTiles:
        weight = self.w
        return FloatTiles(
            self.s, weight.k, weight.panels, self.m, self.x, self.y, self.bias,
            lambda panel, part, target: decode_panel(weight, panel, part, target),
        )  # fmt: skip


def direct_sums(
    weight: PanelReader, panel: Val, xs: list[Ptr], initial: Sequence[Val]
) -> list[Val]:
    """`initial` + the products of a panel with each row of x, straight from packed bytes."""

    def of_block(block: Val, length: int, totals: Sequence[Val]) -> list[Val]:
        start = block * weight.block
        scales = weight.scales(panel, block)
        sums = _block_sums(weight, panel, start, length, [x.at(start) for x in xs], scales)
        return [scales.apply(s, total) for s, total in zip(sums, totals, strict=True)]

    return each_block(weight, weight.k, of_block, initial)


Visit = Callable[[Val, int, Sequence[Val]], Sequence[Val]]


def each_block(
    weight: PanelReader, length: int, visit: Visit, carry: Sequence[Val] = ()
) -> list[Val]:
    """
    Visit the blocks of `length` values of k: `visit(block, its length, carried) -> carried`.

    All blocks but a short last one are emitted once.
    """
    whole, rest = divmod(length, weight.block)
    carried = list(carry)
    if whole == 1:
        carried = list(visit(size(0), weight.block, carried))
    elif whole:
        carried = repeat(0, whole, carry=carried)(
            lambda block, *values: visit(block, weight.block, values)
        )
    if rest:
        carried = list(visit(size(whole), rest, carried))
    return carried


def _block_sums(
    weight: PanelReader, panel: Val, start: Val, length: int, xs: list[Ptr], scales: BlockScales
) -> list[list[Val]]:
    """For each row of x, the sums over a block, one or one for each sign."""
    chains = CHAINS if len(xs) == 1 else 1
    count = len(xs) * weight.signs * chains

    def add(k: int | Val, span: int, sums: Sequence[Val | None]) -> list[Val | None]:
        following = list(sums)

        def use(position: int, terms: list[Val]) -> None:
            for i, x in enumerate(xs):
                factor = broadcast(x.at(k).at(position).load(), PANEL_ROWS)
                for sign, term in enumerate(terms):
                    slot = (i * weight.signs + sign) * chains + position % chains
                    held = following[slot]
                    following[slot] = term * factor if held is None else fma(term, factor, held)

        each_element(weight, panel, (start + k, span), scales, use, FAR)
        return following

    sums: list[Val | None] = [None] * count
    done = 0
    if length > UNROLLED:
        done = length // STRIDE * STRIDE
        zeros = [constant(0, wide(f32()))] * count
        sums = list(repeat(0, done, STRIDE, carry=zeros)(lambda k, *values: add(k, STRIDE, values)))
    if length > done:
        sums = add(done, length - done, sums)
    folded = [_total(sums[i : i + chains]) for i in range(0, count, chains)]
    return [folded[i : i + weight.signs] for i in range(0, len(folded), weight.signs)]


def _total(sums: Sequence[Val | None]) -> Val:
    present = [value for value in sums if value is not None]
    while len(present) > 1:
        pairs = zip(present[::2], present[1::2], strict=False)
        odd = present[len(present) // 2 * 2 :]
        present = [a + b for a, b in pairs] + odd
    return present[0]
