"""Merged statements to a `Format`: each attribute checked and put into its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .definition import Admission, Block, Scale, View
from .domains import Domain
from .element_statement import build_element
from .language import Attribute, Reference, Statement, Syntax
from .number_format import Format, OptionValue
from .schema import ELEMENTS, REQUIRED, STATEMENTS

if TYPE_CHECKING:
    from .resolve import Family

SCALE_ORDER = {"all": 0, "positive": 0, "negative": 1}


class Builder:
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
            why = one_of(ELEMENTS)
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
                source.fail(what, attribute.place, why=one_of(schema))
            accepted = domain.accept(self._resolved(attribute))
            if accepted is None:
                what = f"{attribute.key} cannot be {shortened(self._resolved(attribute))}"
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
            self.syntax.source.fail(what, attribute.place, why=one_of(self.environment))
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


def shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def one_of(names: Iterable[str]) -> str:
    return "known: " + (", ".join(sorted(names)) or "none")
