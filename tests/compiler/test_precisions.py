"""One artifact in several precisions: NestedFP's fp16 and its FP8 view, over the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qcc
from qcc.compiler.artifact import Artifact
from qcc.compiler.cli import main
from qcc.compiler.running import KeyValueCaches, RunningCode
from qcc.compiler.tensor_layout import unpack_tensors
from qcc.models import FAMILIES

FP8 = "fp8_e4m3"
RECIPE: dict[str, Any] = {"default": {"weights": "nestedfp16", "fallback": "fp16"}}
NAMES = ("fp16", FP8)


def model() -> nn.Sequential:
    """Three layers of ragged sizes; the one in the middle has a weight that NestedFP refuses."""
    torch.manual_seed(0)
    first, middle, last = nn.Linear(37, 64), nn.Linear(64, 41), nn.Linear(41, 8)
    with torch.no_grad():
        middle.weight[0, 0] = 3.0
    return nn.Sequential(first, nn.GELU(), middle, nn.GELU(), last).eval()


INPUT = torch.randn(4, 37, generator=torch.Generator().manual_seed(1))


def expected(formats: dict[int, qcc.Format]) -> np.ndarray:
    """What eager torch computes with the weights of some layers rounded."""
    rounded = model()
    with torch.no_grad():
        for index, fmt in formats.items():
            layer = rounded[index]
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(torch.from_numpy(fmt.quantize(layer.weight).dequantize()))
        return rounded(INPUT).numpy()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precisions") / "m.qcc"
    qcc.compile(model(), (INPUT,), recipe=RECIPE).save(path)
    return path


@pytest.fixture(scope="module")
def loaded(artifact: Path) -> qcc.Module:
    return qcc.load(artifact)


@pytest.mark.parametrize(("name", "view"), [("fp16", "none"), (FP8, FP8)])
def test_each_precision_computes_with_its_weights(loaded: qcc.Module, name: str, view: str) -> None:
    nested = qcc.format("nestedfp16", view=view)
    wanted = expected({0: nested, 2: qcc.format("fp16"), 4: nested})
    found = loaded.at_precision(name)(INPUT.numpy())
    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max() + 1e-6
    assert np.abs(found - expected({})).max() > 1e-5


def test_the_default_is_the_whole(loaded: qcc.Module, artifact: Path) -> None:
    assert loaded.precisions == NAMES
    assert loaded.precision == "fp16"
    x = INPUT.numpy()
    np.testing.assert_array_equal(loaded(x), loaded.at_precision("fp16")(x))
    by_name = qcc.load(artifact, precision=FP8)
    assert by_name.precision == FP8
    np.testing.assert_array_equal(by_name(x), loaded.at_precision(FP8)(x))
    assert by_name.at_precision("fp16").precision == "fp16"


def parameters(module: qcc.Module) -> dict[str, int]:
    """Where in memory the code finds each stored tensor."""
    running = module._running
    arrays = running._object._parameters
    addresses = [array.ctypes.data for array in arrays]
    return dict(zip(running.code.parts, addresses, strict=True))


def test_precisions_run_over_the_same_bytes(loaded: qcc.Module) -> None:
    whole, view = (parameters(loaded.at_precision(name)) for name in NAMES)
    assert whole.keys() - view.keys() == {"0.weight/lower", "4.weight/lower"}
    assert view == {name: whole[name] for name in view}
    assert loaded.at_precision(FP8) is loaded.at_precision(FP8)
    assert loaded.at_precision(FP8).at_precision("fp16") is loaded


def test_golden_outputs_tell_the_precisions_apart(artifact: Path, loaded: qcc.Module) -> None:
    with Artifact.open(artifact) as opened:
        members = [each.outputs for each in opened.manifest.precisions]
        whole, view = (unpack_tensors(opened.read(member or ""))["0"] for member in members)
    assert np.abs(whole - view).max() > 1e-3 * np.abs(whole).max()
    for name in NAMES:
        result = loaded.at_precision(name).verify()
        assert result["passed"], result
        assert [output["precision"] for output in result["outputs"]] == [name]
    told = [output["precision"] for output in loaded.report["golden"]["outputs"]]
    assert tuple(told) == NAMES


def test_the_report_has_the_cost_of_a_view(loaded: qcc.Module, artifact: Path) -> None:
    costs = {layer["name"]: layer["view_sqnr_db"] for layer in loaded.report["layers"]}
    weight = model().get_parameter("0.weight").detach().numpy()
    error = weight - qcc.format("nestedfp16").quantize(weight).view(FP8).dequantize()
    power = [float(np.sum(array.astype(np.float64) ** 2)) for array in (weight, error)]
    assert costs["0"] == {FP8: pytest.approx(10 * np.log10(power[0] / power[1]))}
    assert costs["2"] == {}
    assert main(["report", str(artifact)]) == 0
    page = artifact.with_suffix(".html").read_text()
    assert "precisions fp16, fp8_e4m3" in page
    assert f"{FP8} {costs['0'][FP8]:.1f}" in page


def test_an_unknown_precision_names_the_known(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for attempt in (
        lambda: qcc.load(artifact, precision="fp4"),
        lambda: qcc.load(artifact).at_precision("fp4"),
    ):
        with pytest.raises(qcc.QccError, match=r"(?s)precision-unknown.*fp16, fp8_e4m3"):
            attempt()
    np.savez(tmp_path / "x.npz", INPUT.numpy())
    argv = ["run", str(artifact), "--inputs", str(tmp_path / "x.npz"), "--precision", "fp4"]
    assert main(argv) == 3
    assert "it has fp16, fp8_e4m3" in capsys.readouterr().err


def test_an_artifact_of_one_precision_has_no_other() -> None:
    module = qcc.compile(nn.Linear(8, 3).eval(), (torch.randn(2, 8),), golden=False)
    assert module.precisions == ("default",)
    assert module.at_precision("default") is module
    with pytest.raises(qcc.QccError, match="it has default"):
        module.at_precision(FP8)
    told = module.verify()
    assert (told["passed"], told["outputs"], told["golden"]) == (True, [], False)
    assert told["reason"] == "it was compiled without them"


def test_command_line(
    artifact: Path, loaded: qcc.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(given, INPUT.numpy())
    argv = ["run", str(artifact), "--inputs", str(given), "--outputs", str(out)]
    for name in NAMES:
        assert main([*argv, "--precision", name]) == 0
        (found,) = np.load(out).values()
        np.testing.assert_array_equal(found, loaded.at_precision(name)(INPUT.numpy()))
    assert main(["bench", str(artifact), "-n", "1", "--precision", FP8]) == 0
    assert f"{FP8}: n=1 " in capsys.readouterr().out


def test_verify_checks_every_precision_or_one(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv, names in (([], NAMES), (["--precision", FP8], (FP8,))):
        assert main(["verify", str(artifact), "--json", *argv]) == 0
        told = json.loads(capsys.readouterr().out)
        assert tuple(output["precision"] for output in told["outputs"]) == names
        assert told["passed"]
        assert told["golden"]


def test_inspect_shows_what_each_precision_reads(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(artifact), "--json"]) == 0
    whole, view = json.loads(capsys.readouterr().out)["precisions"]
    assert (whole["name"], view["name"]) == NAMES
    # In panels, 37 values of a row are 40 with their padding; 8 rows are too few for panels.
    assert whole["weight_bytes"] - view["weight_bytes"] == 40 * 64 + 41 * 8
    assert main(["inspect", str(artifact)]) == 0
    assert "fp8_e4m3  6 " in capsys.readouterr().out


def test_two_compilations_are_identical(artifact: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.qcc"
    qcc.compile(model(), (INPUT,), recipe=RECIPE).save(again)
    assert again.read_bytes() == artifact.read_bytes()


@pytest.mark.parametrize(
    "member", ["kernels/cpu.fp8_e4m3.o", "kernels/cpu.fp8_e4m3.json", f"golden/outputs.{FP8}"]
)
def test_damage_to_a_view_is_found(artifact: Path, tmp_path: Path, member: str) -> None:
    with Artifact.open(artifact) as opened:
        name = next(name for name in opened.names() if name.startswith(member))
        middle = (opened._member(name).data + opened._member(name).end) // 2
    data = bytearray(artifact.read_bytes())
    data[middle] ^= 1
    damaged = tmp_path / "damaged.qcc"
    damaged.write_bytes(data)
    with pytest.raises(qcc.QccError, match="SHA-256"):
        qcc.load(damaged, precision=FP8)


def test_another_processor_gets_its_own_code_for_a_view(
    artifact: Path, loaded: qcc.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcc.compiler.backends.missing_features", lambda _: ["invented"])
    rebuilt = qcc.load(artifact, precision=FP8)
    x = INPUT.numpy()
    np.testing.assert_array_equal(rebuilt(x), loaded.at_precision(FP8)(x))
    assert "0.weight/lower" not in parameters(rebuilt)


def test_a_recipe_may_store_the_view_alone(loaded: qcc.Module) -> None:
    recipe = {"default": {"weights": f"nestedfp16<view={FP8}>", "fallback": "fp16"}}
    alone = qcc.compile(model(), (INPUT,), recipe=recipe)
    assert alone.precisions == ("default",)
    names = alone._artifact.tensor_names()
    assert "0.weight/upper" in names
    assert "0.weight/lower" not in names
    x = INPUT.numpy()
    np.testing.assert_array_equal(alone(x), loaded.at_precision(FP8)(x))


@pytest.fixture(scope="module")
def decoder() -> qcc.Module:
    sample = FAMILIES["llama"]()
    recipe = {"default": {"weights": "nestedfp16", "embeddings": "nestedfp16"}}
    return qcc.compile(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes, recipe=recipe
    )


@pytest.mark.parametrize("name", NAMES)
def test_generation_in_each_precision(decoder: qcc.Module, name: str) -> None:
    module = decoder.at_precision(name)
    tokens = np.random.default_rng(1).integers(0, 60, (2, 5))
    produced = module.generate(tokens, 4)
    whole = tokens
    for _ in range(4):
        whole = np.concatenate([whole, module(whole)[:, -1:].argmax(-1)], 1)
    np.testing.assert_array_equal(produced, whole[:, 5:])
    assert module.verify()["passed"]


def test_a_sequence_may_change_its_precision(decoder: qcc.Module) -> None:
    """The KV cache that one precision filled serves the other."""
    runnings: list[RunningCode] = [decoder.at_precision(name)._running for name in NAMES]
    tokens = np.random.default_rng(2).integers(0, 60, (1, 6))
    caches = KeyValueCaches(runnings[0].code, 1)
    runnings[0].step(tokens[:, :5], caches)
    mixed = runnings[1].step(tokens[:, 5:], caches)[0][:, -1]
    pure = [running.call([tokens])[0][:, -1] for running in runnings]
    differences = [float(np.abs(mixed - each).max()) for each in pure]
    scale = float(np.abs(pure[0]).max())
    assert all(1e-6 * scale < difference < 0.1 * scale for difference in differences)
