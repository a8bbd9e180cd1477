"""Values that a thread keeps in registers from one loop over its columns to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .group_scope import Names, Scalar, Scope, Scopes
from .scalar_rules import held_type

WHOLLY, AT_ONCE = "#pragma unroll", 8
"""Rounds of a long loop would all be under way at once, and want all registers."""


@dataclass
class ColumnLoop:
    """`outer` is the loop, `inner` its innermost scope, at number `depth` of the chain."""

    outer: Scope
    inner: Scope
    depth: int
    kept: dict[Any, str] = field(default_factory=dict)


@dataclass
class Registers:
    """
    Arrays of the columns of a thread, of `count` elements, `slot` being the one at hand.

    A value that an earlier loop computed at the same column is stored there and read here: what
    it is made of is neither loaded nor computed again.
    """

    scopes: Scopes
    names: Names
    count: int = 0
    slot: str = ""
    loops: list[ColumnLoop] = field(default_factory=list)
    outer: Scope | None = None  # the loop at hand
    inside: bool = False
    depth: int = 0  # of the innermost scope of the loop at hand

    def find(self, key: Any) -> Scalar | None:
        if not self.inside or not self.count:
            return None
        for loop in self.loops:
            found = loop.inner.known.get(key)
            if found is not None and found.depth == loop.depth:
                return self.scopes.know(key, self._kept(loop, key, found))
        return None

    def _kept(self, loop: ColumnLoop, key: Any, value: Scalar) -> Scalar:
        for each in (loop.outer, self.outer):
            if each is not None and each.pragma:
                each.pragma = WHOLLY  # registers have no addresses, so each slot is a constant
        if key not in loop.kept:
            name = loop.kept[key] = self.names.fresh(f"{value.text.split('[')[0]}_kept")
            lines = self.scopes.chain[0].lines
            lines.insert(lines.index(loop.outer), f"{held_type(value.kind)} {name}[{self.count}];")
            loop.inner.lines.append(f"{name}[{self.slot}] = {value.text};")
        return Scalar(f"{loop.kept[key]}[{self.slot}]", value.kind, self.depth)
