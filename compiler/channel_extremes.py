"""What calibration keeps of the channels of keys: their extremes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class ChannelExtremes:
    """The least and greatest value of each head and channel [G, D], None before any."""

    least: NDArray[np.float32] | None = None
    most: NDArray[np.float32] | None = None

    def update(self, keys: NDArray[np.floating]) -> None:
        """Add keys [B, G, S, D]."""
        values = keys.astype(np.float32, copy=False)
        self._widen(values.min(axis=(0, 2)), values.max(axis=(0, 2)))

    def merge(self, other: ChannelExtremes) -> None:
        if other.least is not None and other.most is not None:
            self._widen(other.least, other.most)

    def _widen(self, least: NDArray[np.float32], most: NDArray[np.float32]) -> None:
        self.least = least if self.least is None else np.minimum(self.least, least)
        self.most = most if self.most is None else np.maximum(self.most, most)
