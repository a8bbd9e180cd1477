"""Constants: lookup tables of products of codes, built by lookup_tables.py (spec pim.md §1)."""

from typing import Any

from ..bindings import Result, ext, ir
from ..errors import QccError
from .dialect import Pim
from .lookup_tables import TablePair


class PackedTableOp(Pim.Operation, name="packed_table", traits=[ext.Pure]):
    """
    table[column, r] = Σ W(w_i) · A(a_i), for packed codes column and r of p activations and
    weights, the first lowest.
    """

    weights: Any
    activations: Any
    p: ir.IntegerAttr
    table: Result[Any]

    def verify_invariants(self) -> bool:
        return _shape_is(self, "packed")


class CanonicalTableOp(Pim.Operation, name="canonical_table", traits=[ext.Pure]):
    """The columns of the packed table whose activation codes ascend, in the order of their rank."""

    weights: Any
    activations: Any
    p: ir.IntegerAttr
    table: Result[Any]

    def verify_invariants(self) -> bool:
        return _shape_is(self, "canonical")


class ReorderTableOp(Pim.Operation, name="reorder_table", traits=[ext.Pure]):
    """table[π, r] = the code r with its weights permuted by π, for each π of a stable sort."""

    weights: Any
    activations: Any
    p: ir.IntegerAttr
    table: Result[Any]

    def verify_invariants(self) -> bool:
        return _shape_is(self, "reorder")


def pair_of(op: Any) -> TablePair:
    """The code books of a table op."""
    weights, activations = (
        tuple(ir.DenseI64ArrayAttr(each)) for each in (op.weights, op.activations)
    )
    return TablePair(weights, activations, op.p.value)


def _shape_is(op: Any, kind: str) -> bool:
    try:
        want = pair_of(op).shape(kind)
    except QccError as error:
        op.location.emit_error(f"{op.operation.name}: {error.what}")
        return False
    tensor = ir.RankedTensorType(op.table.type)
    have = (*tensor.shape, str(tensor.element_type))
    if have != want:
        op.location.emit_error(f"{op.operation.name}: the table is {want}, not {have}")
        return False
    return True
