"""Targets, operands and toolchains that a GPU's models may be compiled with, and those refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcc
from qcc.compiler.targets import TARGETS, require_target
from qcc.dialects.errors import ResourceError, UnsupportedError, UsageError

HIDDEN, N = 50, 21


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCC_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_without_a_toolchain_there_are_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise ResourceError("cuda-compiler-missing", "no CUDA compiler was found")

    monkeypatch.setattr("qcc.compiler.cuda.binaries.find_compiler", none)
    made = qcc.compile(
        nn.Linear(HIDDEN, N), (torch.randn(2, HIDDEN),), target="cuda:sm_90a", golden=False
    )
    assert "sources of its kernels, and no cubins for sm_90a" in made.report["cuda"]["note"]
    assert made.report["layers"][0]["weights"] == "fp16"
    assert "rounded to fp16" in made.report["layers"][0]["reason"]


def test_operands_may_be_bf16() -> None:
    made = qcc.compile(
        nn.Linear(HIDDEN, N),
        (torch.randn(2, HIDDEN),),
        target="cuda:emulate",
        operands="bf16",
        golden=False,
    )
    assert made.report["layers"][0]["weights"] == "bf16"
    assert "arith.truncf %in : f32 to bf16" in made._artifact.read("model.mlir").decode()
    with pytest.raises(UsageError, match="tensor cores multiply no 'f32'"):
        qcc.compile(
            nn.Linear(HIDDEN, N), (torch.randn(2, HIDDEN),), target="cuda:emulate", operands="f32"
        )


@pytest.mark.parametrize(
    ("weights", "operands", "nearest"),
    [
        ("bf16", "f16", "compile with --operands bf16, or choose fp16 or"),
        ("fp32", "f16", "choose fp16 or a format of at most eight bits"),
        ("fp16", "bf16", "compile with --operands f16, or choose bf16 or"),
    ],
)
def test_weights_that_no_operand_holds(weights: str, operands: str, nearest: str) -> None:
    layers = nn.Sequential(nn.Linear(HIDDEN, N)), nn.Sequential(nn.Conv2d(3, 2, 3))
    inputs = torch.randn(2, HIDDEN), torch.randn(1, 3, 5, 5)
    for layer, x in zip(layers, inputs, strict=True):
        recipe = {"default": {"weights": weights}}
        with pytest.raises(UnsupportedError, match=f"with weights in {weights}") as told:
            qcc.compile(layer, (x,), recipe=recipe, target="cuda:sm_90a", operands=operands)
        assert nearest in told.value.next_step
        assert told.value.where.startswith("layer 0")


def test_targets() -> None:
    assert all(require_target(name).name == name for name in TARGETS)
    assert require_target("cuda:emulate:sm_90a").machine == "sm_90a"
    for name, nearest in (("cuda:sm_90", "sm_90a"), ("cuda", "sm_80"), ("cuda:sm_80:x", "sm_80"),
                          ("cuda:sm_121a", "sm_120a"), ("cuda:sm_75", "sm_80")):  # fmt: skip
        with pytest.raises(UnsupportedError) as told:
            require_target(name)
        assert f"cuda:{nearest}" in told.value.next_step
