"""
Keep the keys and values of a cache in the formats that they are rounded to.

    %c = qcc.quantize %k : !qcc.packed<…, "int8">      =>      qcc.attention %q, %k, %v, %past
    %d = qcc.dequantize %c                                         {key_format = "int8", …}
    qcc.attention %q, %d, %v, %past

Exact: attention still sees decode(encode(row)) of each row, but what is kept between calls is
encode(row). Only formats whose rows are independent can be appended to. One with a scale of the
whole tensor stays a rounding of each call's rows, in a cache of fp32; so does one that admits
only small values, which nothing checks at run time.
"""

from __future__ import annotations

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.formats import Format, parse_spelling
from ..dialects.regions import walk


def pack_kv_cache(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if isinstance(op, qcc.AttentionOp) and qcc.is_cached(op):
            for attribute, index in qcc.CACHED_OPERANDS.items():
                _store_packed(op.operation, attribute, index)


def can_store(fmt: Format) -> bool:
    """Whether a cache can hold rows of `fmt`, one appended after another."""
    return fmt.rows_independent and fmt.admits is None


def _store_packed(op: Operation, attribute: str, index: int) -> None:
    decoded = op.operands[index].owner
    if not isinstance(decoded, qcc.DequantizeOp):
        return
    encoded = decoded.codes.owner
    spelling = qcc.format_spelling(decoded.codes.type)
    if not isinstance(encoded, qcc.QuantizeOp) or spelling is None:
        return
    if not can_store(parse_spelling(spelling)):
        return
    op.operands[index] = encoded.source
    op.attributes[attribute] = ir.StringAttr.get(spelling, op.context)
    for rounding in (decoded, encoded):
        if not list(rounding.results[0].uses):
            rounding.operation.erase()
