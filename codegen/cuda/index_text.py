"""Indices of fused groups as C++ expressions; what needs a division is computed once, and named."""

from __future__ import annotations

from collections.abc import Sequence

from ...dialects.tile.index import (
    Atom,
    Index,
    Loaded,
    Quotient,
    Remainder,
    Size,
    Variable,
)
from .group_scope import Names, Scalar, Scopes
from .printer import grouped
from .scalar_rules import held_type


class IndexText:
    """`depths` are the scopes in which variables stand."""

    def __init__(self, names: Names) -> None:
        self.names, self.scopes = names, Scopes()
        self.depths: dict[Variable, int] = {}

    def named(self, hint: str, text: str, kind: str, inner: Sequence[Scalar]) -> Scalar:
        """A constant with the value of an expression, as far outside as its operands allow."""
        depth = max((each.depth for each in inner), default=0)
        depth = max(depth, self.scopes.floor) if inner else depth
        name = self.names.fresh(hint)
        self.scopes.line(f"const {held_type(kind)} {name} = {text};", depth)
        return Scalar(name, kind, depth)

    def index(self, index: Index) -> Scalar:
        """An index as an expression; what needs a division is named."""
        depth, parts = 0, []
        for term, factor in index.terms:
            factors = []
            for atom in term:
                found = self._atom(atom)
                depth = max(depth, found.depth)
                factors.append(found.text)
            number = [str(abs(factor))] if abs(factor) != 1 or not factors else []
            parts.append(("-" if factor < 0 else "+", " * ".join([*number, *factors])))
        return Scalar(_signed_sum(parts), "index", depth)

    def depth_of(self, index: Index) -> int:
        return self.index(index).depth

    def _atom(self, atom: Atom) -> Scalar:
        match atom:
            case Size(name):
                return Scalar(name, "index")
            case Variable(name):
                return Scalar(name, "index", self.depths[atom])
            case Loaded(key):
                assert isinstance(key, Scalar)
                wide = key.kind not in ("index", "i32")
                return Scalar(f"int({key.text})" if wide else key.text, "index", key.depth)
            case Quotient(of, by) | Remainder(of, by):
                return self._division(atom, of, by)
        raise TypeError(atom)

    def _division(self, atom: Atom, of: Index, by: Index) -> Scalar:
        found = self.scopes.find(atom)
        if found is not None:
            return found
        whole = isinstance(atom, Quotient)
        left, right = self.index(of), self.index(by)
        sign, hint = ("/", "outer") if whole else ("%", "inner")
        text = f"{grouped(left.text)} {sign} {grouped(right.text)}"
        depth = max(left.depth, right.depth)
        name = self.names.fresh(hint)
        self.scopes.line(f"const int {name} = {text};", depth)
        return self.scopes.know(atom, Scalar(name, "index", depth))


def _signed_sum(parts: Sequence[tuple[str, str]]) -> str:
    """
    Terms with their signs, positive ones first.

    >>> _signed_sum([("-", "8"), ("+", "column")]), _signed_sum([])
    ('column - 8', '0')
    """
    ordered = sorted(parts, key=lambda part: part[0] == "-")
    if not ordered:
        return "0"
    text = "".join(f" {sign} {part}" for sign, part in ordered)
    return text.removeprefix(" + ").replace(" - ", "-", 1) if text[1] == "-" else text[3:]
