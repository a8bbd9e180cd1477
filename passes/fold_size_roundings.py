"""
Sizes that go through floats and back are themselves.

    %f = arith.sitofp %n : i64 to f32
    %c = math.ceil %f                      =>   %n
    %m = arith.fptoui %c : f32 to i64

So `torch.arange(n, dtype=torch.float32)` asks how long it is. Exact, and nearer to torch than the
ops are: beyond 2^24 a float rounds, while torch counts in doubles.
"""

from __future__ import annotations

from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from .torch_constants import producer

BACK = ("arith.fptosi", "arith.fptoui")
INTEGRAL = ("math.ceil", "math.floor", "math.roundeven", "arith.extf")


def fold_size_roundings(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if op.operation.name in BACK:
            _fold(op.operation)


def _fold(op: Operation) -> None:
    source = producer(op.operands[0])
    while source is not None and source.name in INTEGRAL:
        source = producer(source.operands[0])
    if source is None or source.name not in ("arith.sitofp", "arith.uitofp"):
        return
    number = source.operands[0]
    if number.type == op.results[0].type == ir.IntegerType.get_signless(64, op.context):
        op.results[0].replace_all_uses_with(number)
        op.erase()
