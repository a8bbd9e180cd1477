"""
What other devices and shapes know: trees trained on their trials, asked about this space.

Each source is a column of expected log slowdowns. A guided search starts where the sources agree,
learns how far they hold here, and goes on from what they miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..dialects.knobs import Configs, Space
from .cost_model.base import Numbers
from .cost_model.boosted_trees import BoostedTrees, TreeOptions
from .draw import draw
from .features import Encoder
from .trials import Trials

SAMPLE = 2048
LEARNT = TreeOptions(
    objective="reg:squarederror", members=1, rounds=300, depth=8, rate=0.1, columns=0.9
)
"""Sources have thousands of trials: one deep model says nearly what was measured."""


@dataclass(frozen=True)
class Sources:
    """Call it with configs [count, knobs]: log slowdowns [count, sources], 0 for the fastest."""

    encode: Encoder
    models: tuple[BoostedTrees, ...]

    @staticmethod
    def of(
        space: Space, others: Sequence[Trials], seed: int = 0, options: TreeOptions = LEARNT
    ) -> Sources:
        """From the trials of other devices or shapes, whose configs are configs of `space`."""
        encode = Encoder.of(space, draw(space, np.random.default_rng(seed), SAMPLE))
        models = []
        for trials in others:
            model = BoostedTrees(options, seed)
            times = trials.log_times
            model.update(encode(trials.configs), times - times.min())
            models.append(model)
        return Sources(encode, tuple(models))

    def __call__(self, configs: Configs) -> Numbers:
        features = self.encode(configs)
        return np.stack([model.predict(features).mean for model in self.models], axis=1)
