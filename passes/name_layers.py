"""
Give every layer op its name, as the attribute `layer`.

    %w = qcc.param "blocks.0.q.weight"; qcc.linear %x, %w   =>   … {layer = "blocks.0.q"}

A layer with a weight is named after it, or after the module that reads it where several do (tied
weights); attention and matmul are counted, attention.0, matmul.3.
Recipes, plans and reports speak of layers by these names. Functions of one module that compute
the same layers give them the same names. Exact: only an attribute is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from .torch_constants import producer

WEIGHT_OPERAND = {"qcc.linear": 1, "qcc.conv2d": 1, "qcc.embedding": 0}
COUNTED = ("qcc.attention", "qcc.matmul")
READERS = "qcc.readers"
"""The attribute of a module that gives, for parameters that several modules read, their names."""


def name_layers(module: Operation, _: object = None) -> None:
    readers = _readers(module)
    for function in module.regions[0].blocks[0].operations:
        _name_layers_in(function.operation, readers)
    if readers:
        del module.attributes[READERS]


def _name_layers_in(function: Operation, readers: dict[str, list[str]]) -> None:
    counts: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    layers = list(layer_ops(function))
    users = Counter(weight_symbol(op) for op in layers)
    read: Counter[str] = Counter()
    for op in layers:
        symbol = weight_symbol(op)
        kind = op.name.removeprefix("qcc.")
        if symbol is None:
            name = f"{kind}.{counts[kind]}"
            counts[kind] += 1
        else:
            own = symbol if symbol in readers else symbol.removesuffix(qcc.TRANSPOSE)
            names = readers.get(own, [])
            fits = len(names) == users[symbol]
            name = names[read[symbol]] if fits else own.removesuffix(".weight")
            read[symbol] += 1
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name}@{taken[name]}"
        op.attributes["layer"] = ir.StringAttr.get(name, function.context)


def _readers(module: Operation) -> dict[str, list[str]]:
    """By parameter the names of its readers in program order, which the import leaves behind."""
    if READERS not in module.attributes:
        return {}
    return {
        entry.name: [ir.StringAttr(name).value for name in ir.ArrayAttr(entry.attr)]
        for entry in ir.DictAttr(module.attributes[READERS])
    }


def layer_ops(op: Operation) -> Iterator[Operation]:
    """The ops that recipes address, in program order."""
    named = {*WEIGHT_OPERAND, *COUNTED}
    return (child.operation for child in walk(op) if child.operation.name in named)


def weight_symbol(op: Operation) -> str | None:
    """The parameter that is this layer's weight; None for attention, matmul, computed weights."""
    index = WEIGHT_OPERAND.get(op.name)
    made_by = None if index is None else producer(op.operands[index])
    if made_by is None or made_by.name != "qcc.param":
        return None
    return ir.StringAttr(made_by.attributes["symbol"]).value


def layer_name(op: Operation) -> str:
    return ir.StringAttr(op.attributes["layer"]).value
