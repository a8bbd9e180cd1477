"""
Formats by name, by file and by spelling.

User definitions are interned by content: a spelling carries the digest of the text it means, so
two users' formats of one name never mix, and a spelling is readable wherever the definition has
been read before.
"""

from __future__ import annotations

import difflib
import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .language import MAX_TEXT_BYTES, FormatSyntaxError, parse_spelling_text
from .number_format import Format
from .resolve import Family

_INTERNED: dict[str, Family] = {}


def format(name: str | os.PathLike[str], **options: Any) -> Format:
    """
    A format by name, by spelling, or from a `.fmt` file.

    Raises UsageError for an unknown name or option, naming the valid ones, and its subclass
    FormatSyntaxError for a file that is not a definition.

    >>> format("int4", group=32, symmetric=False).spelling
    'int4<group=32,symmetric=false>'
    """
    text = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(text, str):
        raise UsageError("format-unknown", f"a format is named by a text, not {name!r}")
    if isinstance(name, os.PathLike) or names_file(text) or os.sep in text:
        path, mark, spelled = text.partition(".fmt<")
        if mark:
            _, _, given = parse_spelling_text(f"file<{spelled}")
            return _read_file(f"{path}.fmt", given | options)
        return _read_file(text, options)
    if "<" in text or "@" in text:
        fmt = parse_spelling(text)
        return fmt.with_options(**options) if options else fmt
    return _family(text).build(text, options)


def names_file(text: str) -> bool:
    """
    Whether a format's name is the path of a definition, options after it or not.

    >>> names_file("mine.fmt"), names_file("mine.fmt<group=32>"), names_file("int4<group=32>")
    (True, True, False)
    """
    return text.endswith(".fmt") or ".fmt<" in text


@lru_cache(maxsize=1024)
def parse_spelling(text: str) -> Format:
    """
    The format that `Format.spelling` came from; read once, since verifiers ask for each op.

    A user's format must have been read in this process; `from_definition` does that.
    """
    name, digest, options = parse_spelling_text(text)
    if digest is None:
        return _family(name).build(name, options)
    family = _INTERNED.get(digest)
    if family is None or name not in family.names:
        raise UsageError(
            "format-unknown",
            f"the definition of user format {name}@{digest} is not loaded",
            next_step="load the .fmt file, or the artifact that embeds it, first",
        )
    return family.build(name, options)


def from_definition(text: str, name: str | None = None, **options: Any) -> Format:
    """A format from the text of a definition; `name` picks a member of a family."""
    return _intern(Family.parse(text, "format definition", format), name, options)


def available() -> dict[str, str]:
    """Built-in formats: name to a one-line description, in the order of their names."""
    return {name: family.syntax.title for name, family in sorted(_builtin().items())}


@lru_cache(maxsize=1)
def _builtin() -> dict[str, Family]:
    families = {}
    for entry in files("qcc.dialects.formats").joinpath("builtin").iterdir():
        if entry.name.endswith(".fmt"):
            family = Family.parse(entry.read_text("utf-8"), entry.name, format, builtin=True)
            families.update(dict.fromkeys(family.names, family))
    return families


def _family(name: str) -> Family:
    families = _builtin()
    if name not in families:
        close = difflib.get_close_matches(name, families, 3)
        raise UsageError(
            "format-unknown",
            f"no format {name[:80]!r}",
            why="known formats: " + ", ".join(sorted(families)),
            next_step=f"did you mean {' or '.join(close)}?"
            if close
            else "give the path of a .fmt file for a format of your own",
        )
    return families[name]


def _intern(family: Family, name: str | None, options: dict[str, Any]) -> Format:
    if name is None:
        if len(family.names) > 1:
            raise UsageError(
                "format-family",
                f"the definition has several formats: {', '.join(family.names)}",
                next_step="name one",
            )
        name = next(iter(family.names))
    elif name not in family.names:
        raise UsageError("format-unknown", f"the definition has {family.names}, not {name!r}")
    fmt = family.build(name, options)
    _INTERNED[family.digest] = family
    return fmt


def _read_file(path: str, options: dict[str, Any]) -> Format:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatSyntaxError(
            "format-encoding", "a format definition must be UTF-8", where=path, why=str(error)
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            "format-file",
            "cannot read the format definition",
            where=path,
            why=getattr(error, "strerror", None) or str(error),
            next_step="give the path of a .fmt file, or a name from `qcc list formats`",
        ) from error
    return _intern(Family.parse(text, path, format), None, options)
