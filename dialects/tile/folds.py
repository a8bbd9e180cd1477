"""Reductions that several threads can share: x o y o …, whose parts combine in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..bindings import ir
from .elements import input_count

IDENTITIES: dict[str, float] = {
    "arith.addf": 0.0,
    "arith.mulf": 1.0,
    "arith.maximumf": float("-inf"),
    "arith.minimumf": float("inf"),
    "arith.maxnumf": float("-inf"),
    "arith.minnumf": float("inf"),
    "arith.addi": 0,
    "arith.muli": 1,
    "arith.andi": -1,
    "arith.ori": 0,
    "arith.xori": 0,
}
SHARED_TYPES = ("f32", "f16", "bf16", "i32", "i1")


@dataclass(frozen=True)
class Combination:
    """result = combine(accumulator, source); `identity` changes nothing."""

    op: Any
    identity: float | bool


def combination(generic: Any, result: int) -> Combination | None:
    """How parts of a reduction's result combine; None where its order matters."""
    block = generic.regions[0].blocks[0]
    accumulator = block.arguments[input_count(generic) + result]
    *_, ending = block.operations
    value = ending.operands[result]
    op: Any = value.owner
    if isinstance(op, ir.Block) or op.operation.name not in IDENTITIES:
        return None
    kind = str(value.type)
    if kind not in SHARED_TYPES or list(op.operands).count(accumulator) != 1:
        return None
    if len(list(accumulator.uses)) != 1 or len(list(value.uses)) != 1:
        return None
    identity = IDENTITIES[op.operation.name]
    return Combination(op, identity != 0 if kind == "i1" else identity)
