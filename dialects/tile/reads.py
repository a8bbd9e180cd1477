"""What an element is computed from, found without writing a line: loads, reductions, functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..bindings import ir
from .elements import (
    Chosen,
    Computed,
    Folded,
    Moved,
    Place,
    element,
    input_count,
    is_splat,
    operand_at,
)
from .extents import Extents
from .index import Index, Loaded, Variable, atoms, variables

COSTLY = frozenset(
    f"math.{name}"
    for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh",
        "sinh", "cosh", "erf", "powf", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh",
    )
)  # fmt: skip
"""Functions of dozens of instructions: not worth computing again for every element of a row."""

Variables = frozenset[Variable]


@dataclass(frozen=True)
class Load:
    """An element of a stored tensor; `guarded` where only some elements of the result read it."""

    tensor: ir.Value
    place: Place
    guarded: bool


@dataclass(frozen=True)
class Body:
    """
    What a scalar of a region is made of: values that are no plain arithmetic, in order, and of each
    expensive function the values that it is made of.
    """

    leaves: tuple[ir.Value, ...]
    costly: tuple[tuple[ir.Value, tuple[ir.Value, ...]], ...]


class Bodies:
    """The bodies of regions, each followed once, however many elements are asked for."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Body] = {}

    def of(self, value: ir.Value) -> Body:
        if value not in self._known:
            self._known[value] = self._followed(value)
        return self._known[value]

    def _followed(self, value: ir.Value) -> Body:
        owner: Any = value.owner
        block, leaves, costly = owner.operation.block, dict[ir.Value, None](), dict[Any, Any]()
        for operand in owner.operands:
            if not _is_arithmetic(operand, block):
                leaves[operand] = None
                continue
            inner = self.of(operand)
            leaves |= dict.fromkeys(inner.leaves)
            costly |= dict(inner.costly)
        if owner.operation.name in COSTLY:
            costly[value] = tuple(leaves)
        return Body(tuple(leaves), tuple(costly.items()))


NO_ARITHMETIC = ("linalg.index", "tensor.dim", "arith.constant", "tensor.extract")


def _is_arithmetic(value: ir.Value, block: Any) -> bool:
    """Whether a value is computed in a block from others there."""
    owner: Any = value.owner
    if isinstance(owner, ir.Block) or owner.operation.block != block:
        return False
    return owner.operation.name not in NO_ARITHMETIC


@dataclass
class Reads:
    """
    All that the elements asked for are computed from.

    `inside` says which ops are computed; the results of others are loaded. `folds` are in the
    order in which they can be computed, each with the number of its stage.
    """

    extents: Extents
    inside: Callable[[Any], bool] = lambda op: True
    bodies: Bodies = field(default_factory=Bodies)
    loads: list[Load] = field(default_factory=list)
    folds: dict[tuple[Any, Place], tuple[Folded, int]] = field(default_factory=dict)
    costly: list[Variables] = field(default_factory=list)
    nested: bool = False
    _known: dict[Any, tuple[Variables, int]] = field(default_factory=dict)
    _counted: set[Any] = field(default_factory=set)
    _guards: int = 0
    _loops: int = 0

    def read(self, tensor: ir.Value, place: Place) -> tuple[Variables, int]:
        """The variables that an element depends on, and the stage of its last reduction."""
        key = tensor, place, self._guards > 0
        if key not in self._known:
            self._known[key] = self._read(tensor, place)
        return self._known[key]

    def _read(self, tensor: ir.Value, place: Place) -> tuple[Variables, int]:
        if not isinstance(tensor.type, ir.RankedTensorType):
            return self._scalar(tensor, ())
        maker, made = _maker(tensor), None
        if maker is not None and self.inside(maker):
            if maker.operation.name == "tensor.empty" or is_splat(maker):
                return frozenset(), 0
            made = element(tensor, place, self.extents)
        match made:
            case Moved(value, at):
                return self.read(value, at)
            case Chosen(cases):
                return self._cases(cases)
            case Computed(op, result, point):
                *_, ending = op.regions[0].blocks[0].operations
                return self._scalar(ending.operands[result], point)
            case Folded():
                return self._fold(made)
        self.loads.append(Load(tensor, place, self._guards > 0))
        return _variables(place), 0

    def _cases(self, cases: Sequence[Any]) -> tuple[Variables, int]:
        found = []
        self._guards += len(cases) > 1
        for conditions, moved in cases:
            found.append(self.read(moved.value, moved.place))
            for each in conditions:
                found.append((variables(each.left) | variables(each.right), 0))
        self._guards -= len(cases) > 1
        return _joined(found)

    def _fold(self, fold: Folded) -> tuple[Variables, int]:
        outer = _variables(fold.outer)
        key = fold.op, fold.outer
        if key not in self.folds:
            if self._loops and any(v.name.startswith("fold") for v in outer):
                self.nested = True
            number = self._loops
            self._loops += 1
            names = [
                Index.of(Variable(f"fold{number}_{axis}", extent))
                for axis, extent in enumerate(fold.columns)
            ]
            found = self.read_body(fold, fold.at(names))
            at = fold.at([Index.of(0)] * len(fold.columns))
            for result in range(len(fold.op.results)):
                start = operand_at(fold.op, input_count(fold.op) + result, at)
                found.append(self.read(start.value, start.place))
            self.folds[key] = fold, 1 + _joined(found)[1]
        return outer, self.folds[key][1]

    def read_body(self, fold: Folded, point: Place) -> list[tuple[Variables, int]]:
        """What one turn of a reduction needs beside its totals."""
        block = fold.op.regions[0].blocks[0]
        for each in block.arguments[input_count(fold.op) :]:
            self._known[each, point, True] = self._known[each, point, False] = frozenset(), 0
        *_, ending = block.operations
        return [self._scalar(value, point) for value in ending.operands]

    def of_columns(self, lane: Variable) -> list[Load]:
        """Without those inside of the reductions' own loops, which `read_body` asked for."""
        return [
            load
            for load in self.loads
            if not any(v.name.startswith("fold") for i in load.place for v in variables(i))
        ]

    def _scalar(self, value: ir.Value, point: Place) -> tuple[Variables, int]:
        key = value, point, self._guards > 0
        if key not in self._known:
            self._known[key] = self._computed(value, point)
        return self._known[key]

    def _computed(self, value: ir.Value, point: Place) -> tuple[Variables, int]:
        owner: Any = value.owner
        if isinstance(owner, ir.Block):
            generic: Any = owner.owner
            if generic.operation.name != "linalg.generic":
                return frozenset(), 0
            moved = operand_at(generic, ir.BlockArgument(value).arg_number, point)
            return self.read(moved.value, moved.place)
        name = owner.operation.name
        if name == "linalg.index":
            return variables(point[ir.IntegerAttr(owner.attributes["dim"]).value]), 0
        if name in ("tensor.dim", "arith.constant"):
            return frozenset(), 0
        if name == "tensor.extract":
            return self._extracted(owner, point)
        body = self.bodies.of(value)
        found = {each: self._operand(owner, each, point) for each in body.leaves}
        for function, leaves in body.costly:
            key = function, point, self._guards > 0
            if key not in self._counted:
                self._counted.add(key)
                self.costly.append(_joined(found[each] for each in leaves)[0])
        return _joined(found.values())

    def _operand(self, owner: Any, value: ir.Value, point: Place) -> tuple[Variables, int]:
        block = owner.operation.block
        mine = value.owner if isinstance(value.owner, ir.Block) else value.owner.operation.block
        return self._scalar(value, point if mine == block else ())

    def _extracted(self, op: Any, point: Place) -> tuple[Variables, int]:
        tensor, *indices = op.operands
        found = [self._operand(op, each, point) for each in indices]
        place = tuple(
            Index.of(Loaded((each, point), variables_))
            for each, (variables_, _) in zip(indices, found, strict=True)
        )
        return _joined([*found, self.read(tensor, place)])


def staged_folds(
    outputs: Iterable[tuple[ir.Value, Place]], extents: Extents, rows: Variables
) -> list[list[Folded]]:
    """
    The reductions of each stage, which depend on those of earlier stages only.

    Reductions that depend on more than the variables `rows`, or on numbers that are loaded, are
    not among them.
    """
    reads = Reads(extents)
    for tensor, place in outputs:
        reads.read(tensor, place)
    stages: dict[int, list[Folded]] = {}
    for fold, stage in reads.folds.values():
        loaded = any(isinstance(atom, Loaded) for index in fold.outer for atom in atoms(index))
        if _variables(fold.outer) <= rows and not loaded:
            stages.setdefault(stage, []).append(fold)
    return [stages[stage] for stage in sorted(stages)]


def _maker(value: ir.Value) -> Any:
    """The op that makes a value, None of an argument."""
    return None if isinstance(value.owner, ir.Block) else value.owner


def _variables(place: Iterable[Index]) -> Variables:
    return frozenset().union(*(variables(index) for index in place))


def _joined(found: Iterable[tuple[Variables, int]]) -> tuple[Variables, int]:
    parts = list(found)
    return frozenset().union(*(v for v, _ in parts)), max((stage for _, stage in parts), default=0)
