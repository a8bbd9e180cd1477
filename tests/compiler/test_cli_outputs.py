"""An output never replaces a file that the same command reads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qcc.compiler.cli import main

FACTORY = """
import torch

def make():
    return torch.nn.Linear(4, 2), (torch.ones(1, 4),)
"""


@pytest.fixture
def folder(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of every kind that a command reads."""
    monkeypatch.chdir(tmp_path)
    linear = torch.nn.Linear(4, 2)
    torch.export.save(torch.export.export(linear, (torch.ones(1, 4),)), tmp_path / "m.pt2")
    save_file(linear.state_dict(), tmp_path / "w.safetensors")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 5), np.float32))
    (tmp_path / "model.py").write_text(FACTORY)
    (tmp_path / "r.toml").write_text('[default]\nweights = "int8"\n')
    (tmp_path / "in.mlir").write_text("func.func @main() { return }")
    (tmp_path / "index.json").write_text(
        '{"weight_map": {"weight": "w.safetensors", "bias": "w.safetensors"}}'
    )
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "output"),
    [
        ("compile m.pt2 -o", "m.pt2"),
        ("compile model.py:make -o", "model.py"),
        ("compile model.py:make --weights w.safetensors -o", "w.safetensors"),
        ("compile model.py:make --weights index.json -o", "index.json"),
        ("compile model.py:make --weights index.json -o", "w.safetensors"),
        ("compile m.pt2 --recipe r.toml -o", "r.toml"),
        ("compile m.pt2 --calib x.npz -o", "x.npz"),
        ("compile m.pt2 --calib model.py:samples -o", "model.py"),
        ("compile model.py:make --example-inputs x.npz -o", "x.npz"),
        ("compile m.pt2 --stop-after raise -o", "m.pt2"),
        ("run model.qcc --inputs x.npz --outputs", "model.qcc"),
        ("run model.qcc --inputs x.npz --outputs", "x.npz"),
        ("report model.qcc -o", "model.qcc"),
        ("opt in.mlir -o", "in.mlir"),
        ("bench model.qcc -o", "model.qcc"),
        ("bench model.qcc --inputs x.npz -o", "x.npz"),
    ],
)
@pytest.mark.parametrize("link", ["", "symlink", "link"])
def test_an_input_is_no_output(
    argv: str, output: str, link: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = str(folder / output)
    if link:
        given = str(folder / "other.name")
        getattr(os, link)(folder / output, given)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([*argv.split(), given]) == 2
    assert "error [output-is-input]" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_name_of_ones_own_is_checked_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default output of a model that is called like one."""
    (folder / "m.pt2").rename(folder / "m.qcc")
    before = (folder / "m.qcc").read_bytes()
    assert main(["compile", "m.qcc"]) == 2
    assert "error [output-is-input]" in capsys.readouterr().err
    assert (folder / "m.qcc").read_bytes() == before
    (folder / "model.qcc").rename(folder / "model.html")
    assert main(["report", "model.html"]) == 2
    assert "error [output-is-input]" in capsys.readouterr().err


@pytest.mark.parametrize("argv", ["compile m.pt2 -o", "run model.qcc --inputs x.npz --outputs",
                                  "bench model.qcc -o"])  # fmt: skip
@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("absent/o", "output-not-writable"),
        ("m.pt2/o", "output-not-writable"),
        (".", "output-not-a-file"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    argv: str, output: str, code: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("qcc.compiler.api.load", None)
    assert main([*argv.split(), output]) == 2
    told = capsys.readouterr().err
    assert f"[{code}]" in told
    assert "qcc: open" not in told


def test_a_former_output_is_replaced(folder: Path) -> None:
    (folder / "out.qcc").write_text("old")
    assert main(["compile", "m.pt2", "-o", "out.qcc"]) == 0
    assert (folder / "out.qcc").read_bytes().startswith(b"PK")
