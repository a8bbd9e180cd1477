"""
Linear layers whose weights lie in panels, on activations that stay fp32.

    qcc.linear %x, %w
      =>  split(&x, &codes, &scales, &sums); kernel(&x, &y, …, &codes, &scales, &sums, &w.codes, …)

A few rows of x are split into bytes first where that pays. Layers that read the same x share them.
"""

from __future__ import annotations

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.cpu.x_bytes import FEWEST, MOST, X_BYTES_ATTRIBUTE
from ...dialects.errors import UsageError
from ...dialects.source_line import source_line
from .byte_dots import ByteUnit
from .call_site import CallSite, replace_op
from .emit import Val, minimum, select, size
from .integer_elements import integer_elements
from .integer_rows import IntegerRows
from .integer_sums import factor_of_sums, reach_of, sums_fit
from .library import grain_of
from .lookups import Lookups, launch_tables, lookups
from .panel_linear import DIRECT_ROWS, PanelMeeting, panel_linear_launcher
from .panel_reader import PanelReader
from .panel_tiles import units_of_work
from .schedules import schedule_of
from .split_rows import split_rows, split_rows_launcher
from .weights import weight_panels


class PanelLayers:
    """Converts the layers of one module."""

    def __init__(self) -> None:
        self._split: dict[tuple[ir.Value, ir.Block, IntegerRows], list[Val]] = {}
        self._tables: dict[tuple[ir.Value, ir.Block, Lookups], Val] = {}

    def convert(self, site: CallSite, op: qcc.LinearOp) -> None:
        """Replace `op` if its weights lie in panels, else leave it."""
        panels = weight_panels(site, op.weight)
        if panels is None:
            return
        weight, parts = panels
        rank = ir.RankedTensorType(op.input.type).rank
        leading = {axis: site.extent(op.input, axis) for axis in range(rank - 1)}
        m = site.extents(op.input, range(rank - 1))
        value, address = site.result(op.result.type, site.dynamic_like(op.result.type, leading))
        bias = site.address(op.bias) if op.bias is not None else size(0)
        rows = _rows(site, op, weight)
        found = None if rows is None else lookups(site.library, weight, rows)
        arrays = [] if rows is None else self._arrays(site, op, rows, m)
        if found is not None:
            arrays = [*arrays, self._tables_of(site, op, found, arrays[0], m)]
        schedule = schedule_of(site, op, integers=False)
        meeting = PanelMeeting(weight, rows, found, schedule, op.bias is not None)
        launcher = panel_linear_launcher(site.library, meeting)
        total = units_of_work(schedule, weight.panels, m, DIRECT_ROWS)
        arguments = [site.address(op.input), address, bias, m, *arrays, *parts]
        site.launch(launcher, arguments, total, grain_of(total, m * (weight.rows * weight.k)))
        replace_op(op, value)

    def _arrays(self, site: CallSite, op: qcc.LinearOp, rows: IntegerRows, m: Val) -> list[Val]:
        """The addresses of codes, scales and sums of op's input, of a few rows."""
        key = op.input, op.operation.block, rows
        if key not in self._split:
            held = minimum(m, DIRECT_ROWS)
            arrays = [site.buffer(held * width) for width in rows.widths]
            few = select(m.compare("le", DIRECT_ROWS), m, size(0))
            launcher = split_rows_launcher(site.library, rows)
            site.launch(launcher, [site.address(op.input), *arrays], few, grain_of(few))
            self._split[key] = arrays
        return self._split[key]

    def _tables_of(
        self, site: CallSite, op: qcc.LinearOp, found: Lookups, codes: Val, m: Val
    ) -> Val:
        """The address of the tables of a few rows, whose codes are at `codes`."""
        key = op.input, op.operation.block, found
        if key not in self._tables:
            few = select(m.compare("le", DIRECT_ROWS), m, size(0))
            self._tables[key] = launch_tables(site, found, codes, few)
        return self._tables[key]


def _rows(site: CallSite, op: qcc.LinearOp, weight: PanelReader) -> IntegerRows | None:
    """How a few rows of x are split, None where fp32 is faster."""
    elements = integer_elements(weight.format, weight.k)
    if elements is None or not ByteUnit(site.library, elements).fast:
        return None
    factor, reach = factor_of_sums(weight.format, elements), reach_of(weight.format, elements)
    rows = split_rows(weight, factor, reach, _x_bytes(op))
    return rows if rows and sums_fit(elements, rows.segment, rows.digits) else None


def _x_bytes(op: qcc.LinearOp) -> int:
    attributes = op.operation.attributes
    if X_BYTES_ATTRIBUTE not in attributes:
        return MOST
    given = attributes[X_BYTES_ATTRIBUTE]
    if not isinstance(given, ir.IntegerAttr) or not FEWEST <= given.value <= MOST:
        raise UsageError(
            "cpu-x-bytes",
            f"the attribute x_bytes of a layer is {given}, not {FEWEST} or {MOST}",
            where=source_line(op.location),
            next_step="leave it out for sums as exact as those of fp32",
        )
    return given.value
