"""
Definitions and options to formats: options checked, conditions applied, statements merged.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UsageError
from .builder import Builder, one_of, shortened
from .definition import Minifloat, Plane, View
from .domains import Domain
from .language import (
    Alternative,
    OptionStatement,
    Statement,
    Syntax,
    parse_definition,
)
from .number_format import Format, OptionValue
from .validate import check_format

ONCE = ("element", "block", "zero_point", "pack", "admit")
NO_VIEW = "none"


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
        syntax = _with_view_option(parse_definition(text, origin))
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
        builder = Builder(self.syntax, environment, statements)
        changed = tuple(
            (option.name, chosen[option.name])
            for option in self.syntax.options
            if chosen[option.name] != self._default(option)
        )
        fmt = builder.build(name, changed, _spelling(name, self.digest, changed), self)
        check_format(fmt, builder.fail)
        chosen_view = [view for view in fmt.views if view.format == chosen["view"]]
        return _viewed(fmt, chosen_view[0]) if chosen_view else fmt

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
        given = "was not given" if value is None else f"cannot be {shortened(value)}"
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
                source.fail(f"no option {condition[0]!r}", condition[2], why=one_of(seen))

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


def _with_view_option(syntax: Syntax) -> Syntax:
    """A definition with views has the option to be one of them."""
    views = [statement for statement in syntax.statements if statement.keyword == "view"]
    if not views:
        return syntax
    for option in syntax.options:
        if option.name == "view":
            syntax.source.fail("a format with views has the option view already", option.place)
    names = dict.fromkeys([NO_VIEW, *(view.name for view in views)])
    domain = tuple(Alternative("value", (name,)) for name in names)
    option = OptionStatement("view", domain, NO_VIEW, views[0].place)
    return replace(syntax, options=(*syntax.options, option))


def _viewed(whole: Format, view: View) -> Format:
    codes = whole.family.lookup(view.format).element
    assert isinstance(codes, Minifloat)
    return replace(whole, element=Plane(view.part, codes, view.scale), views=())


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
