"""Every precision that DPUs have a recipe for, and tables of one's own, in both emulators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qcc
from qcc.codegen.upmem.toolchain import candidates
from qcc.dialects.formats import parse_spelling

K, N = 37, 11
TABLE = """\
format seven {
  title "eight values of one's own";
  option group: int 8 to 64 | channel = channel;
  element table values=[-4, -2, -1, 0, 1, 2, 3, 5];
  block size=$group ragged=false;
  scale scale type=fp32 rule=absmax;
}
"""
RECIPES = ("w1a3", "w1a4", "w2a2", "w2a4", "w4a4", "w4a8-dint4-rows", "w8a8")
PAIRS = (
    ("sawb3", "int4"),
    ("sawb4<zero_level=true,group=channel>", "uint3"),
    ("binary<group=tensor>", "int8<symmetric=false>"),
    ("lut4<table=[-8,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,6,7,8]>", "int5"),
    ("mxfp4", "mxfp4"),
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class Layer(nn.Module):
    """Its last layer would be a head, which recipes may leave as it is."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.layer = nn.Linear(k, N)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


def check(recipe: Any, target: str = "upmem", k: int = K) -> qcc.Module:
    """Compile, with each pass executed before and after; the emulator equals the reference."""
    torch.manual_seed(0)
    made = qcc.compile(
        Layer(k).eval().requires_grad_(False), (torch.randn(3, k),), recipe=recipe, target=target,
        dpus=2, tokens=4, validate=True,
    )  # fmt: skip
    assert [row["layer"] for row in made.report["upmem"]["layers"]] == ["layer"]
    errors = {row["pass"]: row["max_rel_error"] for row in made.report["validation"]}
    assert errors["partition-pim"] < 1e-5
    result = made.verify()
    assert result["golden"]
    assert result["passed"]
    whole, alone = result["outputs"]
    assert whole["max_rel_error"] < 1e-5
    assert alone["max_abs_error"] == 0
    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(recipe: str) -> None:
    check(recipe)


@pytest.mark.parametrize(("weights", "activations"), PAIRS)
def test_pair_of_code_tables(weights: str, activations: str) -> None:
    check({"default": {"weights": weights, "activations": activations}})


def test_scales_of_groups() -> None:
    """Zero points too; the inputs of a layer are a whole number of groups."""
    made = check(
        {"default": {"weights": "int4<group=16,symmetric=false>", "activations": "int8"}}, k=48
    )
    (row,) = made.report["upmem"]["layers"]
    assert row["group"] == 16


def test_format_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "seven.fmt"
    path.write_text(TABLE)
    made = check({"default": {"weights": str(path), "activations": "int4"}})
    saved = tmp_path / "seven.qcc"
    made.save(saved)
    path.unlink()
    x = np.ones((3, K), np.float32)
    assert qcc.load(saved).run([x])[0].tobytes() == made.run([x])[0].tobytes()


@pytest.mark.skipif(not candidates(), reason="needs clang for RV32, from PATH or qcc[pim-emu]")
@pytest.mark.parametrize("recipe", ["w1a3", "w2a2", "w4a8-dint4-rows"])
def test_recipe_on_the_timed_emulator(recipe: str) -> None:
    check(recipe, "upmem:rv32")


def test_one_bit_is_a_sign_and_the_mean_magnitude() -> None:
    rows = np.array([[1.0, -3.0, 0.5, -1.5], [0.0, -2.0, 2.0, 0.0]], np.float32)
    held = parse_spelling("binary").quantize(rows)
    assert held.dequantize().tolist() == [[1.5, -1.5, 1.5, -1.5], [-1.0, -1.0, 1.0, -1.0]]
