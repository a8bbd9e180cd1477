"""
Find a recipe: a dict, a TOML file, a resolved plan, a built-in name or a bare format.

recipe_schema.py says what a recipe may hold, resolve.py what it means for a model.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..dialects.errors import QccError, UsageError
from ..dialects.formats import available
from .options import MODEL_PRECISION
from .recipe_reader import recipe_from_mapping
from .recipe_schema import Recipe

LARGEST_FILE = 1 << 20
MOST_DOTS = 100
TOO_MUCH = "its values nest too deeply, or a number has too many digits"
_BUILTIN = files(str(__package__)) / "recipes"


def load_recipe(spec: str | Path | Mapping[str, Any] | None) -> Recipe:
    """
    The recipe that `spec` means; every failure is a UsageError.

    None (or "none") leaves the model in its own precision. A string is a built-in name, else the
    path of a `.toml` recipe or of a `.json` plan, else a number format for all weights.
    """
    if spec is None or spec == MODEL_PRECISION:
        return Recipe(MODEL_PRECISION, "the model's own precision everywhere")
    if isinstance(spec, Mapping):
        return recipe_from_mapping(spec, source="recipe")
    if isinstance(spec, Path):
        return _from_file(spec)
    if not isinstance(spec, str):
        raise UsageError(
            "recipe-value", f"a recipe must be a name, a path, a dict or None, not {type(spec)}"
        )
    if spec in builtin_names():
        return _builtin(spec)
    if spec.endswith((".toml", ".json")):
        return _from_file(Path(spec))
    return _from_format(spec)


def builtin_names() -> tuple[str, ...]:
    """The names of the built-in recipes, sorted."""
    found = (entry.name for entry in _BUILTIN.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def builtin_recipes() -> dict[str, str]:
    """Built-in names and what each is for."""
    return {name: _builtin(name).description for name in builtin_names()}


def recipe_from_toml(
    text: str, *, source: str, name: str = "", folder: Path | None = None
) -> Recipe:
    """The recipe that `text` spells; syntax errors name line and column."""
    try:
        _check_bounds(text, source)
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error("recipe-syntax", "TOML", str(error), source) from None
    except (RecursionError, ValueError):
        raise _too_complex(TOO_MUCH, source) from None
    return recipe_from_mapping(data, source=source, name=name, folder=folder)


def _builtin(name: str) -> Recipe:
    text = (_BUILTIN / f"{name}.toml").read_text(encoding="utf-8")
    return recipe_from_toml(text, source=f"built-in recipe {name}", name=name)


def _from_file(path: Path) -> Recipe:
    text = _read(path)
    if path.suffix == ".json":
        return _from_json(text, path)
    return recipe_from_toml(text, source=str(path), name=path.stem, folder=path.parent)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise _too_complex(f"it is larger than {LARGEST_FILE:,} bytes", str(path))
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(
            "recipe-unreadable",
            f"cannot read the recipe {path}",
            why=str(error),
            next_step="give an existing UTF-8 file, or a name from `qcc list recipes`",
        ) from None


def _from_json(text: str, path: Path) -> Recipe:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise _syntax_error("recipe-syntax", "JSON", str(error), str(path)) from None
    except (RecursionError, ValueError):
        raise _too_complex(TOO_MUCH, str(path)) from None
    if not isinstance(data, Mapping):
        raise UsageError(
            "recipe-value", "a recipe must be an object at its top level", where=str(path)
        )
    return recipe_from_mapping(data, source=str(path), name=path.stem, folder=path.parent)


def _from_format(spec: str) -> Recipe:
    try:
        return recipe_from_mapping({"default": {"weights": spec}}, source="recipe", name=spec)
    except QccError as error:
        if error.code != "format-unknown":
            raise
        raise UsageError(
            "recipe-unknown",
            f"no built-in recipe and no number format is called '{spec[:80]}'",
            why=f"the recipes are {', '.join(builtin_names())}",
            next_step=_instead_of(spec),
        ) from None


def _instead_of(spec: str) -> str:
    if Path(spec).exists():
        return "the name of a recipe file ends in .toml, that of a resolved plan in .json"
    near = get_close_matches(spec, [*builtin_names(), *available()], n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}`qcc list recipes` and `qcc list formats` explain them; a file ends in .toml"


def _check_bounds(text: str, source: str) -> None:
    """Bound the parts of a dotted key: tomllib's time grows with the square of their number."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > MOST_DOTS:
            raise _too_complex(f"line {number} has more than {MOST_DOTS} dots", source)


def _too_complex(what: str, source: str) -> UsageError:
    return UsageError(
        "recipe-too-complex",
        f"the recipe is refused: {what}",
        where=source,
        next_step="use fewer and simpler rules, or compile from a resolved plan",
    )


def _syntax_error(code: str, language: str, message: str, source: str) -> UsageError:
    """Take "(at line 2, column 7)" out of the message and into the place."""
    found = re.search(r"line (\d+),? column (\d+)", message)
    where = f"{source}:{found[1]}:{found[2]}" if found else f"{source}, end of file"
    what = re.sub(r":? \(?(at|line) .*", "", message)
    return UsageError(
        code, f"not valid {language}: {what}", where=where, next_step="correct that line"
    )
