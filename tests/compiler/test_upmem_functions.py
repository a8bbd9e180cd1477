"""A model whose GELU is a table on DPUs: the same bits in every emulator, near the model's own."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import qcc
from qcc.codegen.upmem.toolchain import candidates
from qcc.compiler.cli import main
from qcc.compiler.upmem import running
from qcc.dialects.errors import QccError
from tests.compiler.upmem_decoder import Decoder

SMALL: dict[str, Any] = {"dpus": 4, "tokens": 8, "recipe": "w4a4"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 24), nn.GELU(), nn.Linear(24, 10)).eval()
    sizes = ({0: Dim("time", min=2, max=200)},)
    out = tmp_path_factory.mktemp("model") / "layers.pt2"
    torch.export.save(torch.export.export(model, (torch.randn(5, 40),), dynamic_shapes=sizes), out)
    return out


@pytest.fixture(scope="module")
def path(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifact") / "layers.qcc"
    argv = ["compile", str(exported), "--target", "upmem", "--recipe", "w4a4", "-o", str(out)]
    assert main([*argv, "--dpus", "4", "--tokens", "8", "--functions", "gelu"]) == 0
    return out


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    """More numbers than a launch takes."""
    return [np.random.default_rng(0).standard_normal((150, 40), np.float32) * 3]


def test_dpus_compute_what_the_interpreter_does(path: Path) -> None:
    result = qcc.load(path).verify()
    assert result["passed"]
    alone = result["outputs"][1]
    assert alone["name"].endswith("(DPUs alone)")
    assert alone["max_abs_error"] == alone["tolerance"] == 0


def test_what_dpus_say_reaches_the_result(
    path: Path, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = qcc.load(path).run(inputs)[0]
    monkeypatch.setattr(running, "fused_evaluation", lambda *_: lambda x, _: np.zeros((len(x), 24)))
    assert not np.allclose(qcc.load(path).run(inputs)[0], expected, atol=1e-2)


def test_near_the_model_without(path: Path, exported: Path, inputs: list[np.ndarray]) -> None:
    """A table moves few activations over a boundary of 4 bits."""
    plain = qcc.compile(exported, target="upmem", golden=False, **SMALL).run(inputs)[0]
    found = qcc.load(path).run(inputs)[0]
    assert 0 < np.linalg.norm(found - plain) < 0.02 * np.linalg.norm(plain)


@pytest.mark.skipif(not candidates(), reason="needs clang for RV32, from PATH or qcc[pim-emu]")
def test_timed_emulator_gives_the_same(
    path: Path, exported: Path, inputs: list[np.ndarray]
) -> None:
    made = qcc.compile(exported, target="upmem:rv32", golden=False, functions=["gelu"], **SMALL)
    assert made.run(inputs)[0].tobytes() == qcc.load(path).run(inputs)[0].tobytes()


def test_report_and_members(path: Path) -> None:
    rows = qcc.load(path).report["upmem"]["layers"]
    assert [row["layer"] for row in rows] == ["0.gelu", "2"]
    row = rows[0]
    assert row["method"].endswith(" + gelu")
    assert row["lut_bytes"] >= 768
    assert row["kernel_ms"] > 0 < row["dma_bytes"]
    with zipfile.ZipFile(path) as archive:
        source = archive.read("kernels/upmem/model.c").decode()
    assert "dpu_error_t model_layer_0_gelu(" in source


def test_a_step_has_a_kernel_for_one_token() -> None:
    torch.manual_seed(0)
    sizes = ({0: Dim("batch", max=4), 1: Dim("length", min=2, max=32)},)
    model = Decoder(nn.functional.gelu).eval().requires_grad_(False)
    made = qcc.compile(
        model, (torch.zeros(2, 5, dtype=torch.int64),), target="upmem", dynamic_shapes=sizes,
        functions=["gelu"], **SMALL,
    )  # fmt: skip
    result = made.verify()
    assert result["passed"]
    names = {row["name"].partition(" ")[2] for row in result["outputs"]}
    assert names == {"", "(DPUs alone)", "(token by token)"}
    rows = [row for row in made.report["upmem"]["layers"] if row["method"] == "piecewise"]
    assert [(row["layer"], row["for_tokens"] < 8) for row in rows] == [
        ("attention.0.gelu", False), ("attention.0.gelu.step", True),
    ]  # fmt: skip


def test_functions_are_of_this_target(exported: Path) -> None:
    with pytest.raises(QccError, match="takes no functions"):
        qcc.compile(exported, functions=["gelu"])
    with pytest.raises(QccError, match="the model has no norm for DPUs"):
        qcc.compile(exported, target="upmem", functions=["norm"], **SMALL)


class Block(nn.Module):
    """A block of a transformer whose every function DPUs have, keys shared by two heads each."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.gate, self.up, self.down = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)
        self.first, self.second = nn.LayerNorm(16), nn.RMSNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        heads = [
            each(y).unflatten(-1, (-1, 4)).transpose(1, 2) for each in (self.q, self.k, self.v)
        ]
        attend = nn.functional.scaled_dot_product_attention
        x = x + attend(*heads, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)
        y = self.second(x)
        x = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return torch.softmax(nn.functional.gelu(x, approximate="tanh"), -1)


@pytest.fixture(scope="module")
def block() -> Callable[..., qcc.Module]:
    """The block, compiled with options."""
    torch.manual_seed(0)
    sizes = ({1: Dim("time", min=2, max=64)},)
    model, inputs = Block().eval().requires_grad_(False), (torch.randn(2, 7, 16),)
    return partial(
        qcc.compile, model, inputs, dynamic_shapes=sizes, target="upmem", recipe="w8a8", dpus=4,
        tokens=14,
    )  # fmt: skip


def test_a_whole_block(block: Callable[..., qcc.Module]) -> None:
    """Rows of more keys than kernels are for, too: the same bits, near the model without."""
    made = block(functions=["all"])
    result = made.verify()
    assert result["passed"]
    assert result["outputs"][1]["max_abs_error"] == 0
    rows = {row["layer"]: row["method"] for row in made.report["upmem"]["layers"]}
    assert {layer for layer, method in rows.items() if method in ("rows", "piecewise")} == {
        "first.layer_norm", "attention.0.softmax", "second.rms_norm", "gelu_tanh", "softmax",
    }  # fmt: skip
    assert rows["gate.silu"].endswith(" + silu")
    assert made.report["upmem"]["host"] == []
    plain = block(golden=False)
    for time in (7, 20):
        x = np.random.default_rng(time).standard_normal((2, time, 16), np.float32)
        (found,), (expected,) = made.run([x]), plain.run([x])
        assert 0 < np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def test_auto_says_what_it_left(block: Callable[..., qcc.Module]) -> None:
    made = block(functions=["auto"], golden=False)
    reasons = [each["reason"] for each in made.report["upmem"]["host"]]
    assert sum("ms on DPUs" in each for each in reasons) == 6
    assert all(row["method"] == "multiply" for row in made.report["upmem"]["layers"])
