"""The replay benchmark: tables from made-up recordings, kept state, bad folders."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tuning, tuning_overhead, tuning_runs, tuning_tables
from benchmarks.peers import kernel_tuner


@pytest.fixture
def folder(tmp_path):
    """Two devices with the same knobs."""
    for number in range(2):
        records = {
            f"{a},{b}": {"a": a, "b": b, "time": float((a - 4 - number) ** 2 + abs(b - 2) + 1)}
            for a in range(1, 9)
            for b in range(1, 5)
        }
        space = {
            "device_name": f"device {number}",
            "tune_params_keys": ["a", "b"],
            "tune_params": {"a": list(range(1, 9)), "b": [1, 2, 3, 4]},
            "cache": records,
        }
        (tmp_path / f"space_{number}.json").write_text(json.dumps(space))
    return tmp_path


def test_a_table_for_each_question(folder, capsys):
    words = [str(folder), "--seeds", "2", "--strategies", "random", "distinctive", "--transfer"]
    words += ["--stop", "--output", str(folder / "table.md")]
    assert tuning.main([*words, "--state", str(folder / "kept.state")]) == 0
    shown = capsys.readouterr().out
    written = (folder / "table.md").read_text()
    for text in ("95% of the optimum", "99% of the optimum", "Methodology score", "Early stop"):
        assert text in shown
        assert text in written
    assert "transfer / random" in written
    assert "transfer / distinctive" in written
    kept = (folder / "kept.state").read_text().splitlines()
    assert len(kept) == 2 * 2 * (3 + 1)
    assert sum("steps" in json.loads(line) for line in kept) == 12


def test_other_batches_have_rows_and_are_no_rivals(folder, capsys):
    state = ["--seeds", "1", "--state", str(folder / "s")]
    some = ["--strategies", "random", "distinctive", "--batch", "4", "8"]
    output = folder / "table.md"
    assert tuning.main([str(folder), *state, *some, "--stop", "--output", str(output)]) == 0
    first = output.read_text()
    assert "| distinctive by 8 |" in first
    assert "distinctive / random" in first
    capsys.readouterr()
    with_more = ["--seeds", "3", "--state", str(folder / "s"), "--kept"]
    assert tuning.main([str(folder), *with_more, *some, "--stop", "--output", str(output)]) == 0
    again = output.read_text()
    assert again.splitlines()[3:] == first.splitlines()[3:]


def test_runs_that_are_kept_are_not_repeated(folder, monkeypatch):
    words = [str(folder), "--seeds", "1", "--strategies", "random", "--state", str(folder / "s")]
    assert tuning.main(words) == 0

    def never(*_):
        raise AssertionError("run again")

    monkeypatch.setattr(tuning_runs, "replayed", never)
    assert tuning.main(words) == 0


def test_a_benchmark_that_was_killed_while_it_wrote_goes_on(folder):
    state = folder / "kept.state"
    words = [str(folder), "--seeds", "2", "--strategies", "random", "--state", str(state)]
    assert tuning.main(words) == 0
    whole = state.read_text()
    state.write_text(whole[:-30])
    assert tuning.main(words) == 0
    assert state.read_text() == whole
    state.write_text(whole[:30])
    assert tuning.main(words) == 0
    assert state.read_text() == whole


def test_a_folder_without_recordings(tmp_path, capsys):
    assert tuning.main([str(tmp_path)]) == 2
    assert "no recordings" in capsys.readouterr().out


def test_what_proposals_cost_where_nothing_can_be_enumerated(monkeypatch):
    assert tuning_overhead.SPACE.points == 10**12
    monkeypatch.setattr(tuning_overhead, "TRIALS", (8, 20))
    table = tuning_overhead.overhead(["distinctive"])
    assert table.columns[1:] == ("up to 8 trials", "up to 20 trials")
    assert all(float(cell) > 0 for cell in table.rows[0][1:])


KNOBS = {
    "block_size_x": [32, 64, 128],
    "layout": ["NHWC", "NCHW"],
    "alpha": [0.5, 1.0, 2.0],
    "use_shmem": [True, False],
    "filter": [3],
}


def foreign() -> list[dict]:
    """Records of a user's kernel: texts, fractions, flags, a rule, and failures of two kinds."""
    configs = [dict(zip(KNOBS, values, strict=True)) for values in product(*KNOBS.values())]
    legal = [each for each in configs if not (each["block_size_x"] == 128 and each["use_shmem"])]
    for place, each in enumerate(legal):
        slow = abs(each["block_size_x"] - 64) / 32 + (each["layout"] == "NCHW") + each["alpha"]
        each["time"] = "CompilationFailedConfig" if place % 7 == 0 else 1 + slow
    legal[9]["time"] = 1e20  # how old versions say that it failed
    return legal


def cache_of(records: list[dict]) -> dict:
    return {
        "device_name": "a user's",
        "kernel_name": "theirs",
        "tune_params_keys": list(KNOBS),
        "tune_params": KNOBS,
        "cache": {",".join(str(each[knob]) for knob in KNOBS): each for each in records},
    }


def t4_of(records: list[dict]) -> dict:
    results = [
        {
            "configuration": {knob: each[knob] for knob in KNOBS},
            "invalidity": "compile" if isinstance(each["time"], str) else "correct",
            "times": {"compilation_time": 5.0},
            "measurements": [{"name": "time", "value": each["time"], "unit": "ms"}],
        }
        for each in records
    ]
    return {"results": results, "metadata": {"timeunit": "milliseconds"}}


@pytest.mark.parametrize("form", [cache_of, t4_of])
def test_a_space_of_a_user_goes_through_the_same_command(tmp_path, capsys, form):
    (tmp_path / "theirs.json").write_text(json.dumps(form(foreign())))
    (tmp_path / "T1.json").write_text('{"ConfigurationSpace": {"TuningParameters": []}}')
    output, state = tmp_path / "table.md", tmp_path / "runs.jsonl"
    words = [str(tmp_path), "--seeds", "3", "--strategies", "distinctive", "evolution"]
    assert tuning.main([*words, "--state", str(state), "--output", str(output)]) == 0
    assert "T1.json" in capsys.readouterr().out, "what is no recording is named"
    table = output.read_text()
    assert f"Recordings: {tmp_path}" in table
    medians = [line for line in table.splitlines() if line.startswith("| distinctive |")]
    assert float(medians[0].split("|")[2]) <= 30, "all of it are 30 configs"
    runs = [json.loads(line) for line in state.read_text().splitlines()]
    assert [run["steps"][-1][1] for run in runs] == [pytest.approx(1.5e-3)] * 6


def test_a_peer_that_is_missing_or_fails_is_left_out(folder, capsys, monkeypatch):
    class Package:
        @staticmethod
        def tune_cache(path, strategy, strategy_options):
            if strategy == "pso":
                raise IndexError("a population larger than the space")
            read = json.loads(Path(path).read_text())
            return list(read["cache"].values()), {}

    words = [str(folder), "--seeds", "1", "--strategies", "random", "--kernel-tuner"]
    monkeypatch.setattr(kernel_tuner, "import_module", lambda name: Package)
    assert tuning.main([*words, "--output", str(folder / "table.md")]) == 0
    assert "kernel tuner pso on space_0: [peer-failed]" in capsys.readouterr().out
    table = (folder / "table.md").read_text()
    assert "| kernel tuner genetic_algorithm |" in table
    assert "pso" not in table

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(kernel_tuner, "import_module", missing)
    assert tuning.main(words) == 0
    assert "qcc[peers]" in capsys.readouterr().out


def test_an_interval_says_how_much_the_seeds_decide():
    def interval(counts: list[float]) -> tuple[str, str]:
        drawn = tuning_tables._medians(counts, np.random.default_rng(0))
        assert drawn.shape == (1 + tuning_tables.DRAWS,)
        return tuning_tables._with_interval(drawn, 0)

    assert interval([7.0] * 20) == ("7", "7 to 7")
    low, high = map(int, interval([20.0] * 10 + [200.0] * 10)[1].split(" to "))
    assert (low, high) == (20, 200), "of two humps 20 seeds cannot say which holds the median"
    low, high = map(int, interval([20.0] * 18 + [200.0] * 2)[1].split(" to "))
    assert (low, high) == (20, 20)


def test_revisits_of_peers_are_free_whatever_their_knobs_are():
    records = [
        {"layout": layout, "alpha": alpha, "time": time}
        for layout, alpha, time in (
            ("a", 0.5, 3.0),
            ("b", 0.5, 2.0),
            ("a", 0.5, 3.0),
            ("a", 1.0, 1.0),
        )
    ]
    curve = kernel_tuner._curve(records, ["layout", "alpha"])
    assert curve == pytest.approx([3e-3, 2e-3, 1e-3])
