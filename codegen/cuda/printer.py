"""Text with indentation: what every rule of this target writes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

INDENT = "  "


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
    def loop(self, name: str, count: int, start: str = "0", step: int = 1) -> Iterator[str]:
        """
        An unrolled loop over `name` from `start` to before `count`; its index.

        What runs once has no loop, and the index 0.
        """
        if start == "0" and count <= step:
            yield "0"
            return
        advance = f"++{name}" if step == 1 else f"{name} += {step}"
        self.line("#pragma unroll")
        with self.block(f"for (int {name} = {start}; {name} < {count}; {advance})"):
            yield name

    def fresh(self, name: str) -> str:
        """`name`, or with a number where it is taken."""
        count = self._taken[name] = self._taken.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


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
    >>> grouped("k"), grouped("k / 2"), grouped("(k / 2)"), grouped("at(k)"), grouped("(a) + (b)")
    ('k', '(k / 2)', '(k / 2)', 'at(k)', '((a) + (b))')
    """
    depth, outside = 0, value.startswith("(")
    for index, letter in enumerate(value):
        depth += (letter == "(") - (letter == ")")
        outside = outside and (depth > 0 or index == len(value) - 1)
    return value if outside or " " not in value else f"({value})"


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
