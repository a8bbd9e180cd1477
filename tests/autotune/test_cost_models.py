"""Cost models: what they learn, and how sure they are of it."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from qcc.autotune.cost_model import gaussian_process
from qcc.autotune.cost_model.base import Prediction
from qcc.autotune.cost_model.boosted_trees import BoostedTrees, TreeOptions, isotonic
from qcc.autotune.cost_model.gaussian_process import GaussianProcess
from qcc.autotune.features import Encoder
from qcc.autotune.search.guided import log_improvement
from qcc.dialects.knobs import Knob, Space


def bowl(features: np.ndarray) -> np.ndarray:
    return np.sin(features[:, 0]) + 0.3 * features[:, 1] ** 2


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    features = np.random.default_rng(0).normal(size=(60, 4))
    return features, bowl(features)


def test_a_gaussian_process_learns_and_knows_what_it_does_not_know(samples):
    features, times = samples
    model = GaussianProcess()
    model.update(features[:50], times[:50])
    near, far = model.predict(features[50:]), model.predict(np.full((1, 4), 30.0))
    assert np.abs(near.mean - times[50:]).mean() < 0.3 * np.std(times)
    assert far.deviation[0] > 2 * near.deviation.mean()
    known = model.predict(features[:50])
    assert np.abs(known.mean - times[:50]).max() < 0.2
    assert (np.abs(near.mean - times[50:]) < 4 * near.deviation).mean() > 0.8


def test_the_gradient_is_that_of_the_loss(samples):
    features, times = samples[0][:20], samples[1][:20]
    centre, spread = np.array([0.7, 0.7, 0.7, 0.7, 0.0, -4.0]), np.ones(6)
    at = np.array([0.2, 0.9, 1.3, 0.5, 0.4, -2.0])

    def loss(logs):
        return gaussian_process._loss(logs, features, times, centre, spread)[0]

    exact = gaussian_process._loss(at, features, times, centre, spread)[1]
    steps = 1e-5 * np.eye(6)
    slopes = np.array([(loss(at + step) - loss(at - step)) / 2e-5 for step in steps])
    np.testing.assert_allclose(exact, slopes, rtol=1e-4, atol=1e-5)


def test_imagined_results_lower_the_deviation_where_they_are(samples):
    features, times = samples
    model = GaussianProcess()
    model.update(features[:30], times[:30])
    before = model.predict(features[40:41])
    model.imagine(
        np.concatenate([features[:30], features[40:41]]),
        np.concatenate([times[:30], before.mean]),
    )
    after = model.predict(features[40:41])
    assert after.deviation[0] < before.deviation[0]
    assert after.mean[0] == pytest.approx(before.mean[0], abs=0.1)


def test_equal_measurements_do_not_stop_a_gaussian_process():
    model = GaussianProcess()
    model.update(np.zeros((5, 3)), np.full(5, 1.5))
    assert model.predict(np.zeros((1, 3))).mean[0] == pytest.approx(1.5, abs=1e-6)


def test_many_measurements_are_bounded(samples):
    features, times = samples
    model = GaussianProcess(most=16)
    model.update(features, times)
    fastest = int(np.argmin(times))
    assert model.predict(features[fastest : fastest + 1]).mean[0] < np.quantile(times, 0.2)


@pytest.mark.parametrize("objective", ["rank:pairwise", "reg:squarederror"])
def test_trees_order_what_they_have_not_seen(objective):
    features = np.random.default_rng(1).normal(size=(600, 4))
    times = bowl(features)
    model = BoostedTrees(TreeOptions(objective))
    model.update(features[:500], times[:500])
    predicted = model.predict(features[500:]).mean
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, times[500:])]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.9
    assert np.abs(predicted - times[500:]).mean() < 0.5 * np.std(times)


def test_groups_of_different_speed_learn_one_order():
    features = np.random.default_rng(2).normal(size=(400, 3))
    times, groups = bowl(features), np.arange(400) % 2
    model = BoostedTrees()
    model.update(features, times + np.float64(10.0) * groups, groups)
    predicted = model.predict(features).mean
    assert predicted.min() > -0.5, "slowdowns against the fastest of the own group"
    assert np.corrcoef(predicted, times)[0, 1] > 0.9


def test_saved_trees_predict_the_same(tmp_path, samples):
    features, times = samples
    model = BoostedTrees()
    model.update(features, times)
    model.save(tmp_path / "model")
    loaded = BoostedTrees.load(tmp_path / "model").predict(features)
    np.testing.assert_array_equal(loaded.mean, model.predict(features).mean)


def test_isotonic_regression_is_scipys():
    rng = np.random.default_rng(3)
    scores, levels = rng.normal(size=200), rng.normal(size=200)
    ours = np.interp(np.sort(scores), *isotonic(scores, levels - scores))
    theirs = isotonic_regression((levels - scores)[np.argsort(scores)], increasing=False).x
    corners, values = isotonic(scores, levels - scores)
    assert (np.diff(corners) > 0).all()
    assert (np.diff(values) < 0).all()
    np.testing.assert_allclose(np.unique(values), np.unique(theirs), rtol=1e-9)
    assert np.abs(ours - theirs).mean() < 0.5


def test_expected_improvement_keeps_its_order_far_from_the_best():
    mean = np.array([0.0, 1.0, 5.0, 20.0, 80.0])
    values = log_improvement(Prediction(mean, np.ones(5)), 0.0)
    assert (np.diff(values) < 0).all()
    assert np.isfinite(values).all()
    assert values[0] == pytest.approx(np.log(1 / np.sqrt(2 * np.pi)), abs=1e-6)


def test_expected_improvement_is_its_integral():
    """Also where only its leading term is left."""
    mean, deviation = np.array([-2.0, 0.1, 0.6, 2.0, 3.0]), np.array([1.0, 0.5, 0.2, 0.45, 0.5])
    times = np.linspace(-12, 0, 400_001)[:, None]
    density = np.exp(-0.5 * ((times - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    improvement = np.trapezoid(-times * density, times, axis=0)
    found = log_improvement(Prediction(mean, deviation), 0.0)
    np.testing.assert_allclose(found[:4], np.log(improvement[:4]), atol=1e-6)
    assert found[4] == pytest.approx(np.log(improvement[4]), abs=0.1)


def test_derived_numbers_have_one_scale_whatever_a_batch_holds() -> None:
    """Also where a batch has what no sample had: a number that is not positive."""
    space = Space(
        "derived",
        (Knob("rows", (1, 2, 4, 8, 16)),),
        derive=lambda columns: {"bytes": 64.0 * (columns["rows"] - 1)},
    )
    encode = Encoder.of(space, np.array([[1], [2], [3], [4]]))
    whole = encode(np.array([[0], [2], [4]]))
    alone = np.concatenate([encode(np.array([[row]])) for row in (0, 2, 4)])
    np.testing.assert_array_equal(whole, alone)
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("objective", ["rank:pairwise", "reg:squarederror"])
def test_the_fastest_are_told_apart(objective):
    """A step function would make the best block equal, and its order that of chance."""
    features = np.arange(400.0)[:, None] / 400
    model = BoostedTrees(TreeOptions(objective, rounds=40))
    model.update(features, 3 * features[:, 0])
    fastest = model.predict(features).mean[:60]
    assert len(np.unique(fastest)) > 20
    assert fastest[:10].mean() < fastest[30:40].mean()
