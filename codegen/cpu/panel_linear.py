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
from itertools import product

from ...dialects.cpu.schedule import LinearSchedule
from ...dialects.formats.panels import PANEL_ROWS
from .emit import (
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
from .lifted_rows import LiftedRow, row_for
from .lookups import Lookups
from .panel_codes import FAR, UnitCodes, wide
from .panel_decode import STRIDE, decode_panel, each_element, written_out
from .panel_output import Columns
from .panel_reader import BlockScales, PanelReader
from .panel_streams import LOOKED_UP, each_group, streams
from .panel_tiles import FloatTiles

DIRECT_ROWS = 4
CHAINS = 4
# Elements so wide are decoded in less time than they are read, or about the same.
CHEAP_BITS = 8


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
        _PanelLinear(library, meeting, sums, arguments).run(begin, end)

    return library.launcher(meeting.key, first + weight.part_count, emit)


class _PanelLinear:
    """Emission of one layer's body."""

    def __init__(
        self,
        library: KernelLibrary,
        meeting: PanelMeeting,
        sums: IntegerSums | None,
        arguments: Arguments,
    ) -> None:
        weight, has_bias = meeting.weight, meeting.has_bias
        self.w, self.sums, self.s = weight, sums, meeting.schedule
        self.looks_up = meeting.found is not None
        self.streams = streams(library, weight, weight.format.stored_bits >= CHEAP_BITS)
        self.x = arguments.address(0, f32())
        self.y = Columns(arguments.address(1, f32()), weight.rows)
        self.bias = Columns(arguments.address(2, f32()), weight.rows, present=has_bias)
        self.m = arguments.integer(3)

    def run(self, begin: Val, end: Val) -> None:
        def few_rows() -> None:
            if self.sums is not None:
                self._each_split_row(self.sums, (begin, end))
                return
            one = self.m.compare("eq", 1)
            branch(one, lambda: self._each_panel((begin, end), self.streams, 1),
                   lambda: self._each_panel((begin, end), 1, DIRECT_ROWS))  # fmt: skip

        few = self.m.compare("le", DIRECT_ROWS)
        branch(few, few_rows, lambda: self._many_rows().run(begin, end))

    def _each_panel(self, span: tuple[Val, Val], streams: int, rows: int) -> None:
        ms = [minimum(size(m), self.m - 1) for m in range(rows)]
        xs = [row_for(self.w.lowering, self.x.at(m * self.w.k), self.w.k) for m in ms]

        def some(panels: list[Val]) -> None:
            initial = [self.bias.sixteen(size(0), panel) for panel in panels for _ in ms]
            totals = direct_sums(self.w, panels, xs, initial)
            for (panel, m), total in zip(product(panels, ms), totals, strict=True):
                self.y.store(m, panel, total)

        each_group(self.w.panels, span, streams, some)

    def _each_split_row(self, sums: IntegerSums, span: tuple[Val, Val]) -> None:
        """Row by row: what takes the time are the products, and panels stay in the cache."""

        def some(panels: list[Val]) -> None:
            @repeat(0, self.m)
            def _(m: Val) -> None:
                initial = [self.bias.sixteen(size(0), panel) for panel in panels]
                if self.looks_up:
                    found = sums.looked_up(panels, m, initial, self._in_floats())
                else:
                    found = sums.totals(panels, [m], initial, self._in_floats())
                for panel, total in zip(panels, found, strict=True):
                    self.y.store(m, panel, total)

        each_group(self.w.panels, span, LOOKED_UP if self.looks_up else sums.streams, some)

    def _in_floats(self) -> Otherwise:
        """
        Products with decoded weights, which are finite if any order of factors makes them so.

        Few blocks need them: unit by unit, which is short, not fast.
        """

        def add(
            panels: list[Val], start: Val, length: int, ms: list[Val], totals: list[Val]
        ) -> list[Val]:
            scales = [self.w.scales(panel, start // self.w.block) for panel in panels]

            def unit(first: Val | int, count: int, totals: Sequence[Val]) -> list[Val]:
                held = list(totals)
                xs = [self.x.at(m * self.w.k + start + first) for m in ms]

                def use_of(index: int) -> Callable[[int, list[Val]], None]:
                    def use(position: int, terms: list[Val]) -> None:
                        value = self.w.decoded(terms, scales[index])
                        for i, x in enumerate(xs, index * len(xs)):
                            factor = broadcast(x.at(position).load(), PANEL_ROWS)
                            held[i] = fma(value, factor, held[i])

                    return use

                for index, panel in enumerate(panels):
                    span = start + first, count
                    each_element(self.w, panel, span, scales[index], use_of(index), None)
                return held

            step = self.w.unit
            whole = length // step * step
            held = repeat(0, whole, step, carry=totals)(lambda at, *held: unit(at, step, held))
            return unit(whole, length - whole, held) if length > whole else held

        return add

    def _many_rows(self) -> FloatTiles:
        weight = self.w
        return FloatTiles(
            self.s, weight.k, weight.panels, self.m, self.x, self.y, self.bias,
            lambda panel, part, target: decode_panel(weight, panel, part, target),
        )  # fmt: skip


def direct_sums(
    weight: PanelReader, panels: list[Val], xs: list[LiftedRow], initial: Sequence[Val]
) -> list[Val]:
    """`initial` + the products of panels with each row of x, straight from packed bytes."""

    def of_block(block: Val, length: int, totals: Sequence[Val]) -> list[Val]:
        start = block * weight.block
        scales = [weight.scales(panel, block) for panel in panels]
        sums = _block_sums(weight, panels, start, length, [x.at(start) for x in xs], scales)
        places = zip(product(scales, xs), sums, totals, strict=True)
        if weight.signs == 2:
            return [total + value for _, value, total in places]
        return [of_panel.apply([x.raised(value)], total) for (of_panel, x), value, total in places]

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
    weight: PanelReader,
    panels: list[Val],
    start: Val,
    length: int,
    xs: list[LiftedRow],
    scales: list[BlockScales],
) -> list[Val]:
    """For each panel and row of x, the sum over a block; with scales, where each sign has one."""
    # Several panels of one row: long sums are less exact.
    chains = max(2 if len(xs) == 1 else 1, CHAINS // (len(xs) * len(panels)))
    count = len(panels) * len(xs) * chains
    ahead = FAR if len(panels) == 1 else None

    def add(k: int | Val, span: int, sums: Sequence[Val | None]) -> list[Val | None]:
        following = list(sums)
        rows = [x.at(k) for x in xs]
        unit = (start + k) // weight.unit
        units = [
            [weight.codes(panel, unit, beyond, ahead) for panel in panels]
            for beyond in range(-(-span // weight.unit))
        ]
        for position in range(span):
            beyond, within = divmod(position, weight.unit)
            terms = [
                _term(weight, of_panel, within, scale)
                for of_panel, scale in zip(units[beyond], scales, strict=True)
            ]
            factors = [row.lane(position) for row in rows]
            for i, (term, factor) in enumerate(product(terms, factors)):
                slot = i * chains + position % chains
                held = following[slot]
                following[slot] = term * factor if held is None else fma(term, factor, held)
        return following

    sums: list[Val | None] = [None] * count
    done = 0
    if not written_out(length, len(xs) * len(panels)):
        done = length // STRIDE * STRIDE
        zeros = [constant(0, wide(f32()))] * count
        sums = list(repeat(0, done, STRIDE, carry=zeros)(lambda k, *values: add(k, STRIDE, values)))
    if length > done:
        sums = add(done, length - done, sums)
    return [_total(sums[i : i + chains]) for i in range(0, count, chains)]


def _term(weight: PanelReader, codes: list[UnitCodes], position: int, scales: BlockScales) -> Val:
    """An element; scaled where each sign has a scale: a sum of one sign would be 0 times inf."""
    if weight.signs == 2:
        return weight.decoded(weight.terms(codes, position, scales), scales)
    (term,) = weight.lowered(codes, position, scales)
    return term


def _total(sums: Sequence[Val | None]) -> Val:
    present = [value for value in sums if value is not None]
    while len(present) > 1:
        pairs = zip(present[::2], present[1::2], strict=False)
        odd = present[len(present) // 2 * 2 :]
        present = [a + b for a, b in pairs] + odd
    return present[0]
