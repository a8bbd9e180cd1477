"""
Several models as one: where they agree it is sure, where they differ it is not.

The mean is the mean of their means; the variance is the mean of their variances and the variance of
their means (law of total variance). Each learns its own columns of the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features import Features
from .base import CostModel, Numbers, Prediction

Part = tuple[CostModel, NDArray[np.int64]]
"""A model and the places of the features that it learns."""


@dataclass(frozen=True)
class Ensemble:
    parts: tuple[Part, ...]

    def update(self, features: Features, log_times: Numbers) -> None:
        for model, columns in self.parts:
            model.update(features[:, columns], log_times)

    def imagine(self, features: Features, log_times: Numbers) -> None:
        for model, columns in self.parts:
            model.imagine(features[:, columns], log_times)

    def predict(self, features: Features) -> Prediction:
        told = [model.predict(features[:, columns]) for model, columns in self.parts]
        means = np.stack([each.mean for each in told])
        variances = np.stack([each.deviation**2 for each in told])
        return Prediction(means.mean(axis=0), np.sqrt(variances.mean(axis=0) + means.var(axis=0)))
