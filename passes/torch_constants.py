"""Reading the constants that feed torch ops: ints, floats, bools, strings, lists and none."""

from __future__ import annotations

from ..dialects.bindings import Operation, ir


def producer(value: ir.Value) -> Operation | None:
    """The op that makes `value`, None for a block argument."""
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner.operation


def is_none(value: ir.Value) -> bool:
    return str(value.type) == "!torch.none"


def int_constant(value: ir.Value) -> int | None:
    """The value of a constant int or bool."""
    op = producer(value)
    if op is None or op.name not in ("torch.constant.int", "torch.constant.bool"):
        return None
    attribute = op.attributes["value"]
    return int(attribute.value)


def float_constant(value: ir.Value) -> float | None:
    """The value of a constant float or int."""
    op = producer(value)
    if op is not None and op.name == "torch.constant.float":
        return float(ir.FloatAttr(op.attributes["value"]).value)
    whole = int_constant(value)
    return None if whole is None else float(whole)


def string_constant(value: ir.Value) -> str | None:
    op = producer(value)
    if op is None or op.name != "torch.constant.str":
        return None
    return ir.StringAttr(op.attributes["value"]).value


def int_list(value: ir.Value) -> list[int] | None:
    """The values of a list made of constant ints."""
    op = producer(value)
    if op is None or op.name != "torch.prim.ListConstruct":
        return None
    numbers = [int_constant(element) for element in op.operands]
    return (
        None if any(number is None for number in numbers) else [n for n in numbers if n is not None]
    )
