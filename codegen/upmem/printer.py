"""C with indentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

INDENT = "    "
LONGEST_LINE = 100
BREAKS = (" + ", " - ", ", ", "= ")


class Printer:
    """Lines, and their indentation by blocks."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        self._lines.append(INDENT * self._depth + text if text else "")

    def comment(self, *texts: str) -> None:
        """One comment of a line for each text."""
        if len(texts) == 1:
            self.line(f"/* {texts[0]} */")
            return
        self.line("/*")
        for text in texts:
            self.line(f" * {text}".rstrip())
        self.line(" */")

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """`header {` … `}`."""
        self.line(f"{header} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    def text(self) -> str:
        return "\n".join(part for line in self._lines for part in wrapped(line)) + "\n"


def wrapped(line: str) -> Iterator[str]:
    """
    The line, broken behind its last operators and commas before the limit.

    >>> [len(each) for each in wrapped("    x = " + " + ".join(["abcdefgh"] * 12) + ";")]
    [95, 50]
    """
    indent = line[: len(line) - len(line.lstrip())]
    while len(line) > LONGEST_LINE and not line.lstrip().startswith(("/*", "*")):
        places = [
            line.rfind(mark, 0, LONGEST_LINE) + len(mark) for mark in (" + ", " - ", ", ", "= ")
        ]
        place = max(places)
        if place <= len(indent) + 12:
            break
        yield line[:place].rstrip()
        line = f"{indent}{INDENT}{line[place:]}"
    yield line
