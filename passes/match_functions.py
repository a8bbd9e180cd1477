"""
What a value of a program is a function of: found by computing it, so any spelling is known.

    sigmoid = 1 / (1 + exp(0 - x)), silu = x · sigmoid, in as many ops as there are
      =>  silu of x
    exp(x - m) / Σ exp(x - m) along the last axis, m one number a row   =>  softmax of x
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..dialects.bindings import arith, ir, linalg, tensor
from ..dialects.errors import QccError
from ..dialects.interpreter.frame import Frame
from ..dialects.interpreter.program import Step
from ..dialects.interpreter.rules import arith as arith_rules
from ..dialects.interpreter.rules import math as math_rules
from ..dialects.pim.smooth import Smooth

Array = NDArray[Any]
SCALARS = arith_rules.RULES | math_rules.RULES
ALIKE = 5e-6
"""How far a value may be from what it is taken for: fp32, and the erf of piecewise.py."""
COMPUTING = ("linalg", "arith", "tensor")
"""Dialects of ops that functions are spelled in."""
MOST_OPS = 48
"""Between a function and its number; mish in the words of torch takes 24."""


def source_of(value: ir.Value, smooth: Smooth) -> ir.Value | None:
    """The tensor that `value` is the function `smooth` of, number by number; None if of none."""
    kind = value.type
    if not isinstance(kind, ir.RankedTensorType) or not isinstance(kind.element_type, ir.F32Type):
        return None
    x = smooth.samples()
    wanted = smooth.function(x.astype(np.float64))
    for source in _ancestors(value):
        found = _Sampled(source, x).of(value)
        if found is not None and _alike(found, wanted):
            return source
    return None


def _alike(found: Array, wanted: Array) -> bool:
    far = np.abs(found - wanted)
    return bool((far <= ALIKE * np.maximum(1, np.abs(wanted))).all())


def _ancestors(value: ir.Value) -> Iterator[ir.Value]:
    """Tensors of the value's type that it is computed from number by number, the nearest first."""
    seen, waiting = {value}, [value]
    while waiting and len(seen) <= MOST_OPS:
        op = elementwise(waiting.pop(0))
        for each, map_ in inputs_of(op) if op is not None else []:
            if each not in seen and is_identity(map_):
                seen.add(each)
                waiting.append(each)
                if each.type == value.type and constant_of(each) is None:
                    yield each


@dataclass
class _Sampled:
    """Values as functions of `source`, at the numbers x."""

    source: ir.Value
    x: Array
    known: dict[Any, Array | None] = field(default_factory=dict)

    def of(self, value: ir.Value) -> Array | None:
        """None of what depends on anything else."""
        if value == self.source:
            return self.x
        if value not in self.known:
            self.known[value] = self._computed(value)
        return self.known[value]

    def _computed(self, value: ir.Value) -> Array | None:
        constant = constant_of(value)
        if constant is not None:
            return constant
        op = elementwise(value)
        if op is None or len(self.known) > MOST_OPS:
            return None
        operands = []
        for each, map_ in inputs_of(op):
            known = self.of(each) if _reads_each(map_) else constant_of(each)
            if known is None:
                return None
            operands.append(known)
        return _scalars(op.operation.regions[0].blocks[0], operands)


def _scalars(block: ir.Block, operands: list[Array]) -> Array | None:
    """What a body makes of its inputs; None where it has other ops, or reads the output."""
    values: dict[Any, Array] = dict(zip(block.arguments, operands, strict=False))
    for op in block.operations:
        name, given = op.operation.name, []
        for each in op.operation.operands:
            known = values[each] if each in values else scalar_constant(each)
            if known is None:
                return None
            given.append(known)
        if name == "linalg.yield":
            return given[0]
        if name not in SCALARS or len(op.operation.results) != 1:
            return None
        step = Step(name, op.operation, (), (), (), frozenset())
        with np.errstate(all="ignore"):
            try:
                made = SCALARS[name](step, given, cast(Frame, None))
            except (QccError, AttributeError):
                return None
        values[op.operation.results[0]] = np.asarray(made)
    return None


def elementwise(value: ir.Value) -> Any:
    """The generic of one result that makes a value number by number, None of other values."""
    owner: Any = value.owner
    op = None if isinstance(owner, ir.Block) else owner.opview
    if not isinstance(op, linalg.GenericOp) or len(op.operation.results) != 1:
        return None
    maps = _maps(op)
    parallel = all("parallel" in str(each) for each in op.iterator_types)
    return op if parallel and is_identity(maps[-1]) else None


def inputs_of(op: Any) -> list[tuple[ir.Value, ir.AffineMap]]:
    return list(zip(op.inputs, _maps(op), strict=False))


def _maps(op: Any) -> list[ir.AffineMap]:
    return [ir.AffineMapAttr(each).value for each in op.indexing_maps]


def is_identity(map_: ir.AffineMap) -> bool:
    return map_ == ir.AffineMap.get_identity(map_.n_dims)


def _reads_each(map_: ir.AffineMap) -> bool:
    """Each number in its place, or the one that there is."""
    return is_identity(map_) or not list(map_.results)


def constant_of(value: ir.Value) -> Array | None:
    """The one number of a tensor that holds no other."""
    owner: Any = value.owner
    op = None if isinstance(owner, ir.Block) else owner.opview
    if isinstance(op, linalg.FillOp):
        return scalar_constant(op.inputs[0])
    if not isinstance(op, arith.ConstantOp) or not isinstance(op.value, ir.DenseElementsAttr):
        return None
    return _number(op.value.get_splat_value()) if op.value.is_splat else None


def scalar_constant(value: ir.Value) -> Array | None:
    owner: Any = value.owner
    op = None if isinstance(owner, ir.Block) else owner.opview
    return _number(op.value) if isinstance(op, arith.ConstantOp) else None


def _number(attribute: ir.Attribute) -> Array | None:
    if isinstance(attribute, ir.FloatAttr) and str(attribute.type) in ("f32", "f64"):
        return np.array(attribute.value, np.float32 if str(attribute.type) == "f32" else np.float64)
    if isinstance(attribute, ir.IntegerAttr):
        width = attribute.type.width if isinstance(attribute.type, ir.IntegerType) else 64
        return np.array(attribute.value, {1: np.bool_, 32: np.int32}.get(width, np.int64))
    return None


# ---- softmax


def softmax_source(value: ir.Value) -> ir.Value | None:
    """The scores that `value` is the softmax of, along the last axis; None if it is none."""
    quotient = elementwise(value)
    parts = inputs_of(quotient) if quotient is not None and _is_body(quotient, "arith.divf") else []
    if len(parts) != 2 or not is_identity(parts[0][1]) or not _one_a_row(parts[1][1]):
        return None
    (powers, _), (total, _) = parts
    exponential = elementwise(powers)
    if exponential is None or not _sums_rows(total, powers):
        return None
    given = inputs_of(exponential)
    if len(given) == 1 and _is_body(exponential, "math.exp"):
        return _without_shift(given[0][0])
    if len(given) == 2 and _is_body(exponential, "arith.subf", "math.exp"):
        return given[0][0] if is_identity(given[0][1]) and _one_a_row(given[1][1]) else None
    return None


def _without_shift(scores: ir.Value) -> ir.Value:
    """x of x - m: a number for each row does not change its softmax."""
    op = elementwise(scores)
    given = inputs_of(op) if op is not None and _is_body(op, "arith.subf") else []
    shifts = len(given) == 2 and is_identity(given[0][1]) and _one_a_row(given[1][1])
    return given[0][0] if shifts else scores


def _one_a_row(map_: ir.AffineMap) -> bool:
    """Whether all loops but the last count through an array, in their order."""
    found = list(map_.results)
    rows = [ir.AffineExpr.get_dim(axis) for axis in range(map_.n_dims - 1)]
    return map_.n_dims > 0 and found in (rows, [*rows, ir.AffineExpr.get_constant(0)])


def _sums_rows(total: ir.Value, powers: ir.Value) -> bool:
    """Whether a value is the sum of the rows of another."""
    owner: Any = total.owner
    op = None if isinstance(owner, ir.Block) else owner.opview
    if isinstance(op, tensor.ExpandShapeOp):
        return _sums_rows(op.src, powers)
    if not isinstance(op, linalg.GenericOp) or len(op.operation.results) != 1:
        return False
    maps, given = _maps(op), list(op.inputs)
    kinds = ["reduction" in str(each) for each in op.iterator_types]
    if given != [powers] or not is_identity(maps[0]) or not _one_a_row(maps[1]):
        return False
    start = constant_of(op.outputs[0])
    adds = _is_body(op, "arith.addf", reads_output=True)
    return adds and kinds[-1] and not any(kinds[:-1]) and start is not None and start == 0


def _is_body(op: Any, *names: str, reads_output: bool = False) -> bool:
    """Whether a body is a chain of these ops, of its arguments in their order."""
    block = op.operation.regions[0].blocks[0]
    *ops, last = block.operations
    if [each.operation.name for each in ops] != list(names):
        return False
    arguments = list(block.arguments) if reads_output else list(block.arguments)[:-1]
    first = list(ops[0].operation.operands)
    chained = all(
        list(after.operation.operands) == list(before.operation.results)
        for before, after in zip(ops, [*ops[1:], last], strict=True)
    )
    return chained and (first == arguments or (reads_output and first == arguments[::-1]))


def between(value: ir.Value, source: ir.Value) -> set[ir.Value]:
    """What a value is made of, up to its source."""
    found, waiting = set[ir.Value](), [value]
    while waiting:
        each = waiting.pop()
        owner: Any = each.owner
        if each == source or each in found or isinstance(owner, ir.Block):
            continue
        found.add(each)
        if owner.name.partition(".")[0] in COMPUTING:
            waiting += owner.operands
    return found


def erase_dead(value: ir.Value, erased: set[ir.Value]) -> None:
    """The op of a value that nothing reads, and those that only it read; their values go along."""
    if value in erased:
        return
    owner: Any = value.owner
    if isinstance(owner, ir.Block) or any(any(each.uses) for each in owner.results):
        return
    if owner.name.partition(".")[0] not in COMPUTING:
        return
    operands = dict.fromkeys(owner.operands)
    erased.update(owner.results)
    owner.erase()
    for each in operands:
        erase_dead(each, erased)
