"""
Features of a search's models: those of configs, and what two kinds of model cannot see in them.

Trees split along axes, so that they get products and quotients of knobs as well (threads of a
block, points of a tile, work of a thread). A Gaussian process takes near numbers for near times, so
that it also gets which value each knob has: one feature a value, which share a length, so that it
learns how much it matters that two configs have the same value, beside how far apart they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..dialects.knobs import Columns, Configs, Knob, Space
from .features import WIDE, Encoder, Features

FEWEST = 3
"""Values of a knob for "the same" to say more than its number does."""
SAME = np.sqrt(2.0)
"""What a value's feature is, so that configs which differ in it are 2 apart."""
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Views:
    """Call it with configs [count, knobs]: scaled features, then one for each value of knobs."""

    scaled: Encoder
    products: tuple[str, ...]
    listed: tuple[int, ...]
    """Columns of the knobs whose values are features."""

    @staticmethod
    def of(space: Space, sample: Configs) -> Views:
        pairs = {
            f"{a.name}{sign}{b.name}": (a.name, b.name, sign)
            for a, b in combinations(filter(_is_wide, space.knobs), 2)
            for sign in "*/"
        }
        wider = replace(space, derive=_with_products(space.derive, pairs))
        listed = [i for i, each in enumerate(space.knobs) if each.numeric]
        many = [i for i in listed if len(space.knobs[i].values) >= FEWEST]
        return Views(Encoder.of(wider, sample), tuple(pairs), tuple(many))

    def __call__(self, configs: Configs) -> Features:
        knobs = self.scaled.space.knobs
        values = [
            SAME * (configs[:, [column]] == np.arange(len(knobs[column].values)))
            for column in self.listed
        ]
        return np.concatenate([self.scaled(configs), *values], axis=1)

    def own(self, configs: Configs) -> Features:
        """Without products and values."""
        names = self.scaled.names
        return self.scaled(configs)[:, [name not in self.products for name in names]]

    @property
    def values(self) -> int:
        """How many features are values of knobs."""
        return sum(len(self.scaled.space.knobs[column].values) for column in self.listed)

    @cached_property
    def of_trees(self) -> Places:
        return np.arange(len(self.scaled.names))

    @cached_property
    def of_processes(self) -> Places:
        names = self.scaled.names
        own = [place for place, name in enumerate(names) if name not in self.products]
        return np.array([*own, *range(len(names), len(names) + self.values)], np.int64)

    @cached_property
    def groups(self) -> Places:
        """Which of `of_processes` share a length."""
        count = len(self.of_processes)
        sizes = [len(self.scaled.space.knobs[column].values) for column in self.listed]
        own = count - sum(sizes)
        return np.concatenate([np.arange(own), own + np.repeat(np.arange(len(sizes)), sizes)])


def _is_wide(knob: Knob) -> bool:
    """Whether its feature is a logarithm (features.py)."""
    if not knob.numeric or len(knob.values) < 2:
        return False
    least, most = min(knob.array), max(knob.array)
    return bool(least > 0 and most >= WIDE * least)


def _with_products(
    derive: Callable[[Columns], dict[str, NDArray]] | None, pairs: dict[str, tuple[str, str, str]]
) -> Callable[[Columns], dict[str, NDArray]]:
    def derived(columns: Columns) -> dict[str, NDArray]:
        numbers = {} if derive is None else derive(columns)
        for name, (left, right, sign) in pairs.items():
            a, b = columns[left].astype(np.float64), columns[right]
            numbers[name] = a * b if sign == "*" else a / b
        return numbers

    return derived
