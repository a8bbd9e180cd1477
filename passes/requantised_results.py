"""
Convolutions whose results are rounded to integers for other convolutions, and how to make these.

    y = qcc.conv2d …; z = linalg.generic relu(y); q = qcc.quantize z {range}; qcc.conv2d q …
      =>  an `Ending` (the generic), the quantize, and what numbers of channels the generic reads

A batch norm that stays behind a convolution is such a generic. The rounding is that of the encoder,
since its scale is known; so the kernel of the first convolution can store codes, and nothing else
of the result need exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import ir
from ..dialects.tile.conv_ending import Ending, Step
from ..dialects.tile.integer_activations import requantises

ARITHMETIC = ("arith.addf", "arith.subf", "arith.mulf", "arith.divf", "arith.negf", "arith.cmpf",
              "arith.select", "arith.maxnumf", "arith.minnumf", "math.rsqrt")  # fmt: skip
CASTS = ("arith.extf", "arith.truncf")
FLOATS = ("f32", "f16", "bf16", "f64")


@dataclass
class Requantised:
    """The quantize that takes a result, the ops in between, and tensors of a number a channel."""

    quantize: Any
    ending: Ending
    channels: list[ir.Value]
    generics: list[Any]


def requantised(result: ir.Value) -> Requantised | None:
    """How a result [N, C, H, W] becomes integers of a known scale, and nothing else; or None."""
    chain = _Chain(str(ir.RankedTensorType(result.type).element_type))
    value = result
    while True:
        uses = [use for use in value.uses if use.owner.operation.name != "tensor.dim"]
        if len(uses) != 1:
            return None
        user = uses[0].owner
        if isinstance(user, qcc.QuantizeOp):
            break
        if not chain.takes(user, value):
            return None
        value = user.operation.results[0]
    spelling = qcc.format_spelling(user.codes.type)
    if qcc.tensor_range_of(user) is None or spelling is None or not requantises(spelling):
        return None
    return Requantised(user, chain.ending(), chain.channels, chain.generics)


@dataclass
class _Chain:
    """Generics one after the other, read into steps; numbers of channels come after all."""

    result: str
    channels: list[ir.Value] = field(default_factory=list)
    generics: list[Any] = field(default_factory=list)
    steps: list[tuple[str, tuple[Any, ...], str, float | int | None]] = field(default_factory=list)
    value: Any = "result"

    def takes(self, op: Any, value: ir.Value) -> bool:
        """Adds a generic that computes each element of one element of `value`; else False."""
        if op.operation.name != "linalg.generic" or not _is_elementwise(op, value):
            return False
        body = op.operation.regions[0].blocks[0]
        known: dict[Any, Any] = {}
        *inputs, _ = op.operation.operands
        *arguments, _ = body.arguments
        for operand, argument in zip(inputs, arguments, strict=True):
            known[argument] = self.value if operand == value else self._channel(operand)
        *inside, ending = body.operations
        for each in inside:
            if not self._step(each, known):
                return False
        found = self._known(ending.operation.operands[0], known)
        if found is None:
            return False
        self.value = found
        self.generics.append(op)
        return True

    def _channel(self, operand: ir.Value) -> tuple[str, int]:
        if operand not in self.channels:
            self.channels.append(operand)
        return "channel", self.channels.index(operand)

    def _step(self, op: Any, known: dict[Any, Any]) -> bool:
        name, result = op.operation.name, op.operation.results[0]
        if name == "arith.truncf" and (number := _number(op.operation.operands[0])) is not None:
            return self._constant(number, result, known)
        if name not in (*ARITHMETIC, *CASTS, "arith.constant"):
            return False
        if name == "arith.constant":
            number = _number(result)
            return number is not None and self._constant(number, result, known)
        operands = tuple(self._known(each, known) for each in op.operation.operands)
        kinds = {str(each.type) for each in op.operation.operands}
        if None in operands or (name in ARITHMETIC and not kinds <= {"f32", "i1"}):
            return False
        if str(result.type) != "f32" and not any(map(self._is_of_result, operands)):
            return False  # what is the same for a whole channel is held in fp32
        predicate = op.operation.attributes
        attribute = ir.IntegerAttr(predicate["predicate"]).value if name == "arith.cmpf" else None
        known[result] = self._add(name, operands, str(result.type), attribute)
        return True

    def _is_of_result(self, value: Any) -> bool:
        """Whether a value follows from the result, or from numbers of channels alone."""
        if value == "result":
            return True
        kind, index = value
        return kind == "step" and any(map(self._is_of_result, self.steps[index][1]))

    def _constant(self, number: float, result: ir.Value, known: dict[Any, Any]) -> bool:
        known[result] = self._add("arith.constant", (), str(result.type), number)
        return str(result.type) == "f32"

    def _known(self, value: ir.Value, known: dict[Any, Any]) -> Any:
        """What a value of a body is; a constant outside of it becomes a step."""
        if value not in known and (number := _number(value)) is not None:
            self._constant(number, value, known)
        return known.get(value)

    def _add(self, *step: Any) -> tuple[str, int]:
        self.steps.append(step)
        return "step", len(self.steps) - 1

    def ending(self) -> Ending:
        def number(value: Any) -> int:
            if value == "result":
                return 0
            kind, index = value
            return 1 + index + (len(self.channels) if kind == "step" else 0)

        steps = tuple(
            Step(name, tuple(map(number, operands)), kind, attribute)
            for name, operands, kind, attribute in self.steps
        )
        return Ending(self.result, len(self.channels), steps, number(self.value))


def _number(value: ir.Value) -> float | None:
    """A constant float."""
    owner: Any = value.owner
    if isinstance(owner, ir.Block) or owner.operation.name != "arith.constant":
        return None
    if str(value.type) not in FLOATS:
        return None
    return float(ir.FloatAttr(owner.operation.attributes["value"]).value)


def _is_elementwise(op: Any, value: ir.Value) -> bool:
    """One result, each element of it of one element of `value`, others of one number a channel."""
    maps = [ir.AffineMapAttr(each).value for each in op.operation.attributes["indexing_maps"]]
    if len(op.operation.results) != 1 or any("parallel" not in str(each) for each in _loops(op)):
        return False
    *inputs, result = maps
    rank = ir.RankedTensorType(value.type).rank
    if rank != 4 or not _is_identity(result):
        return False
    for map_, operand in zip(inputs, op.operation.operands, strict=False):
        if operand == value:
            if not _is_identity(map_):
                return False
        elif not _is_by_channel(map_, operand):
            return False
    body = op.operation.regions[0].blocks[0]
    return not list(body.arguments[len(inputs)].uses)


def _loops(op: Any) -> Iterator[Any]:
    yield from ir.ArrayAttr(op.operation.attributes["iterator_types"])


def _is_identity(map_: ir.AffineMap) -> bool:
    return map_ == ir.AffineMap.get_identity(4)


def _is_by_channel(map_: ir.AffineMap, operand: ir.Value) -> bool:
    """Whether an operand has one number for each channel, and the map finds it by that alone."""
    channel, zero = ir.AffineExpr.get_dim(1), ir.AffineExpr.get_constant(0)
    shape = ir.RankedTensorType(operand.type).shape
    results = list(map_.results)
    if any(each not in (channel, zero) for each in results) or results.count(channel) != 1:
        return False
    return (
        all(size == 1 for size, each in zip(shape, results, strict=True) if each != channel)
        and str(ir.RankedTensorType(operand.type).element_type) == "f32"
    )
