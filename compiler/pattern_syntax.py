"""
The regular subset of regular expressions, read into a tree.

    either   = sequence ("|" sequence)*
    sequence = (atom repeat?)*
    repeat   = ("*" | "+" | "?" | "{m}" | "{m,}" | "{,n}" | "{m,n}") "?"?
    atom     = character | "." | "[" set "]" | escape | "^" | "$" | "(" either ")"

Nothing here needs backtracking to match: look-around, back-references and inline flags are
refused by name. Classes such as \\d and \\w are ASCII's.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects.errors import UsageError

DEEPEST_GROUP = 20

Ranges = tuple[tuple[int, int], ...]
_LAST = 0x10FFFF
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 13), (32, 32))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": 9, "n": 10, "r": 13}


@dataclass(frozen=True)
class Characters:
    """One character whose code point lies in `ranges`."""

    ranges: Ranges


@dataclass(frozen=True)
class Edge:
    """The empty match at the start or the end of the name."""

    end: bool


@dataclass(frozen=True)
class Sequence:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    choices: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """`low` to `high` times, without end where `high` is None."""

    body: Node
    low: int
    high: int | None


Node = Characters | Edge | Sequence | Either | Repeat


def parse_expression(text: str) -> Node:
    """The tree of `text` (without `re:`); raises UsageError with the column of what it is not."""
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the regular subset of Python's syntax."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def parse(self) -> Node:
        node = self._either()
        if self.at < len(self.text):
            raise self._refusal("a ')' without its '('")
        return node

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, what: str) -> str:
        """The next character; `what` is what was expected of it."""
        character = self._peek()
        if not character:
            raise self._refusal(f"the pattern ends where {what} was expected")
        self.at += 1
        return character

    def _taken(self, wanted: str) -> bool:
        found = self.text.startswith(wanted, self.at)
        self.at += len(wanted) if found else 0
        return found

    def _refusal(self, what: str) -> UsageError:
        return UsageError(
            "recipe-pattern-syntax",
            f"cannot read the regular expression 're:{self.text}': {what}",
            where=f"column {self.at + 4}",
            why="patterns are matched in linear time: literals, '.', classes, groups, '|', "
            "'*', '+', '?', '{m,n}', '^' and '$'",
            next_step="rewrite it in that subset, or use several rules",
        )

    def _either(self) -> Node:
        choices = [self._sequence()]
        while self._taken("|"):
            choices.append(self._sequence())
        return choices[0] if len(choices) == 1 else Either(tuple(choices))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return Sequence(tuple(parts))

    def _atom(self) -> Node:
        character = self._take("a character")
        if character == "(":
            return self._group()
        if character == "[":
            return Characters(self._set())
        if character == ".":
            return Characters(((0, _LAST),))
        if character in "^$":
            return Edge(end=character == "$")
        if character == "\\":
            return Characters(self._escape())
        if character in "*+?":
            raise self._refusal(f"nothing before '{character}' to repeat")
        return Characters(((ord(character), ord(character)),))

    def _group(self) -> Node:
        if self._taken("?") and not self._taken(":"):
            raise self._refusal("only plain and '(?:' groups exist here")
        self.depth += 1
        if self.depth > DEEPEST_GROUP:
            raise self._refusal(f"groups nest deeper than {DEEPEST_GROUP}")
        node = self._either()
        if not self._taken(")"):
            raise self._refusal("a '(' without its ')'")
        self.depth -= 1
        return node

    def _escape(self) -> Ranges:
        character = self._take("the rest of an escape")
        if character.lower() in _CLASSES:
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else _complement(ranges)
        if character in _CONTROLS:
            return ((_CONTROLS[character], _CONTROLS[character]),)
        if character.isalnum():
            raise self._refusal(f"the escape '\\{character}' is not supported")
        return ((ord(character), ord(character)),)

    def _set(self) -> Ranges:
        negated = self._taken("^")
        ranges: list[tuple[int, int]] = []
        while not ranges or not self._taken("]"):
            ranges.extend(self._set_item())
        return _complement(tuple(ranges)) if negated else tuple(ranges)

    def _set_item(self) -> Ranges:
        first = self._set_character()
        ahead = self.text[self.at : self.at + 2]
        if ahead[:1] != "-" or ahead in ("-", "-]"):
            return first
        self.at += 1
        low, high = _only_character(first), _only_character(self._set_character())
        if low is None or high is None or high < low:
            raise self._refusal("a range in [...] that runs backwards or touches a class")
        return ((low, high),)

    def _set_character(self) -> Ranges:
        character = self._take("']'")
        if character == "\\":
            return self._escape()
        return ((ord(character), ord(character)),)

    def _repeated(self, node: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        if isinstance(node, Edge):
            raise self._refusal("'^' and '$' cannot be repeated")
        # A lazy mark changes which match is found, never whether there is one.
        self._taken("?")
        if self._peek() and self._peek() in "*+?":
            raise self._refusal("a repeat of a repeat; put the inner one in a group")
        return Repeat(node, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._taken(mark):
                return bounds
        if self._taken("{"):
            return self._counted()
        return None

    def _counted(self) -> tuple[int, int | None]:
        close = self.text.find("}", self.at)
        low, comma, high = self.text[self.at : max(close, self.at)].partition(",")
        digits = all(
            part.isascii() and part.isdigit() and len(part) <= 4 for part in (low, high) if part
        )
        if close < 0 or not digits or not (low or high):
            raise self._refusal(
                "'{' must open a count such as {2} or {1,3}; write '\\{' for itself"
            )
        self.at = close + 1
        least = int(low or 0)
        most = (int(high) if high else None) if comma else least
        if most is not None and most < least:
            raise self._refusal(f"the count {{{low},{high}}} runs backwards")
        return least, most


def _only_character(ranges: Ranges) -> int | None:
    """The code point of a set of one character."""
    low, high = ranges[0]
    return low if len(ranges) == 1 and low == high else None


def _complement(ranges: Ranges) -> Ranges:
    gaps: list[tuple[int, int]] = []
    start = 0
    for low, high in sorted(ranges):
        if low > start:
            gaps.append((start, low - 1))
        start = max(start, high + 1)
    return (*gaps, (start, _LAST)) if start <= _LAST else tuple(gaps)
