"""How an operand of a kernel is read: a plain tensor, a plain parameter, or packed parts."""

from __future__ import annotations

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.formats import parse_spelling
from .call_site import CallSite, parameter_symbol
from .decode import PackedReader, PlainReader
from .emit import Val
from .gemm import Source


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
    reader = PackedReader(site.library, parse_spelling(spelling), k)
    return reader, [site.parameters.address(f"{symbol}/{role}") for role in reader.parts]
