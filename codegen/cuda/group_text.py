"""
The text of one fused kernel: elements, each computed from those that it is made of.

`value(tensor, place)` writes what computes one element, once for each place, in the outermost
scope where all that it needs is known. What the rules of dialects/tile/elements.py say of an op
is all that is known of it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.elements import (
    Chosen,
    Computed,
    Condition,
    Folded,
    Moved,
    Place,
    element,
    input_count,
    is_splat,
    operand_at,
)
from ...dialects.tile.extents import Extents
from ...dialects.tile.index import (
    ZERO,
    Index,
    Loaded,
    Variable,
    linearized,
    multiple_of,
    variables,
)
from .group_registers import Registers
from .group_scope import Names, Scalar, Scope
from .index_text import IndexText
from .scalar_rules import (
    expression,
    held_type,
    kind_of,
    literal,
    loaded,
    stored_size,
    stored_type,
    to_store,
)
from .value_names import name_hint

WORD = 4
INDEX_ARITHMETIC: dict[str, Callable[[Index, Index], Index]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.muli": lambda a, b: a * b,
    "arith.divui": lambda a, b: a // b,
    "arith.remui": lambda a, b: a % b,
}
INDEX_OPS = ("linalg.index", "tensor.dim", "arith.constant", *INDEX_ARITHMETIC)


class GroupText(IndexText):
    """`lane` is the variable of the elements that one access moves, `vector` of them."""

    def __init__(self, extents: Extents, vector: int, names: Names) -> None:
        super().__init__(names)
        self.extents, self.vector = extents, vector
        self.arguments: dict[ir.Value, str] = {}
        self.lane = Variable("i", Index.of(vector))
        self.registers = Registers(self.scopes, self.names)
        self.pending: list[str] = []

    # ---- elements

    def value(self, tensor: ir.Value, place: Place) -> Scalar:
        """An element of a tensor, or a scalar at the place ()."""
        key = tensor, place
        found = self.scopes.find(key) or self.registers.find(key)
        if found is not None:
            return found
        if not isinstance(tensor.type, ir.RankedTensorType):
            return self.scopes.know(key, self.scalar(tensor, ()))
        if tensor not in self.arguments and is_splat(tensor.owner):
            kind = kind_of_element(tensor)
            return Scalar(literal(splat_of(tensor.owner), kind), kind)
        made = element(tensor, place, self.extents)
        match made:
            case Moved(source, at):
                return self.value(source, at)
            case Chosen(cases):
                return self.scopes.know(key, self._chosen(kind_of_element(tensor), cases))
            case Computed(op, result, point):
                *_, ending = op.regions[0].blocks[0].operations
                return self.scopes.know(key, self.scalar(ending.operands[result], point))
            case Folded():
                self._fold_serially(made)
                found = self.scopes.find(key)
                assert found is not None
                return found
        return self.scopes.know(key, self._load(tensor, place))

    def scalar(self, value: ir.Value, point: Place) -> Scalar:
        """A value of a generic's body at a point of its loops, or one outside of all bodies."""
        key = value, point
        found = self.scopes.find(key) or self.registers.find(key)
        return found or self.scopes.know(key, self._scalar(value, point))

    def _scalar(self, value: ir.Value, point: Place) -> Scalar:
        owner: Any = value.owner
        if isinstance(owner, ir.Block):
            return self._argument(value, owner, point)
        if isinstance(value.type, ir.IndexType) and owner.operation.name in INDEX_OPS:
            return self._as_number(self._place(owner, value, point))
        match owner.operation.name:
            case "tensor.extract":
                return self._extract(owner, point)
            case "arith.constant":
                return Scalar(expression(owner, ()), kind_of(value))
            case "arith.extf" if kind_of(value) == "f32":
                found = self._operand(owner, owner.operands[0], point)
                return Scalar(found.text, "f32", found.depth)
        inner = [self._operand(owner, operand, point) for operand in owner.operands]
        text = expression(owner, [each.text for each in inner])
        return self.named(name_hint(owner), text, kind_of(value), inner)

    def _operand(self, owner: Any, operand: ir.Value, point: Place) -> Scalar:
        same_body = operand.owner == owner.operation.block or (
            not isinstance(operand.owner, ir.Block)
            and operand.owner.operation.block == owner.operation.block
        )
        return self.scalar(operand, point if same_body else ())

    def _argument(self, value: ir.Value, block: ir.Block, point: Place) -> Scalar:
        generic: Any = block.owner
        if generic.operation.name != "linalg.generic":
            return Scalar(self.arguments[value], kind_of(value))
        number = ir.BlockArgument(value).arg_number
        moved = operand_at(generic, number, point)
        if not isinstance(moved.value.type, ir.RankedTensorType):
            return self.scalar(moved.value, ())
        return self.value(moved.value, moved.place)

    def _extract(self, op: Any, point: Place) -> Scalar:
        tensor, *indices = op.operands
        return self.value(tensor, tuple(self._place(op, each, point) for each in indices))

    def _place(self, op: Any, value: ir.Value, point: Place) -> Index:
        """An index that a body computes; of nothing but loops and sizes, it stays a polynomial."""
        owner: Any = value.owner
        if not isinstance(owner, ir.Block):
            match owner.operation.name:
                case "linalg.index":
                    return point[ir.IntegerAttr(owner.attributes["dim"]).value]
                case "arith.constant" | "tensor.dim":
                    return self.extents.number(value)
                case name if name in INDEX_ARITHMETIC:
                    left, right = (self._place(owner, each, point) for each in owner.operands)
                    return INDEX_ARITHMETIC[name](left, right)
        found = self._operand(op, value, point)
        known = frozenset(v for v, depth in self.depths.items() if depth <= found.depth)
        return Index.of(Loaded(found, known if found.depth else frozenset()))

    def _as_number(self, index: Index) -> Scalar:
        """An index as an operand of other operations."""
        found = self.index(index)
        if " " not in found.text:
            return found
        return self.named("at", found.text, "index", [found])

    def _chosen(self, kind: str, cases: Sequence[tuple[Sequence[Condition], Moved]]) -> Scalar:
        """A variable that each case sets, under its conditions."""
        conditions = [self._conditions(found) for found, _ in cases]
        depth = max(self.depth_of_places(cases), self.scopes.floor)
        if not conditions[0]:
            return self.value(cases[0][1].value, cases[0][1].place)
        name = self.names.fresh("part")
        self.scopes.line(f"{held_type(kind)} {name};", depth)
        branches = []
        for number, (text, (_, moved)) in enumerate(zip(conditions, cases, strict=True)):
            header = f"if ({text})" if not number else f"else if ({text})" if text else "else"
            branch = Scope(header, guarded=True)
            with self.scopes.open(branch, depth, place=False):
                found = self.value(moved.value, moved.place)
                self.scopes.line(f"{name} = {found.text};")
            branches.append(branch)
        self.scopes.chain[depth].lines += branches
        return Scalar(name, kind, depth)

    def _conditions(self, conditions: Sequence[Condition]) -> str:
        parts = []
        for each in conditions:
            left, right = self._compared(each)
            sign = "<" if each.below else ">="
            parts.append(f"{self.index(left).text} {sign} {self.index(right).text}")
        return " && ".join(parts)

    def _compared(self, condition: Condition) -> tuple[Index, Index]:
        """Without the lane, where all elements of an access lie on the same side."""
        left, right = condition.left, condition.right
        first = left - Index.of(self.lane)
        whole = all(multiple_of(each, self.vector) for each in (first, right))
        if self.vector > 1 and whole and self.lane not in variables(first):
            return first, right
        return left, right

    def depth_of_places(self, cases: Sequence[tuple[Sequence[Condition], Moved]]) -> int:
        """The scope in which all cases can be written."""
        indices = [index for _, moved in cases for index in moved.place]
        indices += [each for found, _ in cases for c in found for each in (c.left, c.right)]
        return max((self.depth_of(index) for index in indices), default=0)

    # ---- reductions of one thread

    def _fold_serially(self, fold: Folded) -> None:
        """All results of a reduction, in the order of its loops."""
        depth = max([self.depth_of(index) for index in fold.outer] + [self.scopes.floor])
        results = range(len(fold.op.results))
        with self.scopes.at(depth):
            totals = [self.accumulator(fold, result) for result in results]
            self._loop(fold, totals)
            for result, total in zip(results, totals, strict=True):
                self.scopes.know(
                    (fold.op.results[result], self.result_at(fold, result).place), total
                )

    def accumulator(self, fold: Folded, result: int, identity: str | None = None) -> Scalar:
        """A variable with the initial value of a reduction, or the identity of its operation."""
        kind = kind_of_element(fold.op.results[result])
        start = identity or self.initial(fold, result).text
        name = self.names.fresh("total")
        self.scopes.line(f"{held_type(kind)} {name} = {start};")
        return Scalar(name, kind, self.scopes.depth)

    def initial(self, fold: Folded, result: int) -> Scalar:
        moved = self.result_at(fold, result)
        return self.value(moved.value, moved.place)

    def result_at(self, fold: Folded, result: int) -> Moved:
        """The initial value of a result; its place is that of the result."""
        point = tuple(each if each is not None else ZERO for each in fold.place)
        return operand_at(fold.op, input_count(fold.op) + result, point)

    def _loop(self, fold: Folded, totals: Sequence[Scalar]) -> None:
        inner: list[Index] = []
        with ExitStack() as loops:
            for extent in fold.columns:
                k = Variable(self.names.fresh("k"), extent)
                count = self.index(extent).text
                header = f"for (int {k.name} = 0; {k.name} < {count}; ++{k.name})"
                loops.enter_context(self.scopes.open(Scope(header)))
                self.depths[k] = self.scopes.depth
                inner.append(Index.of(k))
            self.accumulate(fold, totals, fold.at(inner))

    def accumulate(self, fold: Folded, totals: Sequence[Scalar], point: Place) -> None:
        """One turn of the body: the totals take what it yields."""
        block = fold.op.regions[0].blocks[0]
        first = input_count(fold.op)
        for number, total in enumerate(totals):
            here = Scalar(total.text, total.kind, self.scopes.depth)
            self.scopes.chain[-1].known[block.arguments[first + number], point] = here
        *_, ending = block.operations
        found = [self.scalar(ending.operands[number], point) for number in range(len(totals))]
        for total, each in zip(totals, found, strict=True):
            self.scopes.line(f"{total.text} = {each.text};")

    # ---- memory

    def _load(self, tensor: ir.Value, place: Place) -> Scalar:
        view, kind = self.arguments[tensor], kind_of_element(tensor)
        index = linearized(place, self.extents.of(tensor))
        if self.is_wide(index, kind):
            first = index - Index.of(self.lane)
            if self.scopes.floor <= self.depth_of(first):
                return self._load_wide(view, kind, first)
        at = self.index(index)
        return self.named(f"{view}_value", loaded(kind, f"{view}.load({at.text})"), kind, [at])

    def is_wide(self, index: Index, kind: str) -> bool:
        """Whether the elements of the lane's loop are neighbours that one access can move."""
        first = index - Index.of(self.lane)
        return (
            self.vector > 1
            and stored_size(kind) <= WORD
            and self.lane not in variables(first)
            and multiple_of(first, self.vector)
        )

    def _load_wide(self, view: str, kind: str, first: Index) -> Scalar:
        key = "words", view, first
        words = self.scopes.find(key)
        if words is None:
            at = self.index(first)
            count = self.vector * stored_size(kind)
            name = self.names.fresh(f"{view}_words")
            self.scopes.line(f"const auto {name} = {view}.load<{count}>({at.text});", at.depth)
            words = self.scopes.know(key, Scalar(name, kind, at.depth))
        text = f"element<{stored_type(kind)}>({words.text}, {self.lane.name})"
        here = Scalar(self.lane.name, "index", self.depths[self.lane])
        return self.named(f"{view}_value", loaded(kind, text), kind, [words, here])

    def store(self, view: str, value: Scalar, index: Index) -> None:
        """In the scope of the lane's loop where an access moves several elements."""
        kind = value.kind
        if not self.is_wide(index, kind):
            at = self.index(index)
            self.scopes.line(f"{view}.store({at.text}, {to_store(kind, value.text)});")
            return
        outer = self.depths[self.lane] - 1
        count, type_ = self.vector * stored_size(kind), stored_type(kind)
        words = self.names.fresh(f"{view}_made")
        self.scopes.line(f"Accessed<{count}> {words}{{}};", outer)
        stored = to_store(kind, value.text)
        self.scopes.line(f"set_element<{type_}>({words}, {self.lane.name}, {stored});")
        at = self.index(index - Index.of(self.lane))
        self.pending.append(f"{view}.store<{count}>({at.text}, {words});")


def splat_of(constant: Any) -> ir.Attribute:
    return ir.DenseElementsAttr(constant.attributes["value"]).get_splat_value()


def kind_of_element(tensor: ir.Value) -> str:
    return str(ir.RankedTensorType(tensor.type).element_type)
