"""What a search asks of a cost model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..features import Features

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of the natural logarithm of the time, each [count]."""

    mean: Numbers
    deviation: Numbers


class CostModel(Protocol):
    """Learns log times [count] of features [count, features]; each update gives all there are."""

    def update(self, features: Features, log_times: Numbers) -> None: ...

    def imagine(self, features: Features, log_times: Numbers) -> None:
        """As update, with guessed times at the end and nothing else learnt from them."""
        ...

    def predict(self, features: Features) -> Prediction: ...
