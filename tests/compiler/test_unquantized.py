"""What is said where a recipe gives nothing a format, and which layer counts as the head."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qcc
from qcc.compiler.artifact import Artifact
from qcc.compiler.cli import main
from qcc.compiler.report_data import decode_report
from qcc.compiler.summary import check_coverage
from qcc.dialects.errors import UnsupportedError


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(31, 31), nn.Linear(31, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


UNDIVIDED = {"default": {"weights": {"format": "int4", "group": 32}}}
LEFT = {
    "default": {"weights": "int8", "head": "none"},
    "rule": [{"match": "body", "weights": "none"}],
}


def compiled(model: nn.Module, x: Tensor, recipe: object) -> qcc.Module:
    return qcc.compile(model.eval(), (x,), recipe=recipe, golden=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "recipe", "said"),
    [
        (Doubling(), "int8", "the model has no layer that a recipe could give a format"),
        (TwoLayers(), UNDIVIDED, "left in the model's own precision (body, head)"),
        (TwoLayers(), LEFT, 'default head: the recipe says "none" (head)'),
    ],
    ids=["no layers", "no admissible format", "left by the recipe"],
)
def test_a_recipe_without_effect_is_told(model: nn.Module, recipe: object, said: str) -> None:
    with pytest.warns(UserWarning, match="^nothing was quantized: "):
        module = compiled(model, torch.zeros(2, 31), recipe)
    (warning,) = module.report["warnings"]
    assert said in warning


@pytest.mark.parametrize("recipe", [None, "none", "w8a16"])
def test_nothing_is_told_where_nothing_is_wrong(recipe: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        module = compiled(TwoLayers(), torch.zeros(2, 31), recipe)
    assert module.report["warnings"] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_only_layer_is_no_head(dtype: torch.dtype) -> None:
    model = nn.Linear(32, 32).to(dtype)
    report = compiled(model, torch.zeros(2, 32, dtype=dtype), "nvfp4").report
    assert report["coverage"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_last_of_several_layers_is_the_head_in_any_type(dtype: torch.dtype) -> None:
    model, recipe = TwoLayers().to(dtype), {"default": {"weights": "int8", "head": "none"}}
    report = compiled(model, torch.zeros(2, 31, dtype=dtype), recipe).report
    assert [layer["weights"] for layer in report["layers"]] == ["int8", None]


def exported(folder: Path) -> str:
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(TwoLayers().eval(), (torch.zeros(2, 31),)), path)
    return str(path)


def test_the_command_line_warns_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.qcc"
    recipe = ["--format", "int4<group=32>", "--no-golden", "-o", str(out)]
    assert main(["compile", exported(tmp_path), *recipe]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1
    assert lines[0].startswith("qcc: warning: nothing was quantized: ")
    with Artifact.open(out) as artifact:
        report = decode_report(artifact.read("report.json"), str(out))
    assert lines[0].endswith(report.warnings[0])


def test_coverage_that_is_missed_names_the_reasons() -> None:
    report = compiled(TwoLayers(), torch.zeros(2, 31), LEFT | {"rule": []}).report
    with pytest.raises(UnsupportedError, match="coverage") as refused:
        check_coverage(report, 0.9)
    assert refused.value.why == 'default head: the recipe says "none" (head)'
