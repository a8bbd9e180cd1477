"""
Linear layers that compute with the codes of their rounded input.

    %q = qcc.quantize %x; %d = qcc.dequantize %q; qcc.linear %d, %w
      =>  integers(&x, &codes, &scales, &sums); kernel(&codes, &scales, &sums, &y, &w.codes, …)

Where both sides are integers times scales, products and a block's sum are exact in int32; what is
left of rounding is less than in fp32. Layers that read the same codes share them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.formats.scaled_integers import holds_integers
from .byte_dots import ByteUnit
from .call_site import CallSite, replace_op
from .emit import Val, select, size
from .integer_elements import integer_elements
from .integer_rows import IntegerRows, integer_rows_launcher, x_blocks
from .integer_sums import factor_of_sums
from .library import grain_of
from .lookups import Lookups, launch_tables, lookups
from .panel_integers import (
    FEW_ROWS,
    IntegerMeeting,
    integer_linear_launcher,
    integer_segment,
)
from .panel_reader import PanelReader
from .panel_tiles import units_of_work
from .round_rows import Rounding
from .round_trip import known_of_tensor
from .schedules import schedule_of
from .weights import weight_panels


@dataclass(frozen=True, slots=True)
class _Codes:
    """The addresses of an input's codes, scales and sums."""

    rows: IntegerRows
    arrays: list[Val]


class IntegerLayers:
    """Converts the layers of one module that can compute with integers."""

    def __init__(self) -> None:
        self._encoded: dict[tuple[ir.Value, IntegerRows], _Codes] = {}
        self._tables: dict[tuple[ir.Value, Lookups], Val] = {}

    def convert(self, site: CallSite, op: qcc.LinearOp) -> None:
        """Replace `op` if it can be computed with integers, else leave it."""
        quantize, panels = _quantize_of(op), weight_panels(site, op.weight)
        if quantize is None or panels is None:
            return
        weight, parts = panels
        rows = _rows(site, quantize, weight)
        if rows is None:
            return
        codes = self._codes(site, quantize, rows)
        # Sizes of the source, so that nothing is left that reads the decoded tensor.
        source = quantize.source
        rank = ir.RankedTensorType(source.type).rank
        leading = {axis: site.extent(source, axis) for axis in range(rank - 1)}
        m = site.extents(source, range(rank - 1))
        value, address = site.result(op.result.type, site.dynamic_like(op.result.type, leading))
        bias = site.address(op.bias) if op.bias is not None else size(0)
        found, arrays = lookups(site.library, weight, rows), codes.arrays
        if found is not None:
            arrays = [*arrays, self._tables_of(site, quantize, found, codes, m)]
        schedule = schedule_of(site, op, integers=True)
        meeting = IntegerMeeting(weight, rows, found, schedule, op.bias is not None)
        launcher = integer_linear_launcher(site.library, meeting)
        total = units_of_work(schedule, weight.panels, m, FEW_ROWS)
        arguments = [*arrays, address, bias, m, *parts]
        site.launch(launcher, arguments, total, grain_of(total, m * (weight.rows * weight.k)))
        replace_op(op, value)

    def _codes(self, site: CallSite, quantize: qcc.QuantizeOp, rows: IntegerRows) -> _Codes:
        key = quantize.codes, rows
        if key not in self._encoded:
            with ir.InsertionPoint(quantize), quantize.location:
                self._encoded[key] = _encode(site, quantize, rows)
        return self._encoded[key]

    def _tables_of(
        self, site: CallSite, quantize: qcc.QuantizeOp, found: Lookups, codes: _Codes, m: Val
    ) -> Val:
        """The address of the tables of x, filled where it is a single row."""
        key = quantize.codes, found
        if key not in self._tables:
            one = select(m.compare("eq", 1), size(1), size(0))
            self._tables[key] = launch_tables(site, found, codes.arrays[0], one)
        return self._tables[key]


def _encode(site: CallSite, quantize: qcc.QuantizeOp, rows: IntegerRows) -> _Codes:
    source = quantize.source
    m = site.extents(source, range(ir.RankedTensorType(source.type).rank - 1))
    arrays = [site.buffer(m * width) for width in rows.widths]
    static = qcc.tensor_range_of(quantize) is not None
    rounding = Rounding(qcc.format_of(quantize.codes), rows.k, static)
    known = known_of_tensor(site, quantize, rounding)
    launcher = integer_rows_launcher(site.library, rows, rounding)
    site.launch(launcher, [site.address(source), *arrays, known], m, grain_of(m))
    return _Codes(rows, arrays)


def _quantize_of(op: qcc.LinearOp) -> qcc.QuantizeOp | None:
    """The rounding that the layer's input comes from, if its codes are integers."""
    quantize = qcc.rounding_of(op.input)
    if quantize is None or not holds_integers(qcc.format_of(quantize.codes)):
        return None
    element = ir.RankedTensorType(quantize.source.type).element_type
    return quantize if isinstance(element, ir.F32Type) else None


def _rows(site: CallSite, quantize: qcc.QuantizeOp, weight: PanelReader) -> IntegerRows | None:
    """How the input is encoded for `weight`, None if they do not meet in integers."""
    elements = integer_elements(weight.format, weight.k)
    if elements is None or not ByteUnit(site.library, elements).usable:
        return None
    block, blocks = x_blocks(qcc.format_of(quantize.codes), weight.k)
    segment = integer_segment(weight, block, blocks)
    factor = factor_of_sums(weight.format, elements)
    return None if segment is None else IntegerRows(weight.k, block, segment, factor=factor)
