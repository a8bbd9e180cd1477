"""Static activation scales from samples to the compiled model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qcc
from qcc.compiler.artifact import Artifact
from qcc.compiler.cli import main
from qcc.dialects.errors import AccuracyError, QccError, UnsupportedError, UsageError

STATIC: dict[str, Any] = {
    "default": {"weights": "int8", "activations": "int8", "calibration": "static"}
}
Sample = tuple[torch.Tensor, ...]


class Cnn(nn.Module):
    """A stem that two convolutions read, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(self.stem(x))
        both = torch.relu(self.left(stem)) + self.right(stem)
        return self.fc(both.mean((2, 3)))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return Mlp().eval()


def samples(*shape: int, count: int = 4) -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(shape, generator=generator),) for _ in range(count)]


def seen_by_torch(model: nn.Module, given: list[Sample]) -> dict[str, tuple[float, float]]:
    """The extremes of each layer's input over the samples, in PyTorch."""
    extremes: dict[str, tuple[float, float]] = {}

    def hook(name: str) -> Callable[..., None]:
        def observe(_: nn.Module, inputs: Sample) -> None:
            low, high = float(inputs[0].min()), float(inputs[0].max())
            known = extremes.get(name, (low, high))
            extremes[name] = min(low, known[0]), max(high, known[1])

        return observe

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    with torch.no_grad():
        for sample in given:
            model(*sample)
    for handle in handles:
        handle.remove()
    return extremes


def error_of(module: qcc.Module, model: nn.Module, given: list[Sample]) -> float:
    """Largest error over the largest output, over all samples."""
    with torch.no_grad():
        pairs = [(module(*sample), model(*sample)) for sample in given]
    largest = max(float(expected.abs().max()) for _, expected in pairs)
    return max(float((found - expected).abs().max()) for found, expected in pairs) / largest


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("static") / "mlp.pt2"
    exported = torch.export.export(mlp(), (torch.zeros(3, 24),))
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def arrays(program: Path) -> Path:
    path = program.with_name("samples.npz")
    np.savez(path, x=np.stack([x.numpy() for (x,) in samples(3, 24)]))
    return path


@pytest.fixture(scope="module")
def compiled(program: Path, arrays: Path) -> Path:
    out = program.with_suffix(".qcc")
    recipe = ["--recipe", "w8a8-static", "--calib", str(arrays)]
    assert main(["compile", str(program), *recipe, "-o", str(out)]) == 0
    return out


def test_ranges_are_what_the_layers_see(compiled: Path) -> None:
    with Artifact.open(compiled) as artifact:
        report = artifact.json("report.json")
        assert artifact.manifest.calibration == "samples.npz"
        text = artifact.read("model.mlir").decode()
    calibration = report["calibration"]
    assert calibration["samples"] == 4
    assert calibration["fit_for_accuracy"] is True
    assert text.count('"qcc.quantize"') == text.count("range = array<f32") == 1  # not of the head
    expected = seen_by_torch(mlp(), samples(3, 24))
    assert calibration["layers"].keys() == {"up"}
    (seen,) = calibration["layers"]["up"]
    np.testing.assert_allclose(seen["range"], expected["up"], rtol=1e-5)
    assert seen["count"] == 4 * 3 * 24


def test_the_compiled_model_is_near_the_original_and_verifies(compiled: Path) -> None:
    assert main(["verify", str(compiled)]) == 0
    module = qcc.load(compiled)
    assert 0 < error_of(module, mlp(), samples(3, 24)) < 0.04
    # The range is fixed: far outside, inputs saturate instead of widening it.
    outside, further = (module(torch.full((3, 24), value)) for value in (50.0, 5000.0))
    torch.testing.assert_close(outside, further, rtol=0, atol=0)


def test_two_builds_are_identical(compiled: Path, program: Path, arrays: Path) -> None:
    again = compiled.with_name("again.qcc")
    recipe = ["--recipe", "w8a8-static", "--calib", str(arrays)]
    assert main(["compile", str(program), *recipe, "-o", str(again)]) == 0
    assert again.read_bytes() == compiled.read_bytes()


def test_a_resolved_plan_calibrates_again(compiled: Path, program: Path, arrays: Path) -> None:
    plan = compiled.with_name("plan.json")
    with Artifact.open(compiled) as artifact:
        plan.write_bytes(artifact.read("plan.json"))
    out = compiled.with_name("replanned.qcc")
    argv = ["compile", str(program), "--recipe", str(plan), "-o", str(out)]
    assert main(argv) == 2
    assert main([*argv, "--calib", str(arrays)]) == 0
    assert out.read_bytes() == compiled.read_bytes()


def test_the_report_shows_the_ranges(compiled: Path, tmp_path: Path) -> None:
    assert main(["report", str(compiled), "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "Static activation ranges" in page
    assert "From samples.npz, 4 samples." in page
    assert "random data" not in page


FORMATS = {
    "int8<symmetric=false>": ("int8<group=tensor,symmetric=false>", 0.04),
    "uint8": ("uint8<group=tensor>", 0.04),
    "fp8_e4m3": ("fp8_e4m3<group=tensor>", 0.1),
    "nvfp4<two_level=true>": ("nvfp4<two_level=true>", 0.4),
    "bf16": ("bf16", 0.04),
}


@pytest.mark.parametrize("activations", FORMATS)
def test_formats_get_their_tensor_wide_form(activations: str) -> None:
    planned, bound = FORMATS[activations]
    recipe = {"default": {**STATIC["default"], "activations": activations}}
    model, given = mlp(), samples(3, 24)
    module = qcc.compile(model, given[0], recipe=recipe, calibration=given)
    assert {layer["activations"] for layer in module.report["layers"]} == {planned}
    assert ("calibration" in module.report) is (activations != "bf16")
    assert error_of(module, model, given) < bound
    assert module.verify()["passed"]


def test_a_cnn_whose_layers_share_a_value(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, given = Cnn().eval(), samples(2, 3, 12, 12)
    static = qcc.compile(model, given[0], recipe=STATIC, calibration=iter(given))
    layers = static.report["calibration"]["layers"]
    for name, extremes in seen_by_torch(model, given).items():
        np.testing.assert_allclose(layers[name][0]["range"], extremes, rtol=1e-4, atol=1e-6)
    assert layers["left"] == layers["right"]
    static.save(tmp_path / "m.qcc")
    with Artifact.open(tmp_path / "m.qcc") as artifact:
        assert artifact.read("model.mlir").decode().count('"qcc.quantize"') == 3
    assert static.verify()["passed"]
    recipe = {"default": {**STATIC["default"], "calibration": "dynamic"}}
    dynamic = qcc.compile(model, given[0], recipe=recipe)
    assert error_of(static, model, given) < 2 * error_of(dynamic, model, given) < 0.1


def test_outliers_are_cut_off() -> None:
    model, given = mlp(), samples(80, 24)
    given[2][0][1, 5] = 1000.0
    recipe = {"default": {**STATIC["default"], "calibration": {"percent": 99.8}}}
    cut, whole = (
        qcc.compile(model, given[0], recipe=r, calibration=given, golden=False)
        for r in (recipe, STATIC)
    )
    seen = cut.report["calibration"]["layers"]["up"][0]
    assert seen["most"] == 1000
    assert seen["range"][1] < 5
    assert error_of(cut, model, given[:1]) < error_of(whole, model, given[:1]) / 4


class Products(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x, y)


def test_operands_of_a_matmul_have_a_range_each() -> None:
    x, y = torch.rand(2, 3, 8), -5 * torch.rand(2, 8, 4)
    recipe = {"rule": [{"op": "matmul", "activations": "int8", "calibration": "static"}]}
    module = qcc.compile(Products(), (x, y), recipe=recipe, calibration=[(x, y)])
    ((lhs, rhs),) = module.report["calibration"]["layers"].values()
    assert lhs["range"] == [float(x.min()), float(x.max())]
    assert rhs["range"] == [float(y.min()), float(y.max())]
    assert error_of(module, Products(), [(x, y)]) < 0.02


def test_samples_are_streamed_and_limited(
    program: Path, arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", str(program), "--recipe", "w8a8-static", "--calib", str(arrays), "--json"]
    assert main([*argv, "--calib-samples", "3", "-o", str(tmp_path / "m.qcc")]) == 0
    assert json.loads(capsys.readouterr().out)["calibration"]["samples"] == 3
    assert main([*argv, "--calib-samples", "0", "-o", str(tmp_path / "m.qcc")]) == 2


def test_random_samples_are_labelled(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "m.qcc", tmp_path / "r.html"
    argv = ["compile", str(program), "--recipe", "w8a8-static", "--calib", "random"]
    assert main([*argv, "-o", str(out)]) == 0
    assert "static scales are from random inputs: unfit for accuracy" in capsys.readouterr().err
    with Artifact.open(out) as artifact:
        assert artifact.manifest.calibration == "random"
        assert artifact.json("report.json")["calibration"]["fit_for_accuracy"] is False
    assert main(["report", str(out), "-o", str(page)]) == 0
    assert "Calibrated with random data" in page.read_text()
    again = tmp_path / "again.qcc"
    assert main([*argv, "-o", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_samples_without_use_are_told(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", str(program), "--recipe", "w8a8", "--calib", "random"]
    assert main([*argv, "-o", str(tmp_path / "m.qcc")]) == 0
    assert "had no use" in capsys.readouterr().err


FUNCTIONS = """
import numpy as np

def good():
    for seed in range(2):
        yield {"x": np.random.default_rng(seed).standard_normal((3, 24), np.float32)}

def failing():
    yield np.zeros((3, 24), np.float32)
    raise OSError("the disk went away")

def wrong_shape():
    return [np.zeros((3, 24), np.float32), np.zeros((3, 23), np.float32)]

def not_samples():
    return 7

def nan():
    return [np.full((3, 24), np.nan, np.float32)]

def nothing():
    return []
"""


@pytest.fixture(scope="module")
def functions(program: Path) -> Path:
    path = program.with_name("calib.py")
    path.write_text(FUNCTIONS)
    return path


def test_samples_from_a_function(program: Path, functions: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.qcc"
    argv = ["compile", str(program), "--recipe", "w8a8-static", "-o", str(out)]
    assert main([*argv, "--calib", f"{functions}:good"]) == 0
    with Artifact.open(out) as artifact:
        assert artifact.manifest.calibration == "calib.py:good"
        assert artifact.json("report.json")["calibration"]["samples"] == 2


@pytest.mark.parametrize(
    ("name", "code", "where"),
    [
        ("failing", "calibration-samples", "calib.py:failing"),
        ("wrong_shape", "input-size", "sample 1 of calib.py:wrong_shape"),
        ("not_samples", "calibration-samples", ""),
        ("nan", "calibration-not-finite", "calib.py:nan"),
        ("nothing", "calibration-no-samples", "calib.py:nothing"),
        ("absent", "factory-missing", ""),
    ],
)
def test_functions_that_give_no_samples(
    program: Path, functions: Path, tmp_path: Path, name: str, code: str, where: str
) -> None:
    with pytest.raises(QccError) as refused:
        qcc.compile(str(program), recipe="w8a8-static", calibration=f"{functions}:{name}")
    assert refused.value.code == code
    assert refused.value.where == where
    assert isinstance(refused.value, AccuracyError) is (name == "nan")


def wrong_arrays() -> Iterator[tuple[dict[str, np.ndarray], str]]:
    yield {"x": np.zeros((24,), np.float32)}, "calibration-shape"
    yield {"x": np.zeros((4, 3, 1, 24), np.float32)}, "calibration-shape"
    yield {"x": np.zeros((4, 3, 25), np.float32)}, "input-size"
    yield {"x": np.zeros((4, 3, 24), np.float64)}, "input-dtype"
    yield {"xs": np.zeros((4, 3, 24), np.float32)}, "inputs-mismatch"


@pytest.mark.parametrize(("held", "code"), list(wrong_arrays()))
def test_files_that_hold_no_samples(
    program: Path, tmp_path: Path, held: dict[str, np.ndarray], code: str
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **held)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError) as refused:
        qcc.compile(str(program), recipe="w8a8-static", calibration=path)
    assert refused.value.code == code


class BrokenOff:
    def __iter__(self) -> Iterator[Any]:
        raise OSError("the disk is gone")


def test_one_sample_of_the_inputs_own_shape(program: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.ones((3, 24), np.float32))
    module = qcc.compile(str(program), recipe="w8a8-static", calibration=tmp_path / "x.npz")
    assert module.report["calibration"]["samples"] == 1


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (None, "calibration-missing"),
        ("lunch", "calibration-source"),
        ("absent.npz", "inputs-missing"),
        (7, "calibration-samples"),
        ([(1, 2)], "input-count"),
        (np.zeros((3, 24), np.float32), "calibration-samples"),
        (BrokenOff(), "calibration-samples"),
    ],
)
def test_no_samples(program: Path, source: Any, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        qcc.compile(str(program), recipe="w8a8-static", calibration=source)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "activations",
    ["mxfp8_e4m3", "amxfp4", "nvfp4", "sawb4", "fp16_169<group=channel>"],
)
def test_formats_that_no_range_can_scale(program: Path, activations: str) -> None:
    recipe = {"default": {"activations": activations, "calibration": "static"}}
    with pytest.raises(UnsupportedError) as refused:
        qcc.compile(str(program), recipe=recipe, calibration="random")
    assert refused.value.code == "static-activations"
    assert "'up'" in refused.value.what
    assert activations in refused.value.what
