"""Which ops of a host function anything needs: what is returned, and what writes caches."""

from __future__ import annotations

from typing import Any


def needed_ops(block: Any) -> set[Any]:
    """The ops of a block, and of those inside, that its results or caches depend on."""
    needed: set[Any] = set()
    _mark(block, needed)
    return needed


def _mark(block: Any, needed: set[Any]) -> None:
    ops = [op.operation for op in block.operations]
    needed.add(ops[-1])
    _mark_operands(ops[-1], needed)
    for op in reversed(ops):
        if op in needed or _touches_cache(op):
            needed.add(op)
            _mark_operands(op, needed)
            for region in op.regions:
                for inner in region.blocks:
                    _mark(inner, needed)


def _mark_operands(op: Any, needed: set[Any]) -> None:
    for value in op.operands:
        if _defines(value) and value.owner.operation not in needed:
            needed.add(value.owner.operation)


def _touches_cache(op: Any) -> bool:
    if op.name != "tile.launch":
        return any(_touches_cache(inner.operation) for region in op.regions
                   for block in region.blocks for inner in block.operations)  # fmt: skip
    pointers = [value.owner.operation for value in op.operands if _defines(value)]
    return any(
        pointer.name == "tile.pointer" and _is_cache(pointer.operands[0]) for pointer in pointers
    )


def _is_cache(value: Any) -> bool:
    return _defines(value) and value.owner.operation.name == "tile.cache"


def _defines(value: Any) -> bool:
    """Whether an op makes the value; an argument of a block has none."""
    return hasattr(value.owner, "operation")
