"""`qcc bench`: a result knows what it measured, and is no baseline for anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcc.compiler.cli import main

Write = Callable[..., Path]


class Doubling:
    precision = "default"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return 2 * x


@pytest.fixture
def kept(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The result of timing `sample`, so slow that nothing is slower."""
    monkeypatch.setattr("qcc.compiler.api.load", lambda *_, **__: Doubling())
    path = tmp_path / "b.json"
    assert main(["bench", str(sample), "-n", "3", "-o", str(path)]) == 0
    return changed(path, median_s=1e6)


def changed(path: Path, **fields: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return path


def test_a_result_says_what_was_measured(kept: Path) -> None:
    result = json.loads(kept.read_text())
    assert (result["recipe"], result["precision"], result["target"]) == ("w8a16", "default", "cpu")
    assert result["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 5]}]
    assert len(result["artifact"]) == 64
    assert result["threads"] >= 1
    assert result["cpu"]


def test_slower_than_the_baseline(
    sample: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["bench", str(sample), "-n", "1", "--baseline", str(kept)]
    assert main(argv) == 0
    assert "compared is" not in capsys.readouterr().err
    changed(kept, median_s=1e-12)
    assert main(argv) == 5
    assert "slower-than-baseline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ({"model": "resnet"}, "the baseline has resnet"),
        ({"precision": "fp8"}, "precision is default, the baseline has fp8"),
        ({"threads": 999}, "the baseline has 999"),
        ({"cpu": "Abacus"}, "the baseline has Abacus"),
        ({"target": "cuda"}, "target is cpu, the baseline has cuda"),
        (
            {"inputs": [{"name": "x", "dtype": "float32", "shape": [8, 5]}]},
            "the inputs are x: float32[2, 5], the baseline has x: float32[8, 5]",
        ),
    ],
    ids=str,
)
def test_another_measurement_is_no_baseline(
    other: dict[str, Any],
    shown: str,
    sample: Path,
    kept: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed(kept, **other)
    argv = ["bench", str(sample), "-n", "1", "--baseline", str(kept)]
    assert main(argv) == 2
    told = capsys.readouterr()
    assert "error [baseline-differs]" in told.err
    assert shown in told.err
    assert "--any-baseline" in told.err
    assert main([*argv, "--any-baseline"]) == 0
    told = capsys.readouterr()
    assert "warning: other conditions" in told.err
    assert shown in told.err


def test_another_artifact_of_the_model_is_compared_and_named(
    write_sample: Write,
    report_data: dict[str, Any],
    sample: Path,
    kept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rebuilt = write_sample(tmp_path / "new.qcc", report_data | {"coverage": 0.5})
    argv = ["bench", str(rebuilt), "-n", "1", "--baseline", str(kept)]
    assert main(argv) == 0
    assert "compared is artifact" in capsys.readouterr().err
    changed(kept, recipe="mxfp4")
    assert main(argv) == 0
    assert "compared is recipe w8a16, where the baseline has mxfp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (None, "baseline-unreadable"),
        (b"", "baseline-malformed"),
        (b"[]", "baseline-malformed"),
        (b'{"median_s": 0.5}', "baseline-malformed"),
        (b"PK\x03\x04\xff", "baseline-malformed"),
        (b"[" * 100_000, "baseline-malformed"),
    ],
)
def test_files_that_are_no_baseline(
    data: bytes | None,
    code: str,
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "b.json"
    if data is not None:
        path.write_bytes(data)
    assert main(["bench", str(sample), "--baseline", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"error [{code}]" in told
    assert "qcc bench OUT.qcc -o" in told


def test_a_baseline_is_not_overwritten_by_what_it_judges(
    sample: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept.read_bytes()
    assert main(["bench", str(sample), "--baseline", str(kept), "-o", str(kept)]) == 2
    assert "output-is-input" in capsys.readouterr().err
    assert kept.read_bytes() == before
