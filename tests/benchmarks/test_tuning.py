"""The replay benchmark: tables from made-up recordings, kept state, bad folders."""

import json

import pytest

from benchmarks import tuning, tuning_overhead, tuning_runs


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


def test_a_folder_without_recordings(tmp_path, capsys):
    assert tuning.main([str(tmp_path)]) == 2
    assert "no recordings" in capsys.readouterr().out


def test_what_proposals_cost_where_nothing_can_be_enumerated(monkeypatch):
    assert tuning_overhead.SPACE.points == 10**12
    monkeypatch.setattr(tuning_overhead, "TRIALS", (8, 20))
    table = tuning_overhead.overhead(["distinctive"])
    assert table.columns[1:] == ("up to 8 trials", "up to 20 trials")
    assert all(float(cell) > 0 for cell in table.rows[0][1:])
