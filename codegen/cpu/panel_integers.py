"""
Linear layers on integers: weights in panels whose elements are integers up to a factor, times
rows of activations rounded to integers.
"""

from __future__ import annotations

from .emit import Val, branch, f32, minimum, repeat, size
from .integer_elements import integer_elements
from .integer_rows import IntegerRows
from .integer_sums import ROW_ARGUMENTS, IntegerSums, sums_fit
from .library import Arguments, KernelLibrary
from .lookups import Lookups
from .panel_linear import GROUP, MC
from .panel_output import Columns
from .panel_reader import PanelReader


def integer_segment(weight: PanelReader, x_block: int, x_blocks: int) -> int | None:
    """Values of k summed as integers: inside one block of both sides; None if blocks cross."""
    small, large = sorted([(weight.block, weight.blocks), (x_block, x_blocks)])
    if (large[1] > 1 and large[0] % small[0]) or (small[1] > 1 and small[0] % weight.unit):
        return None
    elements = integer_elements(weight.format, weight.k)
    assert elements is not None
    return small[0] if sums_fit(elements, small[0], digits=1) else None


def integer_linear_launcher(
    library: KernelLibrary,
    weight: PanelReader,
    rows: IntegerRows,
    found: Lookups | None,
    has_bias: bool,
) -> str:
    """
    Arguments: codes, scales and sums of x (integer_rows.py), tables of its only row where products
    are looked up, y, bias (0 when absent), m, then the weight's parts; total is `panel_tiles`.
    """
    arrays = ROW_ARGUMENTS + (found is not None)

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        sums = IntegerSums(library, weight, rows, arguments, 0, found)
        linear = _IntegerLinear(library, weight, sums, has_bias, arguments, arrays)
        if found is None:
            linear.run(begin, end)
        else:
            one = linear.m.compare("eq", 1)
            branch(one, lambda: linear.look_up(begin, end), lambda: linear.run(begin, end))

    meeting = rows.key if found is None else found.key
    key = f"integer linear {weight.rows}x{weight.k} {weight.key} by {meeting} bias={has_bias}"
    return library.launcher(key, arrays + 3 + weight.part_count, emit)


class _IntegerLinear:
    """Emission of one layer's body."""

    def __init__(
        self,
        library: KernelLibrary,
        weight: PanelReader,
        sums: IntegerSums,
        has_bias: bool,
        arguments: Arguments,
        first: int,
    ) -> None:
        self.w, self.sums = weight, sums
        self.y = Columns(arguments.address(first, f32()), weight.rows)
        bias = arguments.address(first + 1, f32())
        self.bias = Columns(bias, weight.rows, present=has_bias)
        self.m = arguments.integer(first + 2)
        self.block_rows = 8 if "avx512f" in library.features else 4
        weight.bind(arguments, first + 3)

    def run(self, begin: Val, end: Val) -> None:
        x_tiles = (self.m + (MC - 1)) // MC

        @repeat(begin, end)
        def _(tile: Val) -> None:
            first = (tile // x_tiles) * GROUP
            start = tile % x_tiles * MC
            stop = minimum(start + MC, self.m)

            @repeat(first, minimum(first + GROUP, self.w.panels))
            def _(panel: Val) -> None:
                one = self.m.compare("eq", 1)
                branch(one, lambda: self._rows(panel, start, stop, 1),
                       lambda: self._several(panel, start, stop))  # fmt: skip

    def look_up(self, begin: Val, end: Val) -> None:
        """The only row, by its tables."""

        @repeat(begin, end)
        def _(group: Val) -> None:
            # A group's missing panel is its last one again, and stores the same.
            panels = [minimum(group * GROUP + i, self.w.panels - 1) for i in range(GROUP)]
            biases = [self.bias.sixteen(size(0), panel) for panel in panels]
            totals = self.sums.looked_up(panels, size(0), biases)
            for panel, total in zip(panels, totals, strict=True):
                self.y.store(size(0), panel, total)

    def _several(self, panel: Val, start: Val, stop: Val) -> None:
        few = self.m.compare("le", self.block_rows // 2)
        branch(few, lambda: self._rows(panel, start, stop, self.block_rows // 2),
               lambda: self._rows(panel, start, stop, self.block_rows))  # fmt: skip

    def _rows(self, panel: Val, start: Val, stop: Val, count: int) -> None:
        """Rows past the end repeat the last one, and store the same."""

        @repeat(start, stop, count)
        def _(m: Val) -> None:
            ms = [minimum(m + i, self.m - 1) for i in range(count)]
            bias = self.bias.sixteen(size(0), panel)
            for row, total in zip(ms, self.sums.totals(panel, ms, [bias] * count), strict=True):
                self.y.store(row, panel, total)
