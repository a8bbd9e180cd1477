"""
Free each buffer right after its last use.

    %a = alloc; use(%a); …; dealloc %a; return   =>   %a = alloc; use(%a); dealloc %a; …; return

Buffer deallocation frees at the end of a block, which keeps every intermediate of a model alive
at once. A buffer's uses include those of its views and of its address as an integer, so the
dealloc may move up to just behind the last of them; nothing else can observe the move.
"""

from __future__ import annotations

from ...dialects.bindings import Operation, ir

ADDRESS_OPS = {
    "arith.index_cast",
    "memref.extract_aligned_pointer_as_index",
    "memref.extract_strided_metadata",
}


def hoist_deallocations(module: ir.Module) -> None:
    for function in module.body.operations:
        if function.operation.name == "func.func":
            for region in function.regions:
                for block in region.blocks:
                    _hoist_in(block)


def _hoist_in(block: ir.Block) -> None:
    order = {op.operation: index for index, op in enumerate(block.operations)}
    operations = [op.operation for op in block.operations]
    for op in operations:
        if op.name != "memref.dealloc":
            continue
        last = _last_use(op, op.operands[0], block, order)
        if last is not None:
            op.move_after(operations[last])


def _last_use(
    dealloc: Operation, buffer: ir.Value, block: ir.Block, order: dict[Operation, int]
) -> int | None:
    """Position of the last op of `block` that touches `buffer` or an alias of it."""
    last, pending = None, [buffer]
    while pending:
        for use in pending.pop().uses:
            user = use.owner.operation
            if user == dealloc:
                continue
            position = order.get(_ancestor_in(user, block))
            if position is None:
                return None
            last = position if last is None else max(last, position)
            pending.extend(result for result in user.results if _may_alias(use, result))
    return last


def _ancestor_in(op: Operation, block: ir.Block) -> Operation:
    while op.block != block:
        op = op.parent.operation
    return op


def _may_alias(use: ir.OpOperand, result: ir.Value) -> bool:
    """Views have buffer type; an address may also travel as an integer."""
    user = use.owner.operation
    if user.name == "memref.reshape" and use.operand_number != 0:
        return False  # the buffer that holds the shape
    return user.name in ADDRESS_OPS or isinstance(
        result.type, ir.MemRefType | ir.UnrankedMemRefType
    )
