"""
Number formats: each defined once in a `.fmt` file, everything else computed from the definition.

    fmt = format("amxfp4", scale="e5m2")
    q = fmt.quantize(x)                    # q.codes, q.scales, q.nbytes, q.dequantize()

docs/formats.md lists the built-in ones, docs/format-language.md how to write another.
"""

from __future__ import annotations

from .accumulate import accumulate_chunked
from .catalog import available, format, from_definition, parse_spelling
from .definition import ScaleDecoding
from .encoding import Range
from .language import FormatSyntaxError
from .number_format import Format
from .quantized_array import QuantizedArray

__all__ = [
    "Format",
    "FormatSyntaxError",
    "QuantizedArray",
    "Range",
    "ScaleDecoding",
    "accumulate_chunked",
    "available",
    "format",
    "from_definition",
    "parse_spelling",
]
