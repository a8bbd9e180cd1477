"""
Statements and options to a `Format`: every attribute checked, every combination that has a meaning.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .definition import Admission, Block, Scale, View
from .domains import Domain
from .element_statement import build_element
from .language import (
    Attribute,
    OptionStatement,
    Reference,
    Statement,
    Syntax,
    Value,
    parse_definition,
)
from .number_format import Format, OptionValue
from .schema import ELEMENTS, REQUIRED, STATEMENTS
from .validate import check_format

ONCE = ("element", "block", "zero_point", "pack", "admit")
SCALE_ORDER = {"all": 0, "positive": 0, "negative": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """
    A definition read once: one format, or one for each value of its parameter, with options.

    `digest` is the name's guard in spellings of user formats; empty for built-ins. `lookup` finds
    the built-in formats that a view refers to.
    """

    syntax: Syntax
    domains: Mapping[str, Domain] = field(repr=False)
    digest: str
    lookup: Callable[..., Format] = field(repr=False)

    @classmethod
    def parse(
        cls, text: str, origin: str, lookup: Callable[..., Format], *, builtin: bool = False
    ) -> Family:
        """Read a definition; raises FormatSyntaxError, at the place, for anything malformed."""
        syntax = parse_definition(text, origin)
        digest = "" if builtin else hashlib.sha256(text.encode()).hexdigest()[:12]
        domains = {option.name: _option_domain(syntax, option) for option in syntax.options}
        family = cls(syntax, domains, digest, lookup)
        family._check()
        return family

    @property
    def text(self) -> str:
        return self.syntax.source.text

    @property
    def names(self) -> tuple[str, ...]:
        if self.syntax.parameter is None:
            return (self.syntax.name,)
        return tuple(f"{self.syntax.name}{value}" for value in self.syntax.parameter[1])

    def build(self, name: str, options: Mapping[str, Any]) -> Format:
        """The format of this name with these options; raises UsageError for unknown ones."""
        chosen = self._chosen(name, options)
        environment: dict[str, Any] = dict(chosen)
        if self.syntax.parameter is not None:
            parameter, values = self.syntax.parameter
            environment[parameter] = values[self.names.index(name)]
        statements = self._merged(environment)
        builder = _Builder(self.syntax, environment, statements)
        changed = tuple(
            (option.name, chosen[option.name])
            for option in self.syntax.options
            if chosen[option.name] != self._default(option)
        )
        fmt = builder.build(name, changed, _spelling(name, self.digest, changed), self)
        check_format(fmt, builder.fail)
        return fmt

    def _default(self, option: OptionStatement) -> Any:
        return None if option.default is None else self.domains[option.name].accept(option.default)

    def _chosen(self, name: str, options: Mapping[str, Any]) -> dict[str, OptionValue]:
        declared = {option.name: option for option in self.syntax.options}
        for key in options:
            if key not in declared:
                known = ", ".join(declared) or "none"
                close = difflib.get_close_matches(str(key), declared, 1)
                raise UsageError(
                    "format-option-unknown",
                    f"format {name} has no option {key!r}",
                    why=f"its options: {known}",
                    next_step=f"did you mean {close[0]!r}?" if close else "",
                )
        return {
            key: self._checked(name, option, options.get(key, option.default))
            for key, option in declared.items()
        }

    def _checked(self, name: str, option: OptionStatement, value: Any) -> OptionValue:
        domain = self.domains[option.name]
        accepted = None if value is None else domain.accept(value)
        if accepted is not None:
            return accepted
        given = "was not given" if value is None else f"cannot be {_shortened(value)}"
        raise UsageError(
            "format-option-value",
            f"format {name}: option {option.name} {given}",
            why=f"it takes: {domain}",
        )

    def _check(self) -> None:
        """Defaults lie in their domains, names are unique, conditions name options."""
        source, seen = self.syntax.source, set[str]()
        for option in self.syntax.options:
            if option.name in seen:
                source.fail(f"option {option.name} is declared twice", option.place)
            seen.add(option.name)
            if option.default is not None and self._default(option) is None:
                why = f"it takes: {self.domains[option.name]}"
                source.fail(f"the default of {option.name} is not allowed", option.place, why=why)
        if self.syntax.parameter is not None:
            parameter, values = self.syntax.parameter
            if parameter in seen:
                source.fail(f"{parameter} is both parameter and option", self.syntax.place)
            seen.add(parameter)
            if not values or not all(type(v) is int and 0 <= v <= 99 for v in values):
                why = "a family needs a list of integers from 0 to 99"
                source.fail("no members", self.syntax.place, why=why)
        for condition in (c for when in self.syntax.whens for c in when.conditions):
            if condition[0] not in seen:
                source.fail(f"no option {condition[0]!r}", condition[2], why=_one_of(seen))

    def _merged(self, environment: Mapping[str, Any]) -> list[Statement]:
        """The statements, overridden by those under conditions that hold."""
        merged: dict[tuple[str, str], Statement] = {}
        for statement in self.syntax.statements:
            self._unique(statement)
            key = _statement_key(statement)
            if key in merged:
                self.syntax.source.fail(f"a second {' '.join(key).strip()}", statement.place)
            merged[key] = statement
        for when in self.syntax.whens:
            if all(environment[name] in values for name, values, _ in when.conditions):
                for statement in when.statements:
                    self._unique(statement)
                    key = _statement_key(statement)
                    merged[key] = _overridden(merged.get(key), statement)
        return list(merged.values())

    def _unique(self, statement: Statement) -> None:
        seen = set[str]()
        for attribute in statement.attributes:
            if attribute.key in seen:
                self.syntax.source.fail(f"{attribute.key} is given twice", attribute.place)
            seen.add(attribute.key)


class _Builder:
    """One format from merged statements; keeps the place of each for error messages."""

    def __init__(
        self, syntax: Syntax, environment: Mapping[str, Any], statements: list[Statement]
    ) -> None:
        self.syntax = syntax
        self.environment = environment
        self.statements = statements

    def build(
        self, name: str, options: tuple[tuple[str, OptionValue], ...], spelling: str, family: Family
    ) -> Format:
        scales = [scale for s in self._all("scale") if (scale := self._scale(s)) is not None]
        blocks = [scale for scale in scales if scale.rule != "second_level"]
        levels = [scale for scale in scales if scale.rule == "second_level"]
        if len(levels) > 1:
            self.fail("scale", "only one second_level scale is possible")
        statement = self._required("element")
        schema = ELEMENTS.get(statement.name)
        if schema is None:
            why = _one_of(ELEMENTS)
            self.syntax.source.fail(f"no element {statement.name!r}", statement.place, why=why)
        element = build_element(
            statement.name,
            self._attributes(statement, schema, statement.name),
            lambda what: self.fail("element", what),
        )
        return Format(
            name=name,
            title=self.syntax.title,
            source=self.syntax.reference,
            element=element,
            block=self._block(),
            block_scales=tuple(sorted(blocks, key=lambda scale: SCALE_ORDER[scale.of])),
            second_level=levels[0] if levels else None,
            zero_point=self._zero_point(),
            byte_codes=self._packs_bytes(),
            admits=self._admission(),
            views=tuple(map(self._view, self._all("view"))),
            options=options,
            spelling=spelling,
            family=family,
        )

    def fail(self, keyword: str, what: str) -> None:
        """Point at the first statement of a keyword, or else at the definition's name."""
        place = next((s.place for s in self._all(keyword)), self.syntax.place)
        self.syntax.source.fail(what, place)

    def _all(self, keyword: str) -> list[Statement]:
        return [s for s in self.statements if s.keyword == keyword]

    def _required(self, keyword: str) -> Statement:
        found = self._all(keyword)
        if not found:
            self.syntax.source.fail(f"a format needs a {keyword} statement", self.syntax.place)
        return found[0]

    def _attributes(
        self, statement: Statement, schema: Mapping[str, Domain], required: str
    ) -> dict[str, Any]:
        source = self.syntax.source
        values = {}
        for attribute in statement.attributes:
            domain = schema.get(attribute.key)
            if domain is None:
                what = f"{statement.keyword} has no attribute {attribute.key!r}"
                source.fail(what, attribute.place, why=_one_of(schema))
            accepted = domain.accept(self._resolved(attribute))
            if accepted is None:
                what = f"{attribute.key} cannot be {_shortened(self._resolved(attribute))}"
                source.fail(what, attribute.place, why=f"it takes: {domain}")
            values[attribute.key] = accepted
        for key in REQUIRED[required]:
            if key not in values:
                source.fail(f"{required} needs {key}=", statement.place)
        return values

    def _resolved(self, attribute: Attribute) -> Any:
        value = attribute.value
        if not isinstance(value, Reference):
            return value
        if value.name not in self.environment:
            what = f"no option or parameter {value.name!r}"
            self.syntax.source.fail(what, attribute.place, why=_one_of(self.environment))
        return self.environment[value.name]

    def _block(self) -> Block:
        found = self._all("block")
        if not found:
            return Block("channel", ragged=True)
        values = self._attributes(found[0], STATEMENTS["block"], "block")
        return Block(values["size"], values.get("ragged", True))

    def _scale(self, statement: Statement) -> Scale | None:
        values = self._attributes(statement, STATEMENTS["scale"], "scale")
        if statement.name in ("codes", "upper", "lower", "zero_point"):
            self.syntax.source.fail(f"{statement.name!r} is not a scale's name", statement.place)
        return None if values["type"] == "none" else Scale(role=statement.name, **values)

    def _zero_point(self) -> str | None:
        found = self._all("zero_point")
        if not found:
            return None
        kind = self._attributes(found[0], STATEMENTS["zero_point"], "zero_point")["type"]
        return None if kind == "none" else kind

    def _packs_bytes(self) -> bool:
        found = self._all("pack")
        if found and found[0].name not in ("bits", "bytes"):
            self.fail("pack", "pack takes bits or bytes")
        return bool(found) and found[0].name == "bytes"

    def _admission(self) -> Admission | None:
        found = self._all("admit")
        if not found:
            return None
        values = self._attributes(found[0], STATEMENTS["admit"], "admit")
        return Admission(values["max_abs"], values["limit"])

    def _view(self, statement: Statement) -> View:
        values = self._attributes(statement, STATEMENTS["view"], "view")
        return View(statement.name, values["part"], values["scale"])


def _option_domain(syntax: Syntax, option: OptionStatement) -> Domain:
    literals, ranges, lengths, positive = [], [], [], False
    for alternative in option.domain:
        if alternative.kind == "range":
            ranges.append(alternative.arguments)
        elif alternative.kind == "floats":
            lengths += alternative.arguments
        elif alternative.kind == "real":
            positive = True
        elif isinstance(alternative.arguments[0], str | bool | int | float):
            literals.append(alternative.arguments[0])
        else:
            syntax.source.fail(f"option {option.name}: a choice is a word or number", option.place)
    return Domain(tuple(literals), tuple(ranges), positive, lengths=tuple(lengths))


def _statement_key(statement: Statement) -> tuple[str, str]:
    named = statement.keyword not in ONCE
    return statement.keyword, statement.name if named else ""


def _overridden(base: Statement | None, override: Statement) -> Statement:
    if base is None or base.name != override.name:
        return override
    attributes = {a.key: a for a in base.attributes} | {a.key: a for a in override.attributes}
    return Statement(base.keyword, base.name, tuple(attributes.values()), override.place)


def _spelling(name: str, digest: str, options: Iterable[tuple[str, OptionValue]]) -> str:
    """
    Canonical text of a format: name, digest, options that differ from their defaults.

    >>> _spelling("int4", "", [("group", 32), ("symmetric", False)])
    'int4<group=32,symmetric=false>'
    """
    guarded = f"{name}@{digest}" if digest else name
    listed = ",".join(f"{key}={_spelled(value)}" for key, value in options)
    return f"{guarded}<{listed}>" if listed else guarded


def _spelled(value: OptionValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(map(repr, value))}]"
    return str(value)


def _shortened(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_of(names: Iterable[str]) -> str:
    return "known: " + (", ".join(sorted(names)) or "none")
