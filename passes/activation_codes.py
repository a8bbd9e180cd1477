"""The codes of rounded activations as kernels read them, in place of what they decode to."""

from __future__ import annotations

from typing import Any

from ..dialects import qcc
from ..dialects.bindings import ir
from ..dialects.formats import parse_spelling
from ..dialects.tile.operand_types import OPERAND_TYPES


def image_layout(operand: str, blocks: bool) -> str:
    """The layout of images of integers: channels of a pixel side by side, in blocks images too."""
    if OPERAND_TYPES[operand].bits == 4:
        return qcc.PAIRED_PIXEL_BLOCKS if blocks else qcc.PAIRED_PIXELS
    return qcc.PIXEL_BLOCKS if blocks else qcc.PIXELS


def integer_layout(spelling: str, operand: str) -> str | None:
    """
    The layout of codes that are read as integers of type `operand`; None where it is the usual one.

    >>> integer_layout("int8", "i8"), integer_layout("int4", "i8"), integer_layout("int4", "i4")
    (None, 'integers', 'pairs')
    """
    if OPERAND_TYPES[operand].bits == 4:
        return qcc.PAIRS
    return None if parse_spelling(spelling).bits == 8 else qcc.INTEGERS


def laid_out(codes: ir.Value, layout: str | None) -> ir.Value:
    """`codes` of a `qcc.quantize` in a layout: of that op, or of one like it."""
    quantize: Any = codes.owner
    if layout is None:
        return codes
    if qcc.layout_of(quantize.operation) is None:
        _set(quantize, layout)
    if qcc.layout_of(quantize.operation) == layout:
        return codes
    for use in quantize.source.uses:
        if _is_like(use.owner, quantize) and qcc.layout_of(use.owner.operation) == layout:
            return use.owner.codes
    with ir.InsertionPoint(quantize.operation), quantize.location:
        other = quantize.operation.clone()
    _set(other, layout)
    return other.results[0]


def _is_like(op: Any, quantize: Any) -> bool:
    if not isinstance(op, qcc.QuantizeOp) or op.codes.type != quantize.codes.type:
        return False
    return qcc.tensor_range_of(op) == qcc.tensor_range_of(quantize)


def _set(quantize: Any, layout: str) -> None:
    quantize.attributes[qcc.LAYOUT_ATTRIBUTE] = ir.StringAttr.get(layout, quantize.context)
