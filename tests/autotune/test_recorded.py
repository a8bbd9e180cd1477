"""Recorded spaces: reading them, replaying them, scoring searches on them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from qcc.autotune.recorded import Recording, read_recording
from qcc.autotune.score import Baseline, measurements_to, methodology_score
from qcc.dialects.errors import IntegrityError
from qcc.dialects.knobs import Knob, Space

SHARED = Path(__file__).parents[3] / "shared" / "replay"


def cache() -> dict:
    points = {"1,8,3": 2.0, "1,16,3": 1.0, "2,8,3": "RuntimeFailedConfig", "2,16,3": 4.0}
    records = {
        key: {
            **dict(zip(("tile", "block", "filter"), map(int, key.split(",")), strict=True)),
            "time": time,
            "compile_time": 100.0,
        }
        for key, time in points.items()
    }
    return {
        "device_name": "made up",
        "tune_params_keys": ["tile", "block", "filter"],
        "tune_params": {"tile": [1, 2], "block": [8, 16], "filter": [3]},
        "cache": records,
    }


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_recordings_are_read_and_replayed(tmp_path, pack):
    path = tmp_path / "space.json"
    path.write_bytes(pack(json.dumps(cache()).encode()))
    recording = read_recording(path)
    assert recording.device == "made up"
    assert recording.space.names == ("tile", "block")
    assert recording.optimum == pytest.approx(1e-3)
    trials = recording.measure(np.array([[0, 0], [1, 0]]))
    assert [trial.seconds for trial in trials] == [pytest.approx(2e-3), None]
    assert [trial.failure for trial in trials] == ["", "runtime"]
    np.testing.assert_allclose(recording.cost, 0.1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"cache": 3}',
        gzip.compress(b"{}"),
        gzip.compress(b"{}")[:12],
        b"\xff\xfe",
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_bytes(text)
    with pytest.raises(IntegrityError, match="not a recording"):
        read_recording(path)


def test_text_in_a_recording_is_never_evaluated(tmp_path):
    evil = cache()
    evil["tune_params"]["tile"] = ["__import__('os').abort()", 2]
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(evil))
    with pytest.raises(IntegrityError):
        read_recording(path)


def recording(seconds: np.ndarray) -> Recording:
    members = np.arange(len(seconds))[:, None]
    space = Space("line", (Knob("x", tuple(range(len(seconds)))),), members=members)
    return Recording(space, "none", seconds, np.ones(len(seconds)))


def test_measurements_to_a_share():
    curve = np.array([4.0, 2.0, 1.04, 1.0])
    assert measurements_to(0.95, curve, 1.0) == 3
    assert measurements_to(0.99, curve, 1.0) == 4
    assert measurements_to(0.99, curve[:2], 1.0) == np.inf


def test_the_closed_form_of_random_search_is_the_config_of_the_mean_rank():
    """The best of M of N ranks, 1 the fastest, is (N + 1) / (M + 1) on average."""
    rng = np.random.default_rng(0)
    count = 400
    baseline = Baseline.of(recording(np.arange(1.0, count + 1)))
    for draws in (5, 20, 60):
        best = [rng.choice(count, draws, replace=False).min() + 1 for _ in range(4000)]
        mean_rank = (count + 1) / (draws + 1)
        assert np.mean(best) == pytest.approx(mean_rank, rel=0.05)
        assert abs(baseline.best_of(np.array([draws]))[0] - mean_rank) <= 1


def test_random_search_scores_0_and_the_optimum_1():
    rng = np.random.default_rng(1)
    seconds = rng.lognormal(size=600)
    space = recording(seconds)
    curves = [np.minimum.accumulate(rng.permutation(seconds)) for _ in range(400)]
    assert methodology_score(curves, space) == pytest.approx(0, abs=0.08)
    assert methodology_score([np.full(600, seconds.min())], space) == pytest.approx(1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/replay")
def test_draws_to_the_end_are_those_of_the_published_spaces():
    expected = {"gemm_RTX_Titan": 598, "conv_A100": 1050, "conv_A4000": 323, "conv_MI250X": 51}
    for name, draws in expected.items():
        recording = read_recording(SHARED / f"{name}.json.gz")
        assert Baseline.of(recording).draws_to(0.95) == draws
