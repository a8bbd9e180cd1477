"""Ranking quality: what is printed, and that orders are judged rightly."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import ranking
from benchmarks.made_up_kernels import made_up
from benchmarks.ranking_plot import rank_plot


@pytest.fixture
def folder(tmp_path):
    """One kernel on two devices, nearly alike."""
    for number in range(2):
        records = {
            f"{a},{b}": {"a": a, "b": b, "time": 1.0 + (a - 6) ** 2 + 3 * abs(b - 2) + 0.1 * number}
            for a in range(1, 17)
            for b in range(1, 9)
        }
        space = {
            "device_name": f"device {number}",
            "tune_params_keys": ["a", "b"],
            "tune_params": {"a": list(range(1, 17)), "b": list(range(1, 9))},
            "cache": records,
        }
        (tmp_path / f"space_{number}.json").write_text(json.dumps(space))
    return tmp_path


def test_every_model_is_judged_on_every_recording(folder, capsys):
    assert ranking.main([str(folder), "--output", str(folder)]) == 0
    text = (folder / "ranking.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| space_")]
    assert len(rows) == 2 * 3
    assert all(float(line.split("|")[3]) > 0.8 for line in rows)
    for name in ("space_0", "space_1"):
        ElementTree.parse(folder / f"ranking-{name}.svg")
    assert "Spearman" in capsys.readouterr().out


def test_one_recording_alone_has_nothing_to_learn_from(folder, capsys):
    (folder / "space_1.json").unlink()
    assert ranking.main([str(folder)]) == 2
    assert "no two recordings" in capsys.readouterr().out


def test_orders_are_judged():
    seconds = np.arange(1.0, 201.0)
    seconds[7] = np.nan
    right = ranking.quality("r", "m", np.arange(200.0), seconds)
    wrong = ranking.quality("r", "m", -np.arange(200.0), seconds)
    assert (right.spearman, right.recalls) == (pytest.approx(1), (1, 1, 1))
    assert (wrong.spearman, wrong.recalls) == (pytest.approx(-1), (0, 0, 0))


def test_plots_name_their_models():
    values = np.random.default_rng(0).normal(size=50)
    text = rank_plot("a <b>", {"one & two": values, "other": -values}, values)
    ElementTree.fromstring(text)
    assert "one &amp; two" in text


def test_made_up_kernels_are_the_same_each_time_and_differ_by_device():
    first, again = ({r.device: r for r in made_up()} for _ in range(2))
    assert len(first) == 9
    for name, recording in first.items():
        np.testing.assert_array_equal(recording.seconds, again[name].seconds)
        assert recording.optimum > 0
        assert 0 < np.isnan(recording.seconds).mean() < 0.8
    assert first["matmul alpha"].optimum != first["matmul beta"].optimum
