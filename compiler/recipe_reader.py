"""
Read plain values into a recipe, strictly: an unknown key or a wrong value is an error.

One schema for the dict of the API, the TOML file and the built-in recipes; recipe.py finds the
values, wherever they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..dialects.errors import QccError, UsageError
from ..dialects.formats import Format
from ..dialects.formats import format as make_format
from ..dialects.formats.catalog import names_file
from .name_pattern import NamePattern, name_pattern
from .plan import KEY_SCALES, OPS, Plan
from .recipe_schema import Choice, Recipe, Rule, Scaling, Settings

MOST_RULES = 4_096
SETTING_KEYS = ("weights", "activations", "kv", "fallback", "calibration")
DEFAULT_KEYS = (*SETTING_KEYS, "embeddings", "head")
RULE_KEYS = ("match", "op", "optional", *SETTING_KEYS)
RECIPE_KEYS = ("name", "description", "default", "rule")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands in which source; `.fmt` paths are relative to `folder`."""

    source: str
    part: str = ""
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.source}, {self.part}" if self.part else self.source

    def at(self, part: str) -> Place:
        return replace(self, part=f"{self.part} {part}" if self.part else part)


def recipe_from_mapping(
    data: Mapping[str, Any], *, source: str, name: str = "", folder: Path | None = None
) -> Recipe:
    """Check `data` against the schema; `source` names it in errors, which are all UsageError."""
    place = Place(source, folder=folder)
    if "resolved" in data:
        plan = Plan.from_json(data, where=source)
        return Recipe(name=plan.recipe, source=source, plan=plan)
    check_keys(data, RECIPE_KEYS, place)
    default = _typed(data, "default", Mapping, place, {})
    where = place.at("[default]")
    check_keys(default, DEFAULT_KEYS, where)
    return Recipe(
        name=_typed(data, "name", str, place, name) or "unnamed",
        description=_typed(data, "description", str, place, ""),
        source=source,
        default=_settings(default, where),
        embeddings=_choice(default, "embeddings", where),
        head=_choice(default, "head", where),
        rules=_rules(_typed(data, "rule", Sequence, place, ()), place),
    )


def check_keys(data: Mapping[str, Any], known: Sequence[str], place: Place) -> None:
    """Raises UsageError at the first key that is not one of `known`, naming the nearest."""
    for key in data:
        if key in known:
            continue
        near = get_close_matches(str(key), known, n=1)
        raise UsageError(
            "recipe-key-unknown",
            f"unknown key '{_shown(key)}'",
            where=str(place),
            why=f"known keys: {', '.join(known)}",
            next_step=f"did you mean '{near[0]}'?" if near else "remove it or use a known key",
        )


def _rules(tables: Sequence[Any], place: Place) -> tuple[Rule, ...]:
    if len(tables) > MOST_RULES:
        raise UsageError(
            "recipe-too-many-rules",
            f"{len(tables):,} rules; the limit is {MOST_RULES:,}",
            where=str(place),
            next_step="use globs, or compile from a resolved plan (plan.json)",
        )
    return tuple(_rule(number, table, place) for number, table in enumerate(tables, start=1))


def _rule(number: int, table: Any, place: Place) -> Rule:
    where = place.at(f"[[rule]] {number}")
    if not isinstance(table, Mapping):
        raise _wrong_type("rule", "a table", table, place)
    check_keys(table, RULE_KEYS, where)
    rule = Rule(
        number=number,
        match=_pattern(table, where),
        op=_op(table, where),
        optional=_typed(table, "optional", bool, where, False),
        settings=_settings(table, where),
    )
    if rule.match is None and rule.op is None:
        raise UsageError(
            "recipe-rule-selector",
            f"rule {number} says neither match nor op",
            where=str(where),
            next_step='add match="…" or op="…", or move its keys to [default]',
        )
    if rule.settings == Settings():
        raise UsageError(
            "recipe-rule-empty",
            f"{rule.label} sets nothing",
            where=str(where),
            next_step=f"add one of {', '.join(SETTING_KEYS)}",
        )
    return rule


def _pattern(table: Mapping[str, Any], place: Place) -> NamePattern | None:
    text = _typed(table, "match", str, place, None)
    if text is None:
        return None
    try:
        return name_pattern(text)
    except UsageError as error:
        raise _placed(error, place.at("match")) from None


def _op(table: Mapping[str, Any], place: Place) -> str | None:
    op = _typed(table, "op", str, place, None)
    if op is None or op in OPS:
        return op
    near = get_close_matches(op, OPS, n=1)
    raise UsageError(
        "recipe-op-unknown",
        f"unknown op '{_shown(op)}'",
        where=str(place),
        why=f"known ops: {', '.join(OPS)}",
        next_step=f"did you mean '{near[0]}'?" if near else "use one of them, or match=",
    )


def _settings(table: Mapping[str, Any], place: Place) -> Settings:
    keys, values = _kv(table, place)
    return Settings(
        weights=_choice(table, "weights", place),
        activations=_run_time(_choice(table, "activations", place), place.at("activations")),
        keys=keys,
        values=values,
        fallback=_fallback(table, place),
        scaling=_scaling(table, place),
        key_scales=_key_scales(table, place),
    )


def _choice(table: Mapping[str, Any], key: str, place: Place) -> Choice | None:
    return Choice(_format(table[key], key, place)) if key in table else None


def _kv(table: Mapping[str, Any], place: Place) -> tuple[Choice | None, Choice | None]:
    """`kv = F` for both, `kv = {k = F, v = G}` for each; a side left out stays unset."""
    value = table.get("kv")
    inside = place.at("kv")
    if isinstance(value, Mapping) and "format" not in value:
        check_keys(value, ("k", "v", "k_scales"), inside)
        if not value:
            raise _wrong_type("kv", "a format, or a table with k, v or k_scales", value, place)
        keys, values = _choice(value, "k", inside), _choice(value, "v", inside)
    else:
        keys = values = _choice(table, "kv", place)
    return _run_time(keys, inside), _run_time(values, inside)


def _key_scales(table: Mapping[str, Any], place: Place) -> str | None:
    """`kv = {k_scales = "channel"}`, one of KEY_SCALES."""
    value = table.get("kv")
    scales = value.get("k_scales") if isinstance(value, Mapping) else None
    if scales is None or scales in KEY_SCALES:
        return scales
    wanted = f"one of {', '.join(KEY_SCALES)}"
    raise _wrong_type("k_scales", wanted, scales, place.at("kv"))


def _run_time(choice: Choice | None, place: Place) -> Choice | None:
    """Refuse a format that only some values fit, for tensors whose values are not known yet."""
    if choice is not None and choice.format is not None and choice.format.admits is not None:
        raise UsageError(
            "recipe-format-role",
            f"{choice.format.name} cannot hold activations, keys or values",
            where=str(place),
            why="it admits a limited range, which only stored weights can be checked against",
            next_step="use it for weights only",
        )
    return choice


def _fallback(table: Mapping[str, Any], place: Place) -> tuple[Format, ...] | None:
    """A format, "none", or a list tried in order; "none" may only end the list."""
    if "fallback" not in table:
        return None
    value = table["fallback"]
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    chain = [_format(item, "fallback", place) for item in (value if is_list else [value])]
    if chain and chain[-1] is None:
        chain.pop()
    formats = tuple(item for item in chain if item is not None)
    if len(formats) < len(chain):
        raise UsageError(
            "recipe-fallback-order",
            'fallback goes on after "none"',
            where=str(place),
            why='"none" always fits, so what follows it is never tried',
            next_step='move "none" to the end of the list',
        )
    return formats


def _scaling(table: Mapping[str, Any], place: Place) -> Scaling | None:
    """`calibration = "dynamic"`, `"static"`, or `{percent = 99.9}` for static without outliers."""
    if "calibration" not in table:
        return None
    value = table["calibration"]
    if isinstance(value, Mapping):
        check_keys(value, ("percent",), place.at("calibration"))
        percent: Any = value.get("percent")
        # A boolean is an int to Python, and no number to TOML.
        if type(percent) in (int, float) and 0 < percent <= 100:
            return Scaling(float(percent))
    elif value in ("dynamic", "static"):
        return Scaling(100.0 if value == "static" else None)
    wanted = '"dynamic", "static" or a table {percent = P} with P above 0 and up to 100'
    raise _wrong_type("calibration", wanted, value, place)


def _format(value: Any, key: str, place: Place) -> Format | None:
    """The format that a recipe value spells; None for "none"."""
    if isinstance(value, Format):
        return value
    if value == "none":
        return None
    if isinstance(value, Mapping):
        options = {str(option): setting for option, setting in value.items()}
        name = options.pop("format", None)
    else:
        options, name = {}, value
    if not isinstance(name, str) or name == "none":
        wanted = 'a format name, "none", or a table such as {format="int4", group=64}'
        raise _wrong_type(key, wanted, value, place)
    try:
        return _spelled(name, options, place)
    except QccError as error:
        raise _placed(error, place.at(key)) from None


def _spelled(name: str, options: Mapping[str, Any], place: Place) -> Format:
    """A name or spelling; the path of a definition starts at the recipe's own folder."""
    if names_file(name) and place.folder is not None:
        return make_format(place.folder / name, **options)
    return make_format(name, **options)


def _placed(error: QccError, place: Place) -> UsageError:
    """The same complaint, as a fault of the recipe at `place`."""
    where = f"{place}, {error.where}" if error.where else str(place)
    return UsageError(error.code, error.what, where=where, why=error.why, next_step=error.next_step)


TYPE_NAMES = {
    Mapping: "a table",
    Sequence: "an array of tables",
    str: "a string",
    bool: "a boolean",
}


def _typed(table: Mapping[str, Any], key: str, kind: Any, place: Place, default: Any) -> Any:
    """`table[key]`, which must be a `kind`; `default` where it is absent."""
    value = table.get(key, default)
    wrong = not isinstance(value, kind) or (kind is Sequence and isinstance(value, str))
    if key in table and wrong:
        raise _wrong_type(key, TYPE_NAMES[kind], value, place)
    return value


def _wrong_type(key: str, wanted: str, value: Any, place: Place) -> UsageError:
    return UsageError(
        "recipe-value",
        f"'{key}' must be {wanted}, not {_shown(value)}",
        where=str(place),
        next_step="docs/recipes.md lists the values of each key",
    )


def _shown(value: Any) -> str:
    """A value for a message, shortened."""
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 80 else f"{text[:77]}..."
