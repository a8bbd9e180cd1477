"""Text with indentation: what every rule of this target writes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

INDENT = "  "
LONGEST_LINE = 100
BREAKS = (", ", " && ", " ? ", " + ", " ^ ", "= ")


class Printer:
    """Lines, their indentation, and names that are used once."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0
        self._taken: dict[str, int] = {}

    def line(self, text: str = "") -> None:
        self._lines.append(INDENT * self._depth + text if text else "")

    def comment(self, text: str) -> None:
        self.line(f"// {text}")

    @contextmanager
    def block(self, header: str, end: str = "}") -> Iterator[None]:
        """`header {` … `}`."""
        self.line(f"{header} {{" if header else "{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line(end)

    @contextmanager
    def loop(
        self, name: str, count: int, start: str = "0", step: int = 1, at_once: int = 0
    ) -> Iterator[str]:
        """
        An unrolled loop over `name` from `start` to before `count`; its index.

        What runs once has no loop, and the index 0. No more than `at_once` rounds are unrolled, if
        it is given.
        """
        if start == "0" and count <= step:
            yield "0"
            return
        advance = f"++{name}" if step == 1 else f"{name} += {step}"
        self.line(f"#pragma unroll {at_once}" if 0 < at_once < count else "#pragma unroll")
        with self.block(f"for (int {name} = {start}; {name} < {count}; {advance})"):
            yield name

    def fresh(self, name: str) -> str:
        """`name`, or with a number where it is taken."""
        count = self._taken[name] = self._taken.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def text(self) -> str:
        return "\n".join(part for line in self._lines for part in wrapped(line)) + "\n"


def wrapped(line: str) -> Iterator[str]:
    """
    The line, broken behind its operators and commas where it is too long.

    >>> list(wrapped("  store(" + "a" * 60 + ", " + "b" * 60 + ");"))[1].strip().startswith("bbb")
    True
    """
    indent = line[: len(line) - len(line.lstrip())]
    while len(line) > LONGEST_LINE and not line.lstrip().startswith("//"):
        place = _break(line, len(indent))
        if place is None:
            break
        yield line[:place].rstrip()
        line = f"{indent}    {line[place:]}"
    yield line


def _nesting(line: str, place: int) -> int:
    """1 where brackets open, those of a template too, -1 where they close."""
    letter, before, after = line[place], line[place - 1 : place], line[place + 1 : place + 2]
    opens = letter in "([{" or (letter == "<" and after.isalnum())
    closes = letter in ")]}" or (letter == ">" and before.isalnum())
    return opens - closes


def _break(line: str, indent: int) -> int | None:
    """Behind the outermost mark, the last of them that leaves no more than a line."""
    depth, best = 0, None
    for place in range(indent, LONGEST_LINE - 1):
        depth += _nesting(line, place)
        found = next((mark for mark in BREAKS if line.startswith(mark, place)), None)
        if found and place > indent + 12 and (best is None or depth <= best[0]):
            best = depth, place + len(found)
    return best and best[1]


def linear(*parts: str | int | tuple[int, str]) -> str:
    """
    A sum of numbers, names, and names times a number, as short as it can be.

    >>> linear((4, "0"), "lane", (16, "strip"), 0), linear((1, "i"), 8), linear(0, (3, "0"))
    ('lane + 16 * strip', 'i + 8', '0')
    """
    constant, terms = 0, []
    for part in parts:
        if isinstance(part, int):
            constant += part
            continue
        factor, name = (1, part) if isinstance(part, str) else part
        if name.isdigit():
            constant += factor * int(name)
        elif factor == 1:
            terms.append(name)
        elif factor:
            terms.append(f"{factor} * {grouped(name)}")
    if constant or not terms:
        terms.append(str(constant))
    return " + ".join(terms)


def grouped(value: str) -> str:
    """
    A factor of a product, in parentheses where it needs them.

    >>> grouped("k"), grouped("k / 2"), grouped("(k / 2)"), grouped("at(k, 1)")
    ('k', '(k / 2)', '(k / 2)', 'at(k, 1)')
    """
    depth = 0
    for letter in value:
        depth += (letter == "(") - (letter == ")")
        if letter == " " and depth == 0:
            return f"({value})"
    return value


def bare(value: str) -> str:
    """
    An argument, or a whole side of a comparison: without parentheses around all of it.

    >>> bare("(k / 2)"), bare("(a) + (b)"), bare("(a ? b : c)"), bare("k")
    ('k / 2', '(a) + (b)', 'a ? b : c', 'k')
    """
    inside = value[1:-1]
    if not (value.startswith("(") and value.endswith(")")):
        return value
    depth = 0
    for letter in inside:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return value
    return inside


def divided(value: str, by: int) -> str:
    """
    >>> divided("k", 1), divided("0", 4), divided("a + b", 4), divided("k", 4)
    ('k', '0', '(a + b) / 4', 'k / 4')
    """
    if by == 1 or value == "0":
        return value
    return f"{grouped(value)} / {by}"


def number(value: float) -> str:
    """
    A float literal that is exactly this fp32 value.

    >>> number(2.0 ** -14), number(0.1), number(3)
    ('0x1p-14f', '0.1f', '3.0f')
    """
    single = np.float32(value)
    mantissa, exponent = np.frexp(single)
    if abs(mantissa) == 0.5 and not -4 < exponent < 8:
        return f"{'-' if mantissa < 0 else ''}0x1p{exponent - 1}f"
    return f"{single!s}f" if "." in str(single) or "e" in str(single) else f"{single!s}.0f"


def bits(value: int) -> str:
    """A mask or pattern: hexadecimal, eight digits where it has them."""
    return str(value) if value < 10 else f"0x{value:08x}" if value > 0xFFFF else f"0x{value:x}"
