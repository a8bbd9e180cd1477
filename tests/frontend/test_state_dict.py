"""Pickled files: tensors pass through a child process, everything else is refused."""

from __future__ import annotations

import os
import pickle
import stat

import numpy as np
import pytest
import torch

from qcc.compiler.frontend import state_dict
from qcc.compiler.frontend.sources import open_model
from qcc.compiler.frontend.state_dict import open_state_dict
from qcc.dialects.errors import IntegrityError, ResourceError, UsageError


class Canary:
    """Unpickling this creates a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_tensors_and_ties(tmp_path):
    shared = torch.randn(4, 4)
    tensors = {"a": shared, "b": shared, "half": torch.randn(3).bfloat16(), "n": torch.tensor(7)}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "w.pt")
    with open_state_dict(tmp_path / "w.pt") as source:
        assert source.names() == ("a", "b", "half", "n")
        assert source.info("a") == source.info("b")
        assert np.array_equal(source.read("b"), shared.numpy())
        assert source.info("half").dtype == "bfloat16"
        (inner,) = source._sources  # pyright: ignore[reportAttributeAccessIssue]
        folder = inner.paths[0].parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_never_runs(tmp_path, legacy):
    canary = tmp_path / "fired"
    torch.save({"w": Canary(canary)}, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    for call in (open_state_dict, lambda path: open_model(str(path))):
        with pytest.raises(IntegrityError) as caught:
            call(tmp_path / "w.pt")
        assert caught.value.exit_code == 7
        assert "save_file" in caught.value.next_step
    assert not canary.exists()


def test_plain_pickle_never_runs(tmp_path):
    canary = tmp_path / "fired"
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Canary(canary)))
    for call in (open_state_dict, lambda path: open_model(str(path))):
        with pytest.raises(IntegrityError):
            call(tmp_path / "w.pt")
    assert not canary.exists()


def test_pickled_module_and_torchscript_are_refused(tmp_path):
    module = torch.nn.Linear(2, 2)
    torch.save(module, tmp_path / "module.pt")
    torch.jit.save(torch.jit.trace(module, torch.ones(1, 2)), str(tmp_path / "script.pt"))
    for name in ("module.pt", "script.pt"):
        for call in (open_state_dict, lambda path: open_model(str(path))):
            with pytest.raises(IntegrityError) as caught:
                call(tmp_path / name)
            assert caught.value.code == "pickle-refused"


def test_allow_pickle_reads_a_module_in_the_child(tmp_path):
    module = torch.nn.Linear(2, 2)
    torch.save(module, tmp_path / "module.pt")
    with open_state_dict(tmp_path / "module.pt", allow_pickle=True) as source:
        assert np.array_equal(source.read("weight"), module.weight.detach().numpy())


@pytest.mark.parametrize("content", [{"a": "text"}, [torch.ones(1)], {}, {"a": {"b": 1}}])
def test_other_contents(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(IntegrityError):
        open_state_dict(tmp_path / "w.pt")


def test_damaged_and_missing_files(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "w.pt")
    data = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError):
        open_state_dict(tmp_path / "w.pt")
    with pytest.raises(UsageError):
        open_state_dict(tmp_path / "none.pt")


def test_limits(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(100)}, tmp_path / "w.pt")
    monkeypatch.setattr(state_dict, "_TIME_LIMIT", 0.01)
    with pytest.raises(ResourceError) as caught:
        open_state_dict(tmp_path / "w.pt")
    assert caught.value.exit_code == 6
