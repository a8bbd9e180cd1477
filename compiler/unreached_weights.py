"""
Weights that recipes do not reach: parameters that meet other values in products that are no layer.

Stacks of matrices, transposed convolutions and those of volumes keep the model's precision, and so
count as not quantized, as does what a layer's weight is computed from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from ..passes.name_layers import WEIGHT_OPERAND, layer_name, weight_symbol
from .layers import entry_function

NAMED_PRODUCTS = ("conv_", "dot", "matmul", "matvec", "vecmat")
REACHED = "recipes give formats only to the weights of linear, conv2d and embedding"

Symbols = frozenset[str]
NONE: Symbols = frozenset()


def unreached_weights(module: ir.Module) -> dict[str, str]:
    """By symbol of a parameter of two axes or more, why no recipe gives it a format."""
    search = _Search()
    for op in entry_function(module).regions[0].blocks[0].operations:
        search.visit(op.operation)
    return search.reasons


@dataclass(slots=True)
class _Search:
    """
    Values that depend on parameters alone are followed to the product where they meet others.

    `made_of` has the parameters of such values, `terms` those of products that are yet to be added.
    """

    made_of: dict[ir.Value, Symbols] = field(default_factory=dict)
    terms: dict[ir.Value, Symbols] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def visit(self, op: Operation) -> None:
        if op.name in WEIGHT_OPERAND:
            if weight_symbol(op) is None:
                computed = self.made_of.get(op.operands[WEIGHT_OPERAND[op.name]], NONE)
                self._leave(computed, f"the weight of {layer_name(op)} is computed from it")
            return
        values = _read(op)
        known = [self.made_of[value] for value in values if value in self.made_of]
        met = NONE.union(*known)
        if len(known) == len(values):
            if not op.regions or op.name.startswith("linalg."):
                made = met | _weight_of(op)
                self.made_of.update(dict.fromkeys(op.results, made))
            return
        terms = NONE.union(*(self.terms.get(value, NONE) for value in values))
        if _is_product(op):
            self._multiplied(op, met)
        elif op.name == "linalg.generic" and _sums(op):
            self._multiplied(op, terms)
        elif op.name == "linalg.generic" and _has(op, "arith.mulf"):
            self.terms.update(dict.fromkeys(op.results, met | terms))

    def _multiplied(self, op: Operation, symbols: Symbols) -> None:
        kind = "a sum of products" if op.name == "linalg.generic" else op.name
        where = layer_name(op) if "layer" in op.attributes else kind.removeprefix("linalg.")
        self._leave(symbols, f"it is multiplied in {where}, and {REACHED}")

    def _leave(self, symbols: Symbols, reason: str) -> None:
        for symbol in symbols:
            self.reasons.setdefault(symbol, reason)


def _read(op: Operation) -> list[ir.Value]:
    """The tensors that `op` reads, inside its regions too."""
    values = [value for each in (op, *walk(op)) for value in each.operation.operands]
    return [
        value
        for value in values
        if isinstance(value.type, ir.RankedTensorType) or qcc.is_packed(value.type)
    ]


def _weight_of(op: Operation) -> Symbols:
    """Of a parameter its symbol, if it is of floats and more than a vector."""
    if op.name != "qcc.param":
        return NONE
    type_ = qcc.logical_type(op.results[0].type)
    if type_.rank < 2 or not isinstance(type_.element_type, ir.FloatType):
        return NONE
    return frozenset((ir.StringAttr(op.attributes["symbol"]).value,))


def _is_product(op: Operation) -> bool:
    if op.name == "linalg.generic":
        return _sums(op) and _has(op, "arith.mulf")
    kind = op.name.removeprefix("linalg.")
    named = kind != op.name and any(name in kind for name in NAMED_PRODUCTS)
    return named or op.name == "qcc.matmul"


def _sums(op: Operation) -> bool:
    return "reduction" in str(op.attributes["iterator_types"]) and _has(op, "arith.addf")


def _has(op: Operation, name: str) -> bool:
    return any(child.operation.name == name for child in walk(op))
