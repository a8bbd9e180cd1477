"""
Streamed statistics of activations: what calibration keeps instead of the activations.

Memory is fixed for each layer whatever the number of samples. Sums are exact integers and the
histogram counts, so statistics of the same values are equal bit for bit in whatever order,
chunks or processes they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dialects.errors import AccuracyError, IntegrityError, UsageError
from .channel_extremes import ChannelExtremes
from .exact_sum import exact_sum, exact_sum_of_squares

RANDOM = "random"
MANTISSA_BITS = 5
_SHIFT = 23 - MANTISSA_BITS
_MAGNITUDES = 256 << MANTISSA_BITS
_CHUNK = 1 << 20


@dataclass(slots=True, eq=False)
class RunningStatistics:
    """
    Count, range, exact first and second moments and a histogram of float32 values.

    A bucket of the histogram is a sign, a power of two and `MANTISSA_BITS` bits below it, so its
    edges are 2**e * (1 + i / 32) and it covers every float32 with one relative resolution; the
    buckets of the sign come after those of the positives. NaN and infinities are counted in
    `not_finite` and in nothing else.
    """

    count: int = 0
    not_finite: int = 0
    least: float = inf
    most: float = -inf
    total: Fraction = Fraction(0)
    total_of_squares: Fraction = Fraction(0)
    histogram: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(2 * _MAGNITUDES, dtype=np.int64)
    )

    def update(self, array: Any) -> None:
        """Add the values of `array`, of any shape and float type, read as float32."""
        with np.errstate(over="ignore"):
            values = np.asarray(array, dtype=np.float32).reshape(-1)
        for start in range(0, values.size, _CHUNK):
            self._update_chunk(values[start : start + _CHUNK])

    def _update_chunk(self, values: NDArray[np.float32]) -> None:
        finite = values[np.isfinite(values)]
        self.not_finite += values.size - finite.size
        if not finite.size:
            return
        self.count += finite.size
        self.least = min(self.least, float(finite.min()))
        self.most = max(self.most, float(finite.max()))
        self.total += exact_sum(finite)
        self.total_of_squares += exact_sum_of_squares(finite)
        # Adding +0.0 turns -0.0 into +0.0: one zero, one bucket.
        buckets = (finite + np.float32(0)).view(np.uint32) >> _SHIFT
        self.histogram += np.bincount(buckets, minlength=2 * _MAGNITUDES)

    def merge(self, other: RunningStatistics) -> None:
        """Add what `other` has seen; exact, so the order of merges does not matter."""
        self.count += other.count
        self.not_finite += other.not_finite
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        self.total += other.total
        self.total_of_squares += other.total_of_squares
        self.histogram += other.histogram

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunningStatistics) and self.as_json() == other.as_json()

    @property
    def absmax(self) -> float:
        """Largest magnitude; 0 before any value."""
        return max(abs(self.least), abs(self.most)) if self.count else 0.0

    @property
    def mean(self) -> float:
        """The mean, rounded once; 0 before any value."""
        return float(self.total / self.count) if self.count else 0.0

    @property
    def second_moment(self) -> float:
        """Mean of the squares, rounded once; 0 before any value."""
        return float(self.total_of_squares / self.count) if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """
        A value that `percent` of the values do not exceed, at most 1/32 of itself off.

        >>> seen = RunningStatistics()
        >>> seen.update(np.arange(1, 1001))
        >>> 990 <= seen.percentile(99) <= 990 * (1 + 1 / 32)
        True
        """
        order = np.concatenate(
            [np.arange(2 * _MAGNITUDES - 1, _MAGNITUDES - 1, -1), np.arange(_MAGNITUDES)]
        )
        return self._edge(order, percent)

    def magnitude_percentile(self, percent: float) -> float:
        """The same of the magnitudes, for symmetric ranges that cut off outliers."""
        positive, negative = np.split(self.histogram, 2)
        counts = positive + negative
        bucket = _bucket_at(counts, percent, self.count)
        return min(_outer_edge(bucket), self.absmax)

    def bounds(self, percent: float = 100.0) -> tuple[float, float]:
        """
        The range without the largest magnitudes: `percent` of the values lie inside.

        Raises UsageError before any value.

        >>> seen = RunningStatistics()
        >>> seen.update([-1, 0, 0, 2, 8])
        >>> seen.bounds(), seen.bounds(80)
        ((-1.0, 8.0), (-1.0, 2.0625))
        """
        largest = self.magnitude_percentile(percent)
        return max(self.least, -largest), min(self.most, largest)

    def _edge(self, order: NDArray[np.int64], percent: float) -> float:
        bucket = int(order[_bucket_at(self.histogram[order], percent, self.count)])
        edge = -_inner_edge(bucket) if bucket >= _MAGNITUDES else _outer_edge(bucket)
        return min(max(edge, self.least), self.most)

    def as_json(self) -> dict[str, Any]:
        """Plain values; the exact sums as "numerator/denominator", the histogram sparse."""
        filled = np.flatnonzero(self.histogram)
        return {
            "count": self.count,
            "not_finite": self.not_finite,
            "range": [self.least, self.most] if self.count else None,
            "total": str(self.total),
            "total_of_squares": str(self.total_of_squares),
            "histogram": {str(bucket): int(self.histogram[bucket]) for bucket in filled},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunningStatistics:
        """The statistics that `as_json` gave; IntegrityError where `data` is anything else."""
        try:
            return cls._read(data)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise IntegrityError(
                "calibration-invalid",
                "these are not the statistics that qcc wrote",
                why=f"{type(error).__name__}: {error}",
                next_step="calibrate again",
            ) from None

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> RunningStatistics:
        least, most = data["range"] or (inf, -inf)
        read = cls(
            count=int(data["count"]),
            not_finite=int(data["not_finite"]),
            least=float(least),
            most=float(most),
            total=_fraction(data["total"]),
            total_of_squares=_fraction(data["total_of_squares"]),
        )
        for bucket, number in data["histogram"].items():
            read.histogram[int(bucket)] = number
        if read.histogram.min() < 0 or int(read.histogram.sum()) != read.count:
            raise ValueError("the histogram does not add up to the count")
        if read.count and not -inf < read.least <= read.most < inf:
            raise ValueError("the range is not one")
        return read


def _fraction(text: Any) -> Fraction:
    """Only integers and quotients: Fraction would also unfold "1e999999999"."""
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]{1,400}(/[0-9]{1,400})?", text):
        raise ValueError("a sum that is no quotient of integers")
    return Fraction(text)


def _bucket_at(counts: NDArray[np.int64], percent: float, total: int) -> int:
    """The first bucket at which the running count reaches `percent` of `total`."""
    if not 0 <= percent <= 100:
        raise UsageError(
            "calibration-percentile", f"a percentile must lie in 0..100, not {percent}"
        )
    if not total:
        raise UsageError("calibration-no-samples", "no percentile of no values")
    # In integers of 1e-6 percent: a float product could miss the last value at 100.
    wanted = max(1, -(-total * round(percent * 1_000_000) // 100_000_000))
    return int(np.searchsorted(np.cumsum(counts), wanted))


def _inner_edge(bucket: int) -> float:
    """The edge of a bucket nearer to zero, as a magnitude."""
    return float(np.uint32((bucket % _MAGNITUDES) << _SHIFT).view(np.float32))


def _outer_edge(bucket: int) -> float:
    """The edge farther from zero, beyond float32's largest for the last bucket."""
    return _inner_edge(bucket + 1) if bucket + 1 < _MAGNITUDES else inf


@dataclass(slots=True)
class Calibration:
    """
    Statistics by layer name, extremes of the channels of keys, how many samples (calls of the
    model) they saw, and where those came from: a file's name, or RANDOM.
    """

    source: str
    samples: int = 0
    layers: dict[str, RunningStatistics] = field(default_factory=dict)
    channels: dict[str, ChannelExtremes] = field(default_factory=dict)

    @property
    def fit_for_accuracy(self) -> bool:
        """Random inputs exercise the code and say nothing about the model's real ranges."""
        return self.source != RANDOM

    @property
    def label(self) -> str:
        """What reports and manifests print."""
        return self.source if self.fit_for_accuracy else "random inputs: unfit for accuracy"

    def observe(self, layer: str, array: Any) -> None:
        self.layers.setdefault(layer, RunningStatistics()).update(array)

    def observe_channels(self, layer: str, keys: NDArray[Any]) -> None:
        self.channels.setdefault(layer, ChannelExtremes()).update(keys)

    def merge(self, other: Calibration) -> None:
        """Add another share of the same calibration."""
        if other.source != self.source:
            raise UsageError(
                "calibration-mixed",
                f"statistics of '{self.source}' and of '{other.source}' cannot be merged",
                next_step="calibrate every share on the same source",
            )
        self.samples += other.samples
        for name, seen in other.layers.items():
            self.layers.setdefault(name, RunningStatistics()).merge(seen)
        for name, extremes in other.channels.items():
            self.channels.setdefault(name, ChannelExtremes()).merge(extremes)

    def check(self, names: Iterable[str]) -> None:
        """
        Every layer of `names` has seen samples, all finite.

        Raises UsageError naming the layers without samples (an expert that no token reached must
        not get an invented scale), AccuracyError naming those with NaN or infinity.
        """
        names = list(names)
        empty = [name for name in names if not self._seen(name)]
        if names and not self.layers:
            raise UsageError(
                "calibration-no-samples",
                "there are no samples to calibrate with",
                where=self.label,
                why="static scales come from the values that samples give",
                next_step="give samples of the model's inputs, or choose dynamic activations",
            )
        if empty:
            raise UsageError(
                "calibration-no-samples",
                f"calibration reached no value of {_listed(empty)}",
                where=self.label,
                why="a scale would be invented for data nobody saw",
                next_step="give more samples, or dynamic activations for these layers",
            )
        broken = [name for name in names if self.layers[name].not_finite]
        if broken:
            raise AccuracyError(
                "calibration-not-finite",
                f"NaN or infinity in the activations of {_listed(broken)}",
                where=self.label,
                why="no scale represents them",
                next_step="check the model and the samples in full precision",
            )

    def _seen(self, name: str) -> bool:
        seen = self.layers.get(name)
        return seen is not None and seen.count + seen.not_finite > 0

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "samples": self.samples,
            "fit_for_accuracy": self.fit_for_accuracy,
            "layers": {name: self.layers[name].as_json() for name in sorted(self.layers)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        source, layers, samples = (data.get(key) for key in ("source", "layers", "samples"))
        if not isinstance(source, str) or not isinstance(layers, Mapping):
            raise _not_written_by_qcc()
        if not isinstance(samples, int) or samples < 0:
            raise _not_written_by_qcc()
        read = {str(name): RunningStatistics.from_json(seen) for name, seen in layers.items()}
        return cls(source, samples, read)


def _not_written_by_qcc() -> IntegrityError:
    return IntegrityError(
        "calibration-invalid",
        "this is not the calibration that qcc wrote",
        next_step="calibrate again",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
