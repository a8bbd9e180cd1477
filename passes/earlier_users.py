"""What already reads a value and can be read again where ops are being inserted."""

from __future__ import annotations

from collections.abc import Iterator

from ..dialects.bindings import Operation, ir


def earlier_users(value: ir.Value) -> Iterator[Operation]:
    """The users of `value` in the block of the current insertion point, and before it."""
    here = ir.InsertionPoint.current
    before = here.ref_operation
    for use in value.uses:
        user = use.owner.operation
        if user.block == here.block and (
            before is None or user.is_before_in_block(before.operation)
        ):
            yield user
