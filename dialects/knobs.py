"""
What can be tuned: knobs, the rules between them, and spaces of both.

Declared beside the kernels they tune, as plain data; the driver hands a space to autotune. A
config is a row of value indices, one for each knob, so that batches of configs are integer arrays
[count, knobs] and rules are checked on whole batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

Value = int | float | str
Configs = NDArray[np.int64]
"""Value indices, [count, knobs]."""
Columns = Mapping[str, NDArray]
"""Values of some knobs by name, each [count]."""


@dataclass(frozen=True)
class Knob:
    """A choice among `values`: numbers (True and False as 1 and 0) or texts."""

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise UsageError(
                "knob-values",
                f"knob {self.name!r} needs different values, at least one",
                why=f"it has {self.values!r}",
                next_step="list each value once",
            )

    @cached_property
    def array(self) -> NDArray:
        return np.array(self.values)

    @property
    def numeric(self) -> bool:
        return not any(isinstance(value, str) for value in self.values)


@dataclass(frozen=True)
class Constraint:
    """
    `holds` takes the values of `knobs` in this order: arrays [count], or the numbers of one config.

    `reason` says what must be true; `told` takes the numbers and says how they break it.
    """

    knobs: tuple[str, ...]
    holds: Callable[..., NDArray[np.bool_]]
    reason: str
    told: Callable[..., str] | None = None

    def broken_by(self, values: Mapping[str, Any]) -> str:
        """How one config breaks this; empty if it does not."""
        given = [values[name] for name in self.knobs]
        if self.holds(*given):
            return ""
        return self.reason if self.told is None else self.told(*given)


@dataclass(frozen=True, eq=False)
class Verifier:
    """
    The verifier of whole configs as a rule of a space: `reasons` against the values of `knobs`.

    It is asked once about each config, and not about those that `cheap` rules out, where given.
    """

    knobs: tuple[str, ...]
    reasons: Callable[[Mapping[str, Value]], Iterable[str]]
    cheap: Callable[[Columns], NDArray[np.bool_]] | None = None
    _legal: dict[tuple[Value, ...], bool] = field(default_factory=dict)

    @property
    def rule(self) -> Constraint:
        return Constraint(self.knobs, self.holds, "the verifier of schedules", self._told)

    def holds(self, *values: NDArray | Value) -> NDArray[np.bool_]:
        """Of values in the order of `knobs`: arrays [count], or those of one config."""
        columns = dict(zip(self.knobs, map(np.atleast_1d, values), strict=True))
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        count = len(columns[self.knobs[0]])
        asked = np.ones(count, bool) if self.cheap is None else self.cheap(columns)
        return np.array(
            [bool(ask) and self._is_legal(row) for ask, row in zip(asked, rows, strict=True)], bool
        )

    def _is_legal(self, row: tuple[Value, ...]) -> bool:
        if row not in self._legal:
            self._legal[row] = not any(self.reasons(dict(zip(self.knobs, row, strict=True))))
        return self._legal[row]

    def _told(self, *values: Value) -> str:
        return "; ".join(self.reasons(dict(zip(self.knobs, values, strict=True))))


@dataclass(frozen=True, eq=False)
class Space:
    """
    Knobs and what combinations of them are legal.

    `members`, where given, lists all legal configs: a recorded space. `derive` computes numbers of
    a config that a cost model may learn from (bytes, waves, occupancy …), each [count].
    """

    name: str
    knobs: tuple[Knob, ...]
    constraints: tuple[Constraint, ...] = ()
    members: Configs | None = None
    derive: Callable[[Columns], dict[str, NDArray]] | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(knob.name for knob in self.knobs)

    @property
    def points(self) -> int:
        """All combinations, the illegal ones too."""
        return prod(len(knob.values) for knob in self.knobs)

    def columns(self, configs: Configs) -> dict[str, NDArray]:
        """The values of configs [count, knobs], by knob."""
        return {knob.name: knob.array[configs[:, i]] for i, knob in enumerate(self.knobs)}

    def values(self, config: Sequence[int]) -> dict[str, Value]:
        """One config as values by name."""
        return {knob.name: knob.values[i] for knob, i in zip(self.knobs, config, strict=True)}

    def config(self, values: Mapping[str, Value]) -> tuple[int, ...]:
        """The config of values by name; raises UsageError for names or values that do not exist."""
        try:
            return tuple(knob.values.index(values[knob.name]) for knob in self.knobs)
        except (KeyError, ValueError) as error:
            raise UsageError(
                "config-unknown",
                f"{dict(values)!r} is no config of space {self.name!r}",
                why=str(error),
                next_step=f"give a value to each of {', '.join(self.names)}",
            ) from error

    def legal(self, configs: Configs) -> NDArray[np.bool_]:
        """Which of configs [count, knobs] break no rule."""
        if self.members is not None:
            return self._is_member(self.keys(configs))
        columns = self.columns(configs)
        good = np.ones(len(configs), bool)
        for rule in self.constraints:
            good &= rule.holds(*(columns[name] for name in rule.knobs))
        return good

    def broken(self, config: Sequence[int]) -> list[str]:
        """The reasons why one config is illegal."""
        values = self.values(config)
        return [told for rule in self.constraints if (told := rule.broken_by(values))]

    def keys(self, configs: Configs) -> NDArray[np.int64]:
        """A number for each config, different for different ones; spaces of up to 2**63 points."""
        key = np.zeros(len(configs), np.int64)
        for column, knob in enumerate(self.knobs):
            key = key * len(knob.values) + configs[:, column]
        return key

    def _is_member(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        members = self._member_keys
        if not len(members):
            return np.zeros(len(keys), bool)
        places = np.minimum(np.searchsorted(members, keys), len(members) - 1)
        return members[places] == keys

    @cached_property
    def _member_keys(self) -> NDArray[np.int64]:
        if self.members is None:
            return np.zeros(0, np.int64)
        return np.sort(self.keys(self.members))
