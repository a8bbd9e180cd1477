"""
Choose how many bytes stand for a value of fp32 x in each linear layer with packed weights.

    qcc.linear %x, %w : (tensor<?x4096xf32>, !qcc.packed<…, "amxfp4">)  =>  … {x_bytes = 2}

Each byte of x is a byte dot product. Three of them take less time than reading most weights, so
that two are chosen where a byte of weights takes part in many products: two or three bits a weight,
or four of which each sign has sums of its own. In shorter rows most blocks of x would need three
bytes anyhow. An option makes the same choice for all layers.

dialects/cpu/x_bytes.py says how exact a layer is then. Codes of x, and plain weights, are none of
this pass's business.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.cpu.x_bytes import FEWEST, MOST, X_BYTES_ATTRIBUTE
from ..dialects.formats import parse_spelling
from ..dialects.regions import walk

MANY_PRODUCTS = 8
"""Of each byte of weights, with `MOST` bytes of x."""
LEAST_K = 1024
LOOKED_UP_BITS = 1
"""Products of so narrow weights are found in tables (codegen/cpu/lookups.py)."""


def assign_x_bytes(count: int | None = None) -> Callable[[Operation, object], None]:
    """For all layers `count`, or what each one's weights suggest."""

    def apply(module: Operation, _: object = None) -> None:
        for op in walk(module):
            if isinstance(op, qcc.LinearOp) and qcc.rounding_of(op.input) is None:
                _assign(op, count)

    return apply


def _assign(op: qcc.LinearOp, count: int | None) -> None:
    spelling = qcc.format_spelling(op.weight.type)
    if spelling is None or (count is None and not _many_products(op, spelling)):
        return
    number = ir.IntegerType.get_signless(64, op.context)
    op.operation.attributes[X_BYTES_ATTRIBUTE] = ir.IntegerAttr.get(number, count or FEWEST)


def _many_products(op: qcc.LinearOp, spelling: str) -> bool:
    fmt, (_, k) = parse_spelling(spelling), qcc.logical_type(op.weight.type).shape
    operands = 2 if fmt.splits_signs else 1
    products = MOST * operands * 8 // fmt.stored_bits
    return products >= MANY_PRODUCTS and fmt.stored_bits > LOOKED_UP_BITS and k >= LEAST_K
