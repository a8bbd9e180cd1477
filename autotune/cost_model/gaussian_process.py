"""
A Gaussian process over features: few measurements, and an honest deviation.

Matern 5/2 kernel with a length for each feature, a noise, and log-normal priors on all of them;
their most probable values are found by L-BFGS (Rasmussen & Williams, chapters 4 and 5). Exact:
an update costs the cube of the number of measurements, which `most` bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from ..features import Features
from .base import Numbers, Prediction

LENGTH, LENGTH_SPREAD = np.log(2.0), 1.0
NOISE, NOISE_SPREAD = np.log(1e-2), 1.5
LEAST_NOISE = 1e-5
REFIT_GROWTH = 1.1
ROOT5 = np.sqrt(5.0)


@dataclass
class GaussianProcess:
    """
    `most`: measurements kept for a fit, the fastest half and the newest of the others. `steps`:
    of L-BFGS in a fit, which begins where the last one ended. `rough`: what the kernel does not
    explain belongs to each config and is part of the deviation, rather than noise of measuring.
    """

    most: int = 512
    steps: int = 15
    rough: bool = False
    _logs: Numbers = field(default_factory=lambda: np.zeros(0))
    _fitted: int = 0
    _features: Features = field(default_factory=lambda: np.zeros((0, 0)))
    _factor: Numbers = field(default_factory=lambda: np.zeros((0, 0)))
    _weights: Numbers = field(default_factory=lambda: np.zeros(0))
    _mean: float = 0.0
    _scale: float = 1.0

    def update(self, features: Features, log_times: Numbers) -> None:
        features, log_times = self._kept(features, log_times)
        grown = len(features) >= REFIT_GROWTH * self._fitted or len(features) < 96
        if not len(self._logs) or grown:
            self._learn(features, log_times)
        self.imagine(features, log_times)

    def imagine(self, features: Features, log_times: Numbers) -> None:
        features, log_times = self._kept(features, log_times)
        self._scale = float(log_times.std()) + 1e-9
        kernel = _covariance(features, features, self._logs)
        kernel[np.diag_indices(len(features))] += _noise(self._logs)
        self._factor = _cholesky(kernel)
        self._features = features
        ones = cho_solve((self._factor, True), np.ones(len(features)))
        self._mean = float(ones @ log_times / ones.sum())  # generalised least squares
        self._weights = cho_solve((self._factor, True), (log_times - self._mean) / self._scale)

    def predict(self, features: Features) -> Prediction:
        mean, explained = self._conditional(features)
        variance = np.maximum(np.exp(self._logs[-2]) - (explained**2).sum(axis=0), 1e-9)
        if self.rough:
            variance = variance + _noise(self._logs)
        return Prediction(mean, self._scale * np.sqrt(variance))

    def sampled(self, features: Features, rng: np.random.Generator, count: int) -> Numbers:
        """Draws of the log times of all rows at once, as they vary together, [count, rows]."""
        mean, explained = self._conditional(features)
        covariance = _covariance(features, features, self._logs) - explained.T @ explained
        own = _noise(self._logs) if self.rough else 1e-9
        factor = _cholesky(covariance + own * np.eye(len(features)))
        return mean + self._scale * rng.standard_normal((count, len(features))) @ factor.T

    def _conditional(self, features: Features) -> tuple[Numbers, Numbers]:
        """Mean [rows], and how the measurements explain each row, [measurements, rows]."""
        cross = _covariance(features, self._features, self._logs)
        explained = solve_triangular(self._factor, cross.T, lower=True)
        return self._mean + self._scale * (cross @ self._weights), explained

    def _kept(self, features: Features, log_times: Numbers) -> tuple[Features, Numbers]:
        if len(features) <= self.most:
            return features, log_times
        fast = np.argsort(log_times, kind="stable")[: self.most // 2]
        others = np.setdiff1d(np.arange(len(features)), fast)[-(self.most - len(fast)) :]
        kept = np.sort(np.concatenate([fast, others]))
        return features[kept], log_times[kept]

    def _learn(self, features: Features, log_times: Numbers) -> None:
        """Sets lengths, signal and noise; all are logarithms: [features] lengths, signal, noise."""
        count = features.shape[1]
        centre = np.concatenate([np.full(count, LENGTH), [0.0, NOISE]])
        spread = np.concatenate([np.full(count, LENGTH_SPREAD), [1.0, NOISE_SPREAD]])
        start = self._logs if len(self._logs) == count + 2 else centre
        targets = (log_times - log_times.mean()) / (log_times.std() + 1e-9)
        found = minimize(
            _loss, start, (features, targets, centre, spread), method="L-BFGS-B", jac=True,
            bounds=[*[(-3.0, 6.0)] * count, (-4.0, 4.0), (np.log(LEAST_NOISE), 1.0)],
            options={"maxiter": self.steps},
        )  # fmt: skip
        self._logs, self._fitted = found.x, len(features)


def _noise(logs: Numbers) -> float:
    return float(np.exp(logs[-1]))


def _covariance(left: Features, right: Features, logs: Numbers) -> Numbers:
    distance = _distance(left / np.exp(logs[:-2]), right / np.exp(logs[:-2]))
    return np.exp(logs[-2]) * (1 + distance + distance**2 / 3) * np.exp(-distance)


def _distance(left: Features, right: Features) -> Numbers:
    """sqrt(5) times the Euclidean distances [left, right]."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    return ROOT5 * np.sqrt(np.maximum(squares, 1e-12))


def _cholesky(kernel: Numbers) -> Numbers:
    """The lower factor; near-singular kernels get a larger diagonal."""
    for jitter in (0.0, 1e-6, 1e-4, 1e-2):
        try:
            return np.asarray(np.linalg.cholesky(kernel + jitter * np.eye(len(kernel))), np.float64)
        except np.linalg.LinAlgError:
            continue
    return np.asarray(np.linalg.cholesky(kernel + np.eye(len(kernel))), np.float64)


def _loss(
    logs: Numbers, features: Features, targets: Numbers, centre: Numbers, spread: Numbers
) -> tuple[float, Numbers]:
    """Negative log posterior and its gradient (Rasmussen & Williams 5.8, 5.9)."""
    scaled, count = features / np.exp(logs[:-2]), len(targets)
    distance = _distance(scaled, scaled)
    decay = np.exp(-distance)
    correlation = (1 + distance + distance**2 / 3) * decay
    signal, noise = np.exp(logs[-2]), _noise(logs)
    factor = _cholesky(signal * correlation + noise * np.eye(count))
    weights = cho_solve((factor, True), targets)
    pull = np.outer(weights, weights) - cho_solve((factor, True), np.eye(count))
    slope = pull * (signal * 5 / 3) * (1 + distance) * decay
    # sum over i, j of slope_ij (x_i - x_j)^2, for each feature
    lengths = 2 * (slope.sum(axis=1) @ scaled**2 - np.sum(scaled * (slope @ scaled), axis=0))
    gradient = -0.5 * np.append(
        lengths, [np.sum(pull * correlation) * signal, np.trace(pull) * noise]
    )
    off = (logs - centre) / spread
    loss = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off
    return float(loss), gradient + off / spread
