"""How an operand of a kernel is read: a plain tensor, a plain parameter, or packed parts."""

from __future__ import annotations

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.formats import parse_spelling
from .call_site import CallSite, parameter_symbol
from .decode import PackedReader, PlainReader
from .emit import Val
from .panel_reader import PanelReader
from .source_rows import Source


def weight_source(site: CallSite, value: ir.Value, k: int) -> tuple[Source, list[Val]]:
    """How kernels read `value` as rows of length `k`, and the addresses of its parts."""
    spelling = qcc.format_spelling(value.type)
    if spelling is None:
        return PlainReader(k), [site.address(value)]
    symbol = parameter_symbol(value)
    if symbol is None:
        raise UnsupportedError(
            "cpu-packed-operand",
            "the CPU target reads packed operands of contractions from parameters only",
            where=str(value.location),
            next_step="run the pass that inserts qcc.dequantize after qcc.quantize",
        )
    if qcc.layout_of(value.owner) is not None:
        raise AssertionError(f"{symbol} lies in panels, which linear layers and embeddings read")
    reader = PackedReader(site.library, parse_spelling(spelling), k)
    return reader, [site.parameters.address(f"{symbol}/{role}") for role in reader.parts]


def weight_panels(site: CallSite, value: ir.Value) -> tuple[PanelReader, list[Val]] | None:
    """How kernels read the matrix `value` if it lies in panels, and the addresses of its parts."""
    symbol, spelling = parameter_symbol(value), qcc.format_spelling(value.type)
    if symbol is None or spelling is None or qcc.layout_of(value.owner) is None:
        return None
    rows, k = qcc.logical_type(value.type).shape
    reader = PanelReader(site.library, parse_spelling(spelling), rows, k)
    return reader, [site.parameters.address(f"{symbol}/{role}") for role in reader.parts]
