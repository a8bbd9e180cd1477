"""`qcc tune --replay`: recordings as the device, alone or with others to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcc.compiler.cli import main


def recording(path: Path, shift: int = 0, knobs: tuple[str, ...] = ("tile", "block")) -> str:
    """Times of 16 x 16 configs, the least where both are 11 + shift; a third of them failed."""
    points: dict[str, Any] = {}
    for tile in range(16):
        for block in range(16):
            time: Any = 1.0 + (tile - 11 - shift) ** 2 + (block - 11 - shift) ** 2
            failed = (tile + block) % 3 == 2
            values = dict(zip(knobs, (tile, block), strict=True))
            points[f"{tile},{block}"] = {**values, "time": "Failed" if failed else time}
    values = {name: list(range(16)) for name in knobs}
    data = {"device_name": f"gpu {shift}", "tune_params_keys": [*knobs], "tune_params": values}
    path.write_text(json.dumps({**data, "cache": points}))
    return str(path)


def replayed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["tune", "--replay", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_recording_is_searched_as_if_it_were_a_device(tmp_path, capsys):
    path = recording(tmp_path / "space.json")
    found = replayed(capsys, path, "--strategy", "exhaustive", "--trials", "300")
    assert (found["device"], found["configs"], found["trials"]) == ("gpu 0", 256, 256)
    assert (found["of_optimum"], found["values"]) == (1.0, {"tile": 11, "block": 11})
    assert found["until_99%"] == 11 * 16 + 11 + 1
    few = replayed(capsys, path, "--strategy", "exhaustive", "--trials", "16")
    assert (few["until_95%"], few["trials"]) == (None, 16)
    assert few["of_optimum"] == pytest.approx(1 / (1 + 11**2 + 1))


def test_others_teach_the_search(tmp_path, capsys):
    path = recording(tmp_path / "space.json")
    same = recording(tmp_path / "same.json")
    alone, taught = (replayed(capsys, *some, "--trials", "5") for some in ([path], [path, same]))
    assert taught["of_optimum"] > alone["of_optimum"]
    assert (alone["learnt_from"], taught["learnt_from"]) == ({}, {"same": 256})


def test_what_is_refused(tmp_path, capsys):
    path = recording(tmp_path / "space.json")
    foreign = recording(tmp_path / "foreign.json", knobs=("rows", "columns"))
    assert main(["tune", "--replay", path, foreign]) == 2
    assert "has other knobs than" in capsys.readouterr().err
    assert main(["tune", "model.pt2", "--replay", path]) == 2
    assert "without a model" in capsys.readouterr().err
    (tmp_path / "no.json").write_text("{}")
    assert main(["tune", "--replay", str(tmp_path / "no.json")]) == 7
