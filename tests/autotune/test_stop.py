"""Early stops: what they say, when, and that a stated chance follows what a model believes."""

import numpy as np
import pytest

from qcc.autotune.cost_model.gaussian_process import GaussianProcess
from qcc.autotune.draw import draw
from qcc.autotune.stop import Confident, Stale, calibrated, without_gain
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.knobs import Configs, Knob, Space

SPACE = Space("bowl", tuple(Knob(name, tuple(range(1, 17))) for name in "abc"))


def measured(configs: Configs) -> list[Trial]:
    slow = ((configs - np.array([9, 4, 12])) ** 2).sum(axis=1)
    return [
        Trial(tuple(config), 1e-3 * (1 + 0.5 * value))
        for config, value in zip(configs.tolist(), slow.tolist(), strict=True)
    ]


def trials_of(configs: Configs) -> Trials:
    return Trials(measured(configs))


@pytest.fixture(scope="module")
def random_trials() -> Trials:
    return trials_of(draw(SPACE, np.random.default_rng(0), 64))


def with_the_optimum(trials: Trials) -> Trials:
    """And with what is around it."""
    steps = np.concatenate(
        [np.zeros((1, 3), np.int64), *(np.eye(3, dtype=int) * s for s in (-1, 1))]
    )
    return Trials([*trials.trials, *measured(np.array([9, 4, 12]) + steps)])


def test_stale_counts_trials_without_gain():
    trials = trials_of(np.array([[0, 0, 0], [9, 4, 12], [1, 1, 1], [2, 2, 2]]))
    assert without_gain(trials) == 2
    assert Stale(3)(trials) is None
    assert Stale(2)(trials) == "none of the last 2 trials was faster"
    assert Stale(1)(Trials([Trial((0, 0, 0), None, "runtime")] * 4)) is None


def test_belief_falls_once_the_optimum_is_found(random_trials):
    missed = trials_of(np.clip(random_trials.configs, 0, [7, 15, 15]))
    found = with_the_optimum(random_trials)
    beliefs = [
        Confident(SPACE, np.random.default_rng(0)).believed(trials) for trials in (missed, found)
    ]
    assert beliefs[0] > 0.5
    assert beliefs[1] < 0.1


def test_the_rule_says_its_confidence_and_is_asked_now_and_then(random_trials):
    trials = with_the_optimum(random_trials)
    rule = Confident(SPACE, np.random.default_rng(0), confidence=0.4, every=8)
    reason = rule(trials)
    assert reason == f"a config more than 5% faster is left with a chance of {rule.chance:.0%}"
    assert rule.chance < 0.6
    assert Confident(SPACE, np.random.default_rng(0), confidence=0.999)(trials) is None
    asked = rule.asked
    rule(Trials(trials.trials + trials.trials[:7]))
    assert rule.asked == asked


def test_a_space_that_is_used_up_leaves_nothing():
    members = np.unique(draw(SPACE, np.random.default_rng(2), 40), axis=0)
    few = Space("few", SPACE.knobs, members=members)
    rule = Confident(few, np.random.default_rng(0), confidence=0.99)
    assert "chance of 0%" in (rule(trials_of(members)) or "")


def test_chances_rise_with_belief_and_with_what_is_left():
    believed = [calibrated(belief, 64, 1e4) for belief in (0.0, 0.01, 0.3, 1.0)]
    assert believed == sorted(believed)
    left = [calibrated(0.02, 64, count) for count in (0.0, 10.0, 1e3, 1e6)]
    assert left[0] == 0
    assert left == sorted(left)


def test_draws_have_the_mean_and_the_deviation_that_are_predicted(random_trials):
    features = random_trials.configs / 5.0
    model = GaussianProcess(rough=True)
    model.update(features[:40], random_trials.log_times[:40])
    drawn = model.sampled(features[40:], np.random.default_rng(0), 4000)
    expected = model.predict(features[40:])
    np.testing.assert_allclose(
        drawn.mean(axis=0), expected.mean, atol=0.1 * drawn.std(axis=0).max()
    )
    np.testing.assert_allclose(drawn.std(axis=0), expected.deviation, rtol=0.1)
