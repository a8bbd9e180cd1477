"""
Schedules of kernels as spaces: the fields of a schedule are its knobs, its verifier is the rule.

A field takes the values that its kernel's space lists for it, those that stand beside it in the
class (`field(metadata={"values": …})`), or both values of a flag; else it keeps its default. So a
field that a schedule gains becomes a knob.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..knobs import Columns, Knob, Space, Value, Verifier
from .estimate import Estimate

Schedule = TypeVar("Schedule")


def values_of(schedule: Any) -> dict[str, Value]:
    """A schedule as values of knobs."""
    return {name: _plain_value(value) for name, value in asdict(schedule).items()}


def _plain_value(value: Any) -> Value:
    return int(value) if isinstance(value, bool) else value


def schedule_from(kind: type[Schedule], values: Mapping[str, Value]) -> Schedule:
    """
    Undo `values_of`; fields that are left out have their defaults.

    Raises TypeError for values that are no schedule of this kind.
    """
    kinds = {each.name: str(each.type) for each in _fields(kind)}
    return kind(**{name: _plain(kinds.get(name, ""), value) for name, value in values.items()})


def _plain(kind: str, value: Value) -> Value:
    return {"bool": bool, "int": int, "str": str}[kind](value) if kind in _PLAIN else value


_PLAIN = ("bool", "int", "str")


def _fields(kind: type) -> tuple[Field, ...]:
    return fields(kind)  # type: ignore[arg-type] - schedules are dataclasses


@dataclass(frozen=True)
class ScheduleSpace(Generic[Schedule]):
    """
    What differs between kernels: `values` of the fields of `kind`, `reasons` against a schedule and
    what one costs on paper. Schedules of `include` have their values among those of the knobs.
    """

    kind: type[Schedule]
    values: Mapping[str, tuple[Value, ...]]
    reasons: Callable[[Schedule], Iterable[str]]
    estimate: Callable[[Schedule], Estimate]
    include: Sequence[Schedule] = ()

    def space(self, name: str) -> Space:
        knobs = tuple(Knob(each.name, self._values(each)) for each in _fields(self.kind))
        names = tuple(knob.name for knob in knobs)

        def reasons(values: Mapping[str, Value]) -> Iterable[str]:
            return self.reasons(schedule_from(self.kind, values))

        rule = Verifier(names, reasons).rule
        return Space(name, knobs, (rule,), derive=_Numbers(self.kind, names, self.estimate))

    def _values(self, each: Field) -> tuple[Value, ...]:
        rows = [values_of(schedule)[each.name] for schedule in self.include]
        listed = self.values.get(each.name, each.metadata.get("values", ()))
        flags = (0, 1) if str(each.type) == "bool" and not listed else ()
        own = () if each.default is MISSING else (_plain_value(each.default),)
        once = dict.fromkeys([*listed, *flags, *rows] or own)
        return tuple(once) if any(isinstance(v, str) for v in once) else tuple(_sorted(once))


def _sorted(values: Iterable[Any]) -> Iterator[Value]:
    yield from sorted(values)


@dataclass(frozen=True)
class _Numbers(Generic[Schedule]):
    """Estimates of configs, each made once."""

    kind: type[Schedule]
    names: tuple[str, ...]
    estimate: Callable[[Schedule], Estimate]
    found: dict[tuple[Value, ...], tuple[float, ...]] = field(default_factory=dict)

    def __call__(self, columns: Columns) -> dict[str, NDArray]:
        rows = zip(*(columns[name].tolist() for name in self.names), strict=True)
        names = [each.name for each in fields(Estimate)]
        table = np.array([self._of(row) for row in rows], np.float64).reshape(-1, len(names))
        return dict(zip(names, table.T, strict=True))

    def _of(self, row: tuple[Value, ...]) -> tuple[float, ...]:
        if row not in self.found:
            schedule = schedule_from(self.kind, dict(zip(self.names, row, strict=True)))
            self.found[row] = tuple(asdict(self.estimate(schedule)).values())
        return self.found[row]
