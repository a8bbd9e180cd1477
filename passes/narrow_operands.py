"""
qcc ops read half precision and round their own results, where casts stood beside them.

    y = truncf(qcc.linear(extf(x : f16), w, extf(b : f16)))    =>    y : f16 = qcc.linear(x, w, b)

Exact: the ops compute in fp32 and round once, which is what the casts said. What a GPU reads and
writes then has half the bytes. This is a step of lowering: the reference interpreter runs what is
before it.
"""

from __future__ import annotations

from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from .float_casts import is_cast
from .torch_constants import producer

NARROWED = (
    qcc.LinearOp,
    qcc.MatmulOp,
    qcc.Conv2dOp,
    qcc.EmbeddingOp,
    qcc.RmsNormOp,
    qcc.LayerNormOp,
    qcc.AttentionOp,
)
HALVES = ("f16", "bf16")


def narrow_operands(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if isinstance(op, NARROWED):
            for index, value in enumerate(op.operation.operands):
                op.operation.operands[index] = narrow(value)
            _narrow_result(op.operation)


def narrow(value: ir.Value) -> ir.Value:
    """The half precision tensor that `value` widens, or `value`."""
    op = producer(value)
    if op is None or not is_cast(op):
        return value
    return op.operands[0] if _element(op.operands[0]) in HALVES else value


def _narrow_result(op: Operation) -> None:
    """Give the result the type that all its users round it to, if that is one."""
    users: list[Any] = [use.owner.operation for use in op.results[0].uses]
    if not users or not all(is_cast(user) for user in users):
        return
    elements = {_element(user.results[0]) for user in users}
    if len(elements) != 1 or not elements <= set(HALVES):
        return
    op.results[0].set_type(users[0].results[0].type)
    for user in users:
        user.results[0].replace_all_uses_with(op.results[0])
        user.erase()


def _element(value: ir.Value) -> str:
    return str(ir.RankedTensorType(value.type).element_type)
