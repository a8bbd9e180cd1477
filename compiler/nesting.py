"""
How the arguments and results of a model nest: read from a program, kept in the manifest.

No class is kept by its name: a named tuple comes back as one of its field names, other classes as
a `Record`.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ..dialects.errors import UsageError

Kind = Literal["tensor", "constant", "float", "tuple", "list", "dict", "namedtuple", "record"]


class Nest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    A tensor, a constant that tracing fixed, or a container of `parts`, by `keys` if it has.

    A constant that JSON has no number for is a "float" with its spelling: nan, inf or -inf.
    """

    kind: Kind
    value: bool | int | float | str | None = None
    keys: tuple[str | int, ...] = ()
    parts: tuple[Nest, ...] = ()

    @property
    def is_constant(self) -> bool:
        return self.kind in ("constant", "float")

    @property
    def constant(self) -> bool | int | float | str | None:
        if self.kind == "constant":
            return self.value
        return {"inf": math.inf, "-inf": -math.inf}.get(str(self.value), math.nan)


TENSOR = Nest("tensor")


def constant(value: Any) -> Nest:
    """Of what is neither a number, a text nor None, its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return Nest("float", str(value))
    plain = value is None or isinstance(value, bool | int | float | str)
    return Nest("constant", value if plain else str(value))


class Record(dict[str, Any]):
    """A result that was an object of a class: its fields as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def rebuilt(nest: Nest, tensors: Iterator[Any]) -> Any:
    """The nested object, its tensors taken from `tensors` in order."""
    if nest.kind == "tensor":
        return next(tensors)
    if nest.is_constant:
        return nest.constant
    parts = [rebuilt(part, tensors) for part in nest.parts]
    if nest.kind in ("tuple", "list"):
        return parts if nest.kind == "list" else tuple(parts)
    if nest.kind == "namedtuple":
        return namedtuple("Result", [str(key) for key in nest.keys], rename=True)(*parts)
    made = dict(zip(nest.keys, parts, strict=True))
    return made if nest.kind == "dict" else Record({str(key): made[key] for key in made})


def bound(
    parameters: Nest, tensors: int, args: Sequence[Any], keywords: Mapping[str, Any]
) -> list[Any]:
    """
    The `tensors` tensor inputs of a call in the order of the signature.

    `parameters` is a dict of what the model takes, in its order. Constants may be left out, and
    nested inputs may be given one after the other. Raises UsageError.
    """
    if not keywords and len(args) == tensors and all(hasattr(each, "dtype") for each in args):
        return list(args)
    names = [str(key) for key in parameters.keys]
    parts = dict(zip(names, parameters.parts, strict=True))
    varying = [name for name in names if not parts[name].is_constant]
    places = varying if len(args) == len(varying) and not keywords else names
    if len(args) > len(places):
        raise _miscounted(len(args), tensors, names)
    given = dict(zip(places, args, strict=False))
    for name, value in keywords.items():
        if name not in parts or name in given:
            problem = "is given twice" if name in parts else "is no input of the model"
            raise UsageError(
                "input-name", f"'{name}' {problem}", next_step=f"it takes {', '.join(names)}"
            )
        given[name] = value
    missing = [name for name in varying if name not in given]
    if missing and not keywords:
        raise _miscounted(len(args), tensors, names)
    if missing:
        raise UsageError("input-count", f"no value for {', '.join(missing)}")
    flat = ((name, value) for name in names if name in given for value in [given[name]])
    return [leaf for name, value in flat for leaf in _leaves(parts[name], value, name)]


def _miscounted(given: int, wanted: int, names: Sequence[str]) -> UsageError:
    return UsageError(
        "input-count", f"{given} inputs given, the model takes {wanted} ({', '.join(names)})"
    )


def _leaves(nest: Nest, value: Any, path: str) -> Iterator[Any]:
    if nest.kind == "tensor":
        yield value
    elif nest.is_constant:
        if not _is_same(value, nest.constant):
            plain = value is None or isinstance(value, bool | int | float | str)
            given = repr(value) if plain else f"a {type(value).__name__}"
            raise UsageError(
                "input-constant",
                f"'{path}' is {given}, the model was compiled for {nest.constant!r}",
                next_step="compile it for this value, or leave it out",
            )
    else:
        for key, part in zip(nest.keys or range(len(nest.parts)), nest.parts, strict=True):
            yield from _leaves(part, _member(nest, value, key, path), f"{path}[{key!r}]")


def _is_same(value: Any, fixed: bool | int | float | str | None) -> bool:
    """Whether `value` is the constant; arrays and tensors never are, NaN is itself."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(fixed, bool | int | float):
        same = isinstance(value, bool | int | float)
        return same and (value == fixed or (value != value and fixed != fixed))
    return value is None if fixed is None else isinstance(value, str) and value == fixed


def _member(nest: Nest, value: Any, key: str | int, path: str) -> Any:
    try:
        if nest.kind in ("tuple", "list", "namedtuple") and len(value) != len(nest.parts):
            raise TypeError
        if nest.kind == "namedtuple":
            return value[nest.keys.index(key)]
        return getattr(value, str(key)) if nest.kind == "record" else value[key]
    except (TypeError, KeyError, IndexError, AttributeError):
        wanted = ", ".join(map(repr, nest.keys)) or f"{len(nest.parts)} values"
        raise UsageError(
            "input-nesting",
            f"'{path}' is a {type(value).__name__}, the model takes a {nest.kind} of {wanted}",
        ) from None
