"""A file of another kind is named as what it is, wherever it is given by mistake."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qcc.compiler.cli import main
from qcc.compiler.file_kind import kind_of, sound_kind

KINDS = {
    "m.pt2": "an exported program (.pt2)",
    "w.pt": "a pickle of torch.save (.pt)",
    "w.safetensors": "a safetensors file",
    "x.npz": "a file of NumPy arrays (.npz)",
    "x.npy": "a single NumPy array (.npy)",
    "model.qcc": "an artifact of qcc",
    "notes.txt": "a text file",
    "data.json": "JSON",
    "old.pkl": "a pickle",
    "other.zip": "a zip archive",
    "cut.zip": "a zip archive that is damaged or cut short",
    "empty": "an empty file",
    "folder": "a folder",
    "noise": "",
    "missing": "",
}


@pytest.fixture
def folder(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    linear = torch.nn.Linear(4, 2)
    torch.export.save(torch.export.export(linear, (torch.ones(1, 4),)), "m.pt2")
    torch.save(linear.state_dict(), "w.pt")
    torch.save(linear.state_dict(), "old.pkl", _use_new_zipfile_serialization=False)
    save_file(linear.state_dict(), "w.safetensors")
    np.savez("x.npz", x=np.ones((2, 5), np.float32))
    np.save("x.npy", np.ones((2, 5), np.float32))
    Path("notes.txt").write_text("words, " * 9 + "ünï" * 9)
    Path("data.json").write_text(json.dumps({"a": 1}))
    with zipfile.ZipFile("other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    Path("cut.zip").write_bytes(sample.read_bytes()[:200])
    Path("empty").touch()
    Path("folder").mkdir()
    Path("noise").write_bytes(bytes(range(255, 128, -1)))
    return tmp_path


def test_kinds(folder: Path) -> None:
    assert {name: kind_of(folder / name) for name in KINDS} == KINDS
    for unsound in ("empty", "cut.zip", "other.zip", "noise", "missing"):
        assert sound_kind(folder / unsound) == ""


@pytest.mark.parametrize(
    ("argv", "own", "code"),
    [
        (["compile", "-o", "o.qcc"], "m.pt2", "model-kind"),
        (["verify"], "model.qcc", "not-an-artifact"),
        (["run", "model.qcc", "--inputs"], "x.npz", "inputs-kind"),
    ],
    ids=["model", "artifact", "inputs"],
)
def test_other_kinds_are_named(
    argv: list[str],
    own: str,
    code: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("m.pt2", "x.npz", "x.npy", "model.qcc", "notes.txt", "data.json", "folder"):
        if name == own:
            continue
        assert main([*argv, name]) == 2
        told = capsys.readouterr().err
        if (code, name) == ("model-kind", "folder"):
            assert "'folder' is a folder" in told
        else:
            assert f"error [{code}]" in told
            assert f"why: it is {KINDS[name]}\n" in told
        assert "next: " in told


@pytest.mark.parametrize("name", ["empty", "noise", "cut.zip", "other.zip"])
def test_damage_is_code_7(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["compile"], ["verify"], ["run", "model.qcc", "--inputs"]):
        assert main([*argv, name]) == 7
        told = capsys.readouterr().err
        assert ("empty" in told) == (name == "empty")


@pytest.mark.parametrize("name", ["x.npz", "m.pt2", "notes.txt", "model.qcc", "folder", "missing"])
def test_weights_of_another_kind(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "m.pt2", "--weights", name, "-o", "o.qcc"]) == 2
    told = capsys.readouterr().err
    assert "error [weights-" in told
    assert KINDS[name] in told
    assert "state dict" in told
