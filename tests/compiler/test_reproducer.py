"""A pass that crashes leaves a bundle from which `qcc opt` starts again."""

import json
import re
from pathlib import Path

import pytest
import torch

from qcc.compiler import driver
from qcc.compiler.cli import main


def crash(*_: object) -> None:
    raise ZeroDivisionError("planted")


def test_a_crash_in_a_pass_leaves_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = torch.export.export(torch.nn.Linear(4, 3), (torch.randn(2, 4),))
    torch.export.save(program, tmp_path / "model.pt2")
    monkeypatch.setitem(driver.PASSES, "name-layers", crash)
    out = tmp_path / "model.qcc"
    assert main(["compile", str(tmp_path / "model.pt2"), "-o", str(out)]) == 1
    assert not out.exists()
    found = re.search(r"bundle (\S+)", capsys.readouterr().err)
    assert found is not None
    bundle = Path(found[1])
    record = json.loads((bundle / "reproducer.json").read_text())
    assert record["pipeline"] == "name-layers"
    assert "ZeroDivisionError: planted" in (bundle / "traceback.txt").read_text()
    monkeypatch.undo()
    named = tmp_path / "named.mlir"
    arguments = [str(bundle / "before.mlir"), "--pipeline", record["pipeline"], "-o", str(named)]
    assert main(["opt", *arguments]) == 0
    assert 'layer = ""' not in named.read_text()
    assert "layer =" in named.read_text()
