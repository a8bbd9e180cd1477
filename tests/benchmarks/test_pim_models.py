"""Models on emulated DPUs: every sum is compared, a difference ends the run, reports are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qcc
from benchmarks import pim_models
from qcc.codegen.upmem.execute import Emulated
from qcc.codegen.upmem.toolchain import candidates

pytestmark = pytest.mark.skipif(
    not candidates(), reason="needs clang for RV32, from PATH or qcc[pim-emu]"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
    made = qcc.compile(
        model.requires_grad_(False), (torch.randn(3, 32),), target="upmem", dpus=4, tokens=4,
        recipe={"default": {"weights": "int4<group=16>", "activations": "int4"}},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "small.qcc"
    made.save(path)
    return path


def test_every_sum_is_compared(compiled: Path, tmp_path: Path) -> None:
    found = pim_models.report(compiled, tmp_path)
    assert found["equal"]
    assert [row["sums"] for row in found["layers"]] == [3 * 16 * 2, 3 * 8]  # groups of 16
    text = "\n".join(
        pim_models.lines(found | {"model": "small", "recipe": "int4", "compile_s": 0.0})
    )
    assert "120 sums of DPUs equal NumPy's; outputs equal the interpreter's bit" in text
    for row in found["layers"]:
        assert row["timed_ms"] == pytest.approx(row["kernel_ms"], rel=0.5)


def test_a_wrong_sum_ends_the_run(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Emulated.__call__

    def wrong(self: Emulated, arrays: dict[str, np.ndarray]) -> None:
        right(self, arrays)
        arrays["results"].reshape(-1)[0] += 1

    monkeypatch.setattr(Emulated, "__call__", wrong)
    with pytest.raises(pim_models.Differs, match="0: 1 of 96 sums differ"):
        pim_models.report(compiled, tmp_path)
