"""The image benchmark runs, and sets every contestant against the others."""

from __future__ import annotations

import re

import pytest
from torch import nn

from benchmarks import images
from benchmarks.images import main


def test_it_compares_int8_with_torch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)).eval()
    monkeypatch.setattr(images, "subject", lambda name, ocr: (model, (3, 8, 8)))
    assert main(["--models", "resnet20", "ocr", "--batch", "2", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "resnet20, batch 2, 1 threads" in lines
    assert "ocr: left out, --ocr names no file" in lines
    rows = [line for line in lines if " ms median" in line]
    names = [re.match(r"  (.*?)  ", row)[1] for row in rows]  # pyright: ignore[reportOptionalSubscript]
    assert names[:4] == ["torch fp32", "qcc fp32", "qcc w8a8", "qcc w8a8-static"]
    assert all(re.search(r"torch fp32 / this +\d+\.\d\d", row) for row in rows)
