"""
What no kernel can count: tensors of 2^31 elements and more, refused before anything is emitted.

Sizes that are open are checked when a call gives them.
"""

from __future__ import annotations

from math import prod

from ...dialects import qcc
from ...dialects.bindings import Operation, ir
from ...dialects.regions import walk
from ...dialects.source_line import source_line
from .limits import MOST_ELEMENTS, too_many

BY_ROWS = ("qcc.linear", "qcc.conv2d")
"""Ops whose kernels find the rows of a packed weight with 64 bits."""


def check_counts(module: Operation) -> None:
    """Raises UnsupportedError for the first tensor of a static size that is too large."""
    for op in walk(module):
        blocks = [block for region in op.operation.regions for block in region.blocks]
        for value in [*op.operation.results, *(each for b in blocks for each in b.arguments)]:
            count = _elements(value)
            if count > MOST_ELEMENTS:
                raise too_many(count, f"a tensor {value.type}", source_line(op.operation.location))


def _elements(value: ir.Value) -> int:
    """Of a tensor; 0 where its size is open, or kernels count it otherwise."""
    packed = qcc.is_packed(value.type)
    if packed and all(use.owner.operation.name in BY_ROWS for use in value.uses):
        return 0
    shape = qcc.logical_type(value.type) if packed else value.type
    if not isinstance(shape, ir.RankedTensorType) or not shape.has_static_shape:
        return 0
    return prod(shape.shape)
