"""Streamed statistics: exact, independent of order, honest about what they did not see."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.compiler.calibration import RANDOM, Calibration, RunningStatistics
from qcc.compiler.exact_sum import exact_sum, exact_sum_of_squares
from qcc.dialects.errors import AccuracyError, IntegrityError, UsageError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def seen(*arrays) -> RunningStatistics:
    statistics = RunningStatistics()
    for array in arrays:
        statistics.update(array)
    return statistics


@settings(deadline=None)
@given(st.lists(FLOATS, max_size=40))
def test_sums_are_exact(values):
    array = np.array(values, dtype=np.float32)
    exact = [Fraction(float(value)) for value in array]
    assert exact_sum(array) == sum(exact)
    assert exact_sum_of_squares(array) == sum(value * value for value in exact)


@settings(deadline=None, max_examples=50)
@given(st.lists(FLOATS, max_size=60), st.randoms(use_true_random=False), st.integers(0, 60))
def test_order_chunks_and_merges_do_not_matter(values, random, cut):
    whole = seen(np.array(values, dtype=np.float32))
    random.shuffle(values)
    parts = [np.array(part, dtype=np.float32) for part in (values[:cut], values[cut:])]
    streamed = seen(*parts)
    left, right = seen(parts[0]), seen(parts[1])
    right.merge(left)
    assert whole == streamed == right
    assert RunningStatistics.from_json(json.loads(json.dumps(whole.as_json()))) == whole


def test_moments_and_range_of_known_data():
    statistics = seen(np.array([[-2.0, 1.0], [4.0, 1.0]]))
    assert (statistics.count, statistics.least, statistics.most) == (4, -2.0, 4.0)
    assert (statistics.absmax, statistics.mean, statistics.second_moment) == (4.0, 1.0, 5.5)


def test_many_chunks_agree_with_float64():
    values = np.random.default_rng(1).standard_normal(2_500_000).astype(np.float32)
    statistics = seen(values)
    assert statistics.count == values.size
    assert statistics.mean == pytest.approx(values.astype(np.float64).mean(), abs=1e-12)
    assert statistics.histogram.nbytes == 1 << 17


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("percent", [0.1, 5, 50, 95, 99.9, 100])
def test_percentiles_are_within_a_bucket(scale, percent):
    values = (np.random.default_rng(2).standard_t(3, 20_001) * scale).astype(np.float32)
    statistics = seen(values[:7_000], values[7_000:])
    expected = np.percentile(values, percent, method="inverted_cdf")
    assert expected <= statistics.percentile(percent) <= expected + abs(expected) / 32
    magnitude = np.percentile(np.abs(values), percent, method="inverted_cdf")
    assert magnitude <= statistics.magnitude_percentile(percent) <= magnitude * (1 + 1 / 32)


def test_the_last_percentile_is_the_largest_value():
    assert seen([-3.0, -1.0]).percentile(100) == -1.0
    assert seen([3.0e38, 3.4028235e38]).percentile(100) == pytest.approx(3.4028235e38)
    assert seen([0.0, -0.0]).percentile(50) == 0.0


@pytest.mark.parametrize("percent", [-1, 101, math.nan])
def test_a_percentile_outside_the_scale_is_refused(percent):
    with pytest.raises(UsageError) as caught:
        seen([1.0]).percentile(percent)
    assert caught.value.code == "calibration-percentile"


def test_values_that_are_not_finite_are_counted_apart():
    statistics = seen([1.0, math.nan, math.inf, -math.inf, 1e300])
    assert (statistics.count, statistics.not_finite, statistics.most) == (1, 4, 1.0)


def test_a_layer_that_saw_nothing_is_named():
    calibration = Calibration("text.npz")
    calibration.observe("experts.0", np.ones(3))
    calibration.observe("experts.1", np.ones((0, 4)))
    with pytest.raises(UsageError) as caught:
        calibration.check(["experts.0", "experts.1", "experts.2"])
    assert "experts.1, experts.2" in caught.value.what
    calibration.check(["experts.0"])


def test_a_layer_with_nan_is_named():
    calibration = Calibration("text.npz")
    calibration.observe("head", [1.0, math.nan])
    with pytest.raises(AccuracyError) as caught:
        calibration.check(["head"])
    assert "head" in caught.value.what


def test_random_inputs_are_labelled():
    assert not Calibration(RANDOM).fit_for_accuracy
    assert "unfit for accuracy" in Calibration(RANDOM).label
    assert Calibration(RANDOM).as_json()["fit_for_accuracy"] is False
    assert Calibration("text.npz").label == "text.npz"


def test_shares_merge_and_different_sources_do_not():
    first, second = Calibration("a.npz"), Calibration("a.npz")
    first.observe("q", [1.0])
    second.observe("q", [2.0])
    second.observe("k", [3.0])
    first.merge(second)
    assert first.layers["q"].count == 2
    assert Calibration.from_json(json.loads(json.dumps(first.as_json()))).layers == first.layers
    with pytest.raises(UsageError):
        first.merge(Calibration("b.npz"))


@pytest.mark.parametrize(
    "damage",
    [
        {"count": 5},
        {"total": "1e999999999"},
        {"total": "1/0"},
        {"histogram": {"99999999": 1}},
        {"histogram": {"x": 1}},
        {"histogram": None},
        {"range": [2.0, 1.0]},
        {"range": 3},
    ],
)
def test_damaged_statistics_are_refused(damage):
    with pytest.raises(IntegrityError):
        RunningStatistics.from_json({**seen([1.0]).as_json(), **damage})


def test_bounds_cut_the_largest_magnitudes_of_either_sign():
    seen = RunningStatistics()
    seen.update(np.r_[np.linspace(-1, 1, 998), 40, -90])
    assert seen.bounds() == (-90, 40)
    low, high = seen.bounds(99.8)
    assert -1 - 1 / 32 <= low <= -1
    assert 1 <= high <= 1 + 1 / 32
    assert seen.bounds(99.9)[0] == pytest.approx(-40, rel=1 / 32)
    assert seen.bounds(99.9)[1] == 40


def test_bounds_stay_within_what_was_seen():
    seen = RunningStatistics()
    seen.update([2.0, 3.0, 100.0])
    assert seen.bounds(60) == (2.0, pytest.approx(3, rel=1 / 32))


def test_merging_adds_the_samples():
    one, other = Calibration("here", 3), Calibration("here", 4)
    one.merge(other)
    assert one.samples == 7
    assert Calibration.from_json(one.as_json()).samples == 7
    with pytest.raises(IntegrityError):
        Calibration.from_json(one.as_json() | {"samples": -1})
