"""
How the arguments and results of a model nest: read from a program, kept in the manifest.

No class is kept by its name: a named tuple comes back as one of its field names, other classes as
a `Record`.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..dialects.errors import UsageError

Kind = Literal["tensor", "constant", "tuple", "list", "dict", "namedtuple", "record"]


class Nest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tensor, a constant that tracing fixed, or a container of `parts`, by `keys` if it has."""

    kind: Kind
    value: bool | int | float | str | None = None
    keys: tuple[str | int, ...] = ()
    parts: tuple[Nest, ...] = ()


TENSOR = Nest("tensor")


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
    if nest.kind == "constant":
        return nest.value
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
    varying = [name for name in names if parts[name].kind != "constant"]
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
    elif nest.kind == "constant":
        if value is not nest.value and value != nest.value:
            raise UsageError(
                "input-constant",
                f"'{path}' is {value!r}, the model was compiled for {nest.value!r}",
                next_step="compile it for this value, or leave it out",
            )
    else:
        for key, part in zip(nest.keys or range(len(nest.parts)), nest.parts, strict=True):
            yield from _leaves(part, _member(nest, value, key, path), f"{path}[{key!r}]")


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
