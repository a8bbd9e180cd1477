"""Text under way: nested scopes, each with the values that its lines have named so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .printer import Printer


@dataclass(frozen=True, slots=True)
class Scalar:
    """An expression that is valid in scope number `depth` and those inside of it."""

    text: str
    kind: str
    depth: int = 0


@dataclass
class Scope:
    """`header {` its lines `}`; a line may be put into an outer scope while this one is open."""

    header: str = ""
    pragma: str = ""
    end: str = "}"
    guarded: bool = False
    lines: list[str | Scope] = field(default_factory=list)
    known: dict[Any, Scalar] = field(default_factory=dict)

    def print(self, out: Printer) -> None:
        for line in self.lines:
            if isinstance(line, str):
                out.line(line)
                continue
            if line.pragma:
                out.line(line.pragma)
            if line.header == "else":
                with out.block("else"):
                    line.print(out)
                continue
            with out.block(line.header, line.end):
                line.print(out)


class Names:
    """Names of one kernel, each given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken, self._numbers = set(taken), dict[str, int]()

    def fresh(self, name: str) -> str:
        """`name`, or with the first number that makes it another than all before."""
        found = name
        while found in self._taken:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            found = f"{name}_{self._numbers[name]}"
        self._taken.add(found)
        return found


class Scopes:
    """The chain of open scopes, outermost first."""

    def __init__(self) -> None:
        self.chain = [Scope()]

    @property
    def depth(self) -> int:
        return len(self.chain) - 1

    @property
    def floor(self) -> int:
        """The innermost scope that runs only under a condition: nothing may leave it."""
        return max((n for n, scope in enumerate(self.chain) if scope.guarded), default=0)

    def line(self, text: str, depth: int | None = None) -> None:
        self.chain[self.depth if depth is None else depth].lines.append(text)

    @contextmanager
    def open(
        self, scope: Scope, depth: int | None = None, *, place: bool = True
    ) -> Iterator[Scope]:
        """
        Lines go to `scope`, which follows what scope number `depth` has so far.

        Without `place` the caller puts it there, when nothing may come between.
        """
        kept, depth = self.chain, self.depth if depth is None else depth
        self.chain = [*kept[: depth + 1], scope]
        yield scope
        self.chain = kept
        if place:
            kept[depth].lines.append(scope)

    @contextmanager
    def at(self, depth: int) -> Iterator[None]:
        """Lines go to the end of scope number `depth`."""
        kept, self.chain = self.chain, self.chain[: depth + 1]
        yield
        self.chain = kept

    def find(self, key: Any) -> Scalar | None:
        for scope in reversed(self.chain):
            if key in scope.known:
                return scope.known[key]
        return None

    def know(self, key: Any, value: Scalar) -> Scalar:
        self.chain[value.depth].known[key] = value
        return value
