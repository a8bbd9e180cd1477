"""
What is known of an index before a kernel runs: a power of two that divides it, and its range.

DMA needs addresses that are multiples of 8; the hardware does not say when they are not, so the
verifier must prove it.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from ..bindings import ir

WORD = 1 << 32
Range = tuple[int, int]
EVERYTHING: Range = (0, WORD - 1)


def constant_of(value: ir.Value) -> int | None:
    """The number of an `arith.constant`, None of anything else."""
    owner: Any = value.owner
    if isinstance(owner, ir.Block) or owner.name != "arith.constant":
        return None
    return ir.IntegerAttr(owner.attributes["value"]).value


def divisor(value: ir.Value) -> int:
    """
    A number that divides the value, a power of two times known factors; 0 of the constant 0.

    The induction variable of a loop is `first + i * step`.
    """
    known = constant_of(value)
    if known is not None:
        return abs(known)
    owner: Any = value.owner
    if isinstance(owner, ir.Block):
        loop = _loop_of(value)
        return 1 if loop is None else gcd(divisor(loop.first), loop.step.value)
    kind, given = owner.name, list(owner.operands)
    if kind in ("arith.addi", "arith.subi", "arith.minui"):
        return gcd(divisor(given[0]), divisor(given[1]))
    if kind == "arith.muli":
        return divisor(given[0]) * divisor(given[1])
    if kind == "arith.shli":
        by = constant_of(given[1])
        return divisor(given[0]) << by if by is not None else 1
    if kind == "arith.andi":
        mask = constant_of(given[1])
        return mask & -mask if mask else 1
    return 1


def range_of(value: ir.Value) -> Range:
    """Least and most of a value, as an unsigned word."""
    known = constant_of(value)
    if known is not None:
        return (known % WORD, known % WORD)
    owner: Any = value.owner
    if isinstance(owner, ir.Block):
        loop = _loop_of(value)
        if loop is None:
            return EVERYTHING
        return range_of(loop.first)[0], _last_index(loop)
    if owner.name == "pim.tasklet":
        return 0, _kernel_of(owner).tasklets.value - 1
    return _combined(owner)


def _last_index(loop: Any) -> int:
    first, most = constant_of(loop.first), max(range_of(loop.last)[1] - 1, 0)
    return most if first is None else max(most - (most - first) % loop.step.value, 0)


def _combined(owner: Any) -> Range:
    """The range of an op of arith, everything where it may wrap."""
    if owner.name not in _RANGES:
        return EVERYTHING
    given = [range_of(each) for each in owner.operands]
    if EVERYTHING in given and owner.name not in ("arith.andi", "arith.minui"):
        return EVERYTHING
    least, most = _RANGES[owner.name](*given)
    return (least, most) if 0 <= least <= most < WORD else EVERYTHING


_RANGES: dict[str, Any] = {
    "arith.addi": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "arith.subi": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "arith.muli": lambda a, b: (a[0] * b[0], a[1] * b[1]),
    "arith.shli": lambda a, b: (a[0] << b[0], a[1] << min(b[1], 32)),
    "arith.andi": lambda a, b: (0, min(a[1], b[1])),
    "arith.minui": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "arith.maxui": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "arith.shrui": lambda a, b: (a[0] >> b[1], a[1] >> b[0]),
}


def _loop_of(argument: ir.Value) -> Any:
    """The `pim.loop` whose induction variable this is, None of other arguments."""
    block: Any = argument.owner
    if ir.BlockArgument(argument).arg_number or block.owner.name != "pim.loop":
        return None
    return block.owner.opview


def _kernel_of(operation: Any) -> Any:
    while operation.name != "pim.kernel":
        operation = operation.parent
    return operation.opview
