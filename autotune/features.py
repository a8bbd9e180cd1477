"""
Configs as numbers that a cost model learns from.

| feature | of | unit |
|---|---|---|
| `knob` | numbers above 0 that span a factor of 4 or more | log2 of the value |
| `knob` | other numbers | the value |
| `knob:twos` | 5 or more values, not all powers of two | how often 2 divides it: alignment, banks |
| `knob=text` | knobs with texts | 1 or 0 |
| derived | what the space derives (`Space.derive`) | log2 if positive in a sample, else as it is |

All are scaled to mean 0 and deviation 1 over the sample that the encoder was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..dialects.knobs import Configs, Knob, Space

WIDE = 4
MANY_VALUES = 5

Features = NDArray[np.float64]
"""[count, features]"""


def raw_features(space: Space, configs: Configs) -> dict[str, NDArray[np.float64]]:
    """Unscaled features by name, each [count]; derived numbers as they are."""
    columns = space.columns(configs)
    features: dict[str, NDArray[np.float64]] = {}
    for knob in space.knobs:
        features |= _of_knob(knob, columns[knob.name])
    if space.derive is not None:
        derived = space.derive(columns).items()
        features |= {name: np.asarray(numbers, np.float64) for name, numbers in derived}
    return features


def _of_knob(knob: Knob, column: NDArray) -> dict[str, NDArray[np.float64]]:
    if len(knob.values) == 1:
        return {}
    if not knob.numeric:
        return {f"{knob.name}={v}": (column == v).astype(np.float64) for v in knob.values}
    numbers, values = column.astype(np.float64), knob.array.astype(np.float64)
    if values.min() <= 0 or values.max() < WIDE * values.min():
        return {knob.name: numbers}
    features = {knob.name: np.log2(numbers)}
    if len(values) >= MANY_VALUES and (values == np.round(values)).all():
        twos = _twos(values.astype(np.int64))
        if (2.0**twos != values).any():
            features[f"{knob.name}:twos"] = _twos(column.astype(np.int64))
    return features


def _twos(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.log2((numbers & -numbers).astype(np.float64))


@dataclass(frozen=True)
class Encoder:
    """
    Scales features by the mean and deviation of a sample of the space.

    `least` are derived numbers above 0 in the whole sample, with the least of them: they become
    logarithms, and what is less elsewhere counts as the least.
    """

    space: Space
    names: tuple[str, ...]
    least: Mapping[str, float]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @staticmethod
    def of(space: Space, sample: Configs) -> Encoder:
        features = raw_features(space, sample)
        derived = () if space.derive is None else space.derive(space.columns(sample))
        least = {name: low for name in derived if (low := float(features[name].min())) > 0}
        names = tuple(name for name, column in features.items() if np.ptp(column) > 0)
        table = _table(features, names, least, len(sample))
        return Encoder(space, names, least, table.mean(axis=0), table.std(axis=0))

    def __call__(self, configs: Configs) -> Features:
        features = raw_features(self.space, configs)
        table = _table(features, self.names, self.least, len(configs))
        return (table - self.mean) / self.deviation


def _table(
    features: Mapping[str, NDArray[np.float64]],
    names: Sequence[str],
    least: Mapping[str, float],
    count: int,
) -> Features:
    columns = np.empty((count, len(names)))
    for place, name in enumerate(names):
        numbers = features[name]
        low = least.get(name)
        columns[:, place] = numbers if low is None else np.log2(np.maximum(numbers, low))
    return columns
