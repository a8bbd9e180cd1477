"""
The format language: text to statements, every one with its place in the text.

grammar.lark is the syntax. What statements mean, and which attributes each may have, is
resolve.py's business; both report errors through `SourceText`, which shows the line and a caret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UsageError

if TYPE_CHECKING:
    from lark import Lark, Tree

MAX_TEXT_BYTES = 1 << 16
MAX_STATEMENTS = 1000


@dataclass(frozen=True, slots=True)
class Reference:
    """`$name`: the value of an option, or of the parameter of a family."""

    name: str


Value = int | float | bool | str | Reference | tuple["Value", ...]


class FormatSyntaxError(UsageError):
    """A format definition or spelling that cannot be read; shows the place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class SourceText:
    """A text and where it came from, to point at places in it."""

    origin: str
    text: str

    def fail(self, what: str, place: Place, *, why: str = "", next_step: str = "") -> NoReturn:
        lines = self.text.split("\n")
        line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
        start = max(0, place.column - 60)
        shown = "".join(c if c.isprintable() else "?" for c in line[start : start + 100])
        caret = " " * (place.column - 1 - start) + "^"
        raise FormatSyntaxError(
            "format-syntax",
            what,
            where=f"{self.origin}, line {place.line}, column {place.column}\n"
            f"    {shown}\n    {caret}",
            why=why,
            next_step=next_step,
        )


@dataclass(frozen=True, slots=True)
class Attribute:
    key: str
    value: Value
    place: Place


@dataclass(frozen=True, slots=True)
class Statement:
    """`keyword name key=value …;` — the name is empty where the keyword takes none."""

    keyword: str
    name: str
    attributes: tuple[Attribute, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Alternative:
    """One branch of an option's domain: a literal value, or a kind of value with its bounds."""

    kind: str  # "value", "range", "floats", "real"
    arguments: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class OptionStatement:
    name: str
    domain: tuple[Alternative, ...]
    default: Value | None
    place: Place


@dataclass(frozen=True, slots=True)
class When:
    """Statements that override others where every option has one of the values given."""

    conditions: tuple[tuple[str, tuple[Value, ...], Place], ...]
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Syntax:
    """A parsed definition; `parameter` is a family's name and values."""

    source: SourceText
    name: str
    parameter: tuple[str, tuple[Value, ...]] | None
    title: str
    reference: str
    options: tuple[OptionStatement, ...]
    statements: tuple[Statement, ...]
    whens: tuple[When, ...]
    place: Place


def parse_definition(text: str, origin: str) -> Syntax:
    """
    Read one format or family.

    Raises FormatSyntaxError for anything else, whatever the text holds.
    """
    source = SourceText(origin, text)
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        source.fail(f"a format definition is at most {MAX_TEXT_BYTES} bytes", Place(1, 1))
    surrogate = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if surrogate is not None:
        line = text.count("\n", 0, surrogate) + 1
        source.fail("a lone surrogate is not text", Place(line, 1))
    tree: Any = _parse(source, "start").children[0]
    body = tree.children[-1]
    if len(body.children) > MAX_STATEMENTS:
        source.fail(f"a format definition has at most {MAX_STATEMENTS} statements", Place(1, 1))
    found: dict[str, list[Any]] = {}
    for node in body.children:
        found.setdefault(node.data, []).append(node)
    parameter = None
    if tree.data == "family":
        parameter = str(tree.children[1]), _list(tree.children[2])
    return Syntax(
        source=source,
        name=str(tree.children[0]),
        parameter=parameter,
        title=_text(source, found.pop("title", [])),
        reference=_text(source, found.pop("source", [])),
        options=tuple(_option(node) for node in found.pop("option", [])),
        whens=tuple(_when(node) for node in found.pop("when", [])),
        statements=tuple(_statement(node) for nodes in found.values() for node in nodes),
        place=_place(tree.children[0]),
    )


def parse_spelling_text(text: str) -> tuple[str, str | None, dict[str, Value]]:
    """Name, digest and options of a spelling such as `int4<group=32,symmetric=false>`."""
    source = SourceText("format spelling", text)
    if len(text) > MAX_TEXT_BYTES:
        source.fail("the spelling is too long", Place(1, 1))
    children: list[Any] = _parse(source, "spelling").children
    name, digest, *attributes = children
    options: dict[str, Value] = {}
    for attribute in map(_attribute, filter(None, attributes)):
        if attribute.key in options:
            source.fail(f"option {attribute.key} is given twice", attribute.place)
        options[attribute.key] = attribute.value
    return str(name), None if digest is None else str(digest), options


@lru_cache(maxsize=1)
def _parser() -> Lark:
    from lark import Lark  # 50 ms, and many programs never read a definition

    grammar = files("qcc.dialects.formats").joinpath("grammar.lark").read_text("utf-8")
    return Lark(
        grammar,
        parser="lalr",
        start=["start", "spelling"],
        propagate_positions=True,
        maybe_placeholders=True,
    )


def _parse(source: SourceText, start: str) -> Tree[Any]:
    from lark import UnexpectedInput

    try:
        return _parser().parse(source.text, start=start)
    except UnexpectedInput as error:
        lines = source.text.split("\n")
        place = Place(error.line or 0, error.column or 1)
        if place.line < 1:
            place = Place(len(lines), len(lines[-1]) + 1)
        source.fail(_unexpected(error, source), place, why=_expected(error))


def _unexpected(error: object, source: SourceText) -> str:
    token = getattr(error, "token", None)
    if token is not None and token.type == "$END":
        return "the definition ends too early"
    if token is not None:
        return f"unexpected {str(token)[:40]!r}"
    position = getattr(error, "pos_in_stream", 0) or 0
    return f"unexpected {source.text[position : position + 1]!r}"


def _expected(error: object) -> str:
    """The tokens that could stand there, spelled as a user would."""
    names = getattr(error, "accepts", None) or getattr(error, "expected", None)
    names = names or getattr(error, "allowed", None) or ()
    literals = {terminal.name: terminal.pattern for terminal in _parser().terminals}
    spelled = set()
    for name in names:
        pattern = literals.get(name)
        if name in _TOKEN_NAMES:
            spelled.add(_TOKEN_NAMES[name])
        elif pattern is not None and pattern.type == "str":
            spelled.add(repr(pattern.value))
    return "expected " + ", ".join(sorted(spelled)) if spelled else ""


_TOKEN_NAMES = {
    "NAME": "a name",
    "INTEGER": "an integer",
    "FLOAT": "a number",
    "STRING": "a quoted text",
    "DIGEST": "twelve hexadecimal digits",
}


def _place(node: Any) -> Place:
    meta = getattr(node, "meta", node)
    return Place(getattr(meta, "line", 1) or 1, getattr(meta, "column", 1) or 1)


def _text(source: SourceText, nodes: Sequence[Any]) -> str:
    if len(nodes) > 1:
        source.fail(f"{nodes[1].data} is given twice", _place(nodes[1]))
    return str(nodes[0].children[0])[1:-1] if nodes else ""


def _value(node: Any) -> Value:
    if node.data == "list":
        return _list(node)
    token = str(node.children[0])
    if node.data == "integer":
        return int(token)
    if node.data == "number":
        return float(token)
    if node.data == "reference":
        return Reference(token)
    return {"true": True, "false": False}.get(token, token)


def _list(node: Any) -> tuple[Value, ...]:
    return tuple(_value(child) for child in node.children if child is not None)


def _attribute(node: Any) -> Attribute:
    key, value = node.children
    return Attribute(str(key), _value(value), _place(key))


def _statement(node: Any) -> Statement:
    children = list(node.children)
    name = ""
    if children and not hasattr(children[0], "data"):
        name = str(children.pop(0))
    attributes = tuple(_attribute(child) for child in children)
    return Statement(str(node.data), name, attributes, _place(node))


def _option(node: Any) -> OptionStatement:
    name, domain, default = node.children
    alternatives = []
    for child in domain.children:
        if child.data == "range":
            bounds = tuple(int(token) for token in child.children)
            alternatives.append(Alternative("range", bounds))
        elif child.data == "floats":
            alternatives.append(Alternative("floats", (int(child.children[0]),)))
        elif child.data == "real":
            alternatives.append(Alternative("real", ()))
        else:
            alternatives.append(Alternative("value", (_value(child),)))
    value = None if default is None else _value(default)
    return OptionStatement(str(name), tuple(alternatives), value, _place(name))


def _when(node: Any) -> When:
    conditions = []
    statements = []
    for child in node.children:
        if child.data == "condition":
            name, *values = child.children
            conditions.append((str(name), tuple(map(_value, values)), _place(name)))
        else:
            statements.append(_statement(child))
    return When(tuple(conditions), tuple(statements))
