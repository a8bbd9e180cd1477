"""
What a config takes at least, from what it moves and computes: a prediction with no data at all.

A space derives numbers of its configs (`Space.derive`); a roofline knows which of them are work,
and at what rate a device does each. Work of different kinds overlaps: the slowest alone is a lower
bound of the time, and all after one another an upper one (Williams, Waterman and Patterson,
CACM 2009). The prediction is the middle of both bounds in logarithms; the deviation is what
separates them, and what no roofline sees (`BLIND`).

    seconds = (max … sum of number / rate) · factors · ceil(units / lanes) / (units / lanes)

Calling it with configs gives log slowdowns, as a guided search takes them as `known`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...dialects.errors import UsageError
from ...dialects.knobs import Configs, Space
from ..draw import draw
from .base import Numbers, Prediction

BLIND = np.log(1.5)
SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class Roofline:
    """
    `rates`: of each kind of work, by the name of its number, how much is done in a second.
    `factors`: numbers that multiply the time (waste). `units`: the number of pieces of work, of
    which `lanes` run at once, so that the last wave may be part empty.
    """

    space: Space
    rates: Mapping[str, float]
    factors: tuple[str, ...] = ()
    units: str = ""
    lanes: int = 1

    def __post_init__(self) -> None:
        numbers = self._numbers(draw(self.space, np.random.default_rng(0), 1))
        missing = {*self.rates, *self.factors, *filter(None, [self.units])} - {*numbers}
        if missing or not self.rates:
            raise UsageError(
                "roofline-numbers",
                f"space {self.space.name!r} does not derive what its roofline needs",
                why=f"missing: {', '.join(sorted(missing)) or 'a rate'}",
                next_step=f"it derives {', '.join(numbers) or 'nothing'}",
            )

    def predict(self, configs: Configs) -> Prediction:
        """Log seconds [count]."""
        numbers = self._numbers(configs)
        parts = np.stack([numbers[name] / rate for name, rate in self.rates.items()])
        lower, upper = (np.log(bound) for bound in (parts.max(axis=0), parts.sum(axis=0)))
        common = sum((np.log(numbers[name]) for name in self.factors), np.zeros(len(configs)))
        if self.units:
            waves = numbers[self.units] / self.lanes
            common = common + np.log(np.ceil(waves) / waves)
        spread = np.hypot(BLIND, (upper - lower) / 2)
        return Prediction((lower + upper) / 2 + common, spread)

    def __call__(self, configs: Configs) -> Numbers:
        """Log slowdowns [count, 1] against the fastest of a sample."""
        return (self.predict(configs).mean - self._least)[:, None]

    @cached_property
    def _least(self) -> float:
        return float(self.predict(draw(self.space, np.random.default_rng(0), SAMPLE)).mean.min())

    def _numbers(self, configs: Configs) -> dict[str, Numbers]:
        if self.space.derive is None:
            return {}
        derived = self.space.derive(self.space.columns(configs))
        return {name: np.asarray(values, np.float64) for name, values in derived.items()}
