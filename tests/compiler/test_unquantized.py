"""What is said where a recipe gives nothing a format, and which layer counts as the head."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

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


class Unreached(nn.Module):
    """Weights in products that are no layers, and what is no weight of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 8)
        self.normed = parametrizations.weight_norm(nn.Linear(8, 8))
        self.experts = nn.Parameter(torch.randn(4, 32, 8))
        self.stack = nn.Parameter(torch.randn(2, 8, 8))
        self.pairs = nn.Bilinear(8, 8, 3)
        self.volumes = nn.Conv3d(2, 3, 2)
        self.wider = nn.ConvTranspose2d(2, 3, 2)
        self.places = nn.Parameter(torch.randn(6, 32))
        self.gains = nn.Parameter(torch.randn(6, 32))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x * self.gains + self.places
        y = self.layer(x)
        mixed = torch.einsum("td,edf->etf", x, self.experts)
        heads = torch.bmm(mixed[:2], self.stack)
        image = x.reshape(1, 2, 8, 12)
        wide = self.volumes(image.reshape(1, 2, 4, 6, 4)), self.wider(image)
        return [heads, self.normed(y), self.pairs(y, y), *wide]


def test_weights_that_no_recipe_reaches_count_as_not_quantized() -> None:
    model, x = Unreached(), torch.randn(6, 32)
    report = compiled(model, x, {"default": {"weights": "int8"}}).report
    others = {row["name"]: row for row in report["layers"] if row["op"] == "other"}
    assert {name.split(".")[0] for name in others} == {
        "normed", "experts", "stack", "pairs", "volumes", "wider"
    }  # fmt: skip
    assert "matmul.1" in others["stack"]["reason"]
    assert "conv_3d" in others["volumes"]["reason"]
    total = sum(row["bytes_before"] for row in others.values()) + 4 * 32 * 8
    assert report["coverage"] == pytest.approx(4 * 32 * 8 / total)
    with pytest.raises(UnsupportedError, match="coverage") as refused:
        check_coverage(report, 1.0)
    assert "linear, conv2d and embedding (" in refused.value.why


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(24, 32), nn.Linear(24, 32)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) @ self.right(b).t()


@pytest.mark.parametrize("default", [{}, {"head": "none"}], ids=["plain", "head"])
def test_products_of_computed_values_are_rounded_by_a_rule_only(default: dict[str, str]) -> None:
    default = {"weights": "int8", "activations": "int8", **default}
    rule = {"match": "linear.0", "activations": "int8"}
    found = []
    for rules in ([], [rule]):
        inputs = torch.randn(3, 24), torch.randn(5, 24)
        recipe = {"default": default, "rule": rules}
        module = qcc.compile(Scores().eval(), inputs, recipe=recipe, golden=False)
        *layers, product = module.report["layers"]
        assert [layer["activations"] for layer in layers] == ["int8", "int8"]
        found.append(product["activations"])
    assert found == [None, "int8"]
