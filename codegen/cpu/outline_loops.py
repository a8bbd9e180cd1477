"""
Move each buffer-level linalg op into a function of its own, shared by equal ops.

    linalg.generic ins(%a) outs(%b) {…}   =>   call @loop_3(%a, %b)

A model repeats its layers, so most of its linalg ops are equal up to the buffers they touch. Each
distinct one is compiled once, and the main function stays a list of calls. Exact.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...dialects.bindings import Operation, func, ir
from ...dialects.regions import walk

OUTLINED = ("linalg.", "tm_tensor.")
LOOP_NAMES = "loop_"


def outline_loops(module: ir.Module) -> None:
    functions: dict[str, str] = {}
    for op in list(_loop_ops(module)):
        captured = _captured(op)
        name = f"{LOOP_NAMES}{len(functions)}"
        body = _function_around(module, op, captured, name)
        key = body.operation.get_asm(use_local_scope=True).replace(f"@{name}(", "@(")
        if key in functions:
            body.operation.erase()
        name = functions.setdefault(key, name)
        with ir.InsertionPoint(op), op.location:
            func.call([], name, [value for value in captured if not _is_constant(value)])
        op.erase()


def _loop_ops(module: ir.Module) -> Iterator[Operation]:
    for function in module.body.operations:
        if function.operation.name == "func.func":
            for region in function.regions:
                for block in region.blocks:
                    for op in block.operations:
                        if op.operation.name.startswith(OUTLINED) and not op.results:
                            yield op.operation


def _captured(op: Operation) -> list[ir.Value]:
    """What the op reads from outside: its operands and the values its region captures."""
    values = list(dict.fromkeys(op.operands))
    nested = [each.operation for each in walk(op)]
    inside = set(nested)
    for child in nested:
        for operand in child.operands:
            owner = operand.owner
            local = (
                owner.owner.operation in inside | {op}
                if isinstance(owner, ir.Block)
                else owner.operation in inside
            )
            if not local and operand not in values:
                values.append(operand)
    return values


def _function_around(
    module: ir.Module, op: Operation, captured: list[ir.Value], name: str
) -> func.FuncOp:
    variables = [value for value in captured if not _is_constant(value)]
    type_ = ir.FunctionType.get([value.type for value in variables], [])
    with ir.InsertionPoint.at_block_begin(module.body), ir.Location.unknown():
        function = func.FuncOp(name, type_, visibility="private")
        function.attributes["no_inline"] = ir.UnitAttr.get()
        block = function.add_entry_block()
        with ir.InsertionPoint(block):
            copy = op.clone()
            func.return_([])
        # Constants move along: a loop over a known exponent or bound compiles to better code.
        constants = [value for value in captured if _is_constant(value)]
        with ir.InsertionPoint.at_block_begin(block):
            copies = [_made_by(value).clone().results[0] for value in constants]
    inside = [*zip(variables, block.arguments, strict=True), *zip(constants, copies, strict=True)]
    for value, argument in inside:
        for user in (copy, *(each.operation for each in walk(copy))):
            for index, operand in enumerate(user.operands):
                if operand == value:
                    user.operands[index] = argument
    return function


def _is_constant(value: ir.Value) -> bool:
    return not isinstance(value.owner, ir.Block) and _made_by(value).name == "arith.constant"


def _made_by(value: ir.Value) -> Operation:
    assert not isinstance(value.owner, ir.Block)
    return value.owner.operation
