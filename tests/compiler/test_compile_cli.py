"""The command line from an exported program to a report, in process."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from qcc.compiler.cli import main
from qcc.models import FAMILIES
from qcc.passes.registry import IMPORT_PIPELINE


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = FAMILIES["mlp"]()
    path = tmp_path_factory.mktemp("programs") / "mlp.pt2"
    exported = torch.export.export(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes
    )
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def artifact(program: Path) -> Path:
    out = program.with_suffix(".qcc")
    assert main(["compile", str(program), "--format", "int8", "-o", str(out)]) == 0
    return out


def test_compile_verify_run_report_inspect(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(artifact)]) == 0
    assert f"PASS {artifact}" in capsys.readouterr().out
    sample = FAMILIES["mlp"]()
    x = sample.inputs[0].numpy()
    given, out = tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(given, x)
    assert main(["run", str(artifact), "--inputs", str(given), "--outputs", str(out)]) == 0
    (found,) = np.load(out).values()
    with torch.no_grad():
        expected = sample.module(*sample.inputs).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert main(["report", str(artifact), "-o", str(tmp_path / "r.html")]) == 0
    assert "int8" in (tmp_path / "r.html").read_text()
    capsys.readouterr()
    assert main(["inspect", str(artifact), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {"kernels/cpu.o", "model.mlir"} <= {member["name"] for member in shown["members"]}
    assert any("int8" in (tensor["format"] or "") for tensor in shown["tensors"])


def test_a_damaged_artifact_does_not_verify(artifact: Path, tmp_path: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "d.qcc"
    damaged.write_bytes(data)
    assert main(["verify", str(damaged)]) == 7


@pytest.mark.parametrize(
    ("stage", "present", "absent"),
    [("raise", "qcc.linear", "qcc.packed"), ("assign", "qcc.packed", "torch.aten")],
)
def test_stop_after(program: Path, tmp_path: Path, stage: str, present: str, absent: str) -> None:
    out = tmp_path / "m.mlir"
    argv = ["compile", str(program), "--format", "int4", "--stop-after", stage, "-o", str(out)]
    assert main(argv) == 0
    text = out.read_text()
    assert present in text
    assert absent not in text
    assert main(["opt", str(out), "--pipeline", "canonicalize", "-o", f"{out}.2"]) == 0


def test_stop_after_an_unknown_stage(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.mlir"
    assert main(["compile", str(program), "--stop-after", "lunch", "-o", str(out)]) == 2
    assert "stage-unknown" in capsys.readouterr().err
    assert not out.exists()


def test_ir_after_every_pass(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ir"
    argv = ["compile", str(program), "--format", "int4", "--stop-after", "assign"]
    out = ["-o", str(tmp_path / "m.mlir")]
    assert main([*argv, *out, "--print-ir-after-all", str(folder)]) == 0
    of_cpu = ("assign-x-bytes", "permute-weights")
    passes = [*IMPORT_PIPELINE, "assign-formats", "pack-kv-cache", *of_cpu]
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{index:02}-{name}.mlir" for index, name in enumerate(passes)]
    texts = {name: (folder / f"{i:02}-{name}.mlir").read_text() for i, name in enumerate(passes)}
    assert "torch.aten" in texts["raise-torch"]
    assert "torch.aten" not in texts["lower-torch"]
    assert "layer = " not in texts["lower-torch"]
    assert "layer = " in texts["name-layers"]
    assert "qcc.packed" in texts["assign-formats"]


def test_a_folder_for_ir_that_cannot_be(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    argv = ["compile", str(program), "--stop-after", "raise", "-o", str(tmp_path / "m.mlir")]
    assert main([*argv, "--print-ir-after-all", str(tmp_path / "file")]) == 2
    assert main([*argv, "--print-ir-after-all", str(tmp_path / "file" / "below")]) == 2
    assert capsys.readouterr().err.count("output-not-writable") == 2


def test_without_golden_outputs_verify_says_so(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "m.qcc")
    assert main(["compile", str(program), "--no-golden", "-o", out]) == 0
    assert main(["verify", out]) == 0
    assert "only hashes were checked" in capsys.readouterr().err


def test_a_failing_compilation_leaves_no_file(program: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.qcc"
    argv = ["compile", str(program), "-o", str(out)]
    assert main([*argv, "--require-coverage", "1.0"]) != 0
    assert main([*argv, "--recipe", "no-such"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "not a module",
        '%x = "qcc.linear"() : () -> tensor<2xf32>',
        """func.func @main(%x: tensor<2x4xf32>, %w: tensor<3x4xf32>) {
          %y = "qcc.linear"(%x, %w) : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
          return
        }""",
    ],
)
def test_opt_refuses_what_is_no_module(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.mlir"
    file.write_text(text)
    assert main(["opt", str(file)]) == 2
    told = capsys.readouterr().err
    assert "ir-invalid" in told
    assert str(file) in told


@pytest.mark.parametrize(("given", "code"), [("no-such-pass", "pass-failed"), ("", "usage")])
def test_opt_refuses_an_unknown_pass(
    given: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.mlir"
    file.write_text("func.func @main() { return }")
    assert main(["opt", str(file), "--pipeline", given]) == 2
    assert code in capsys.readouterr().err


def test_nan_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Linear(4, 3)
    with torch.no_grad():
        model.weight[1, 2] = math.nan
    given, out = tmp_path / "m.pt2", tmp_path / "m.qcc"
    torch.export.save(torch.export.export(model, (torch.ones(1, 4),)), given)
    argv = ["compile", str(given), "-o", str(out)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(argv) == 0
    warning = "the parameter 'weight' holds NaN (1 of 12 values)"
    assert capsys.readouterr().err.count(f"qcc: warning: {warning}\n") == 1
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [warning]
    assert main(["report", str(out)]) == 0
    assert "holds NaN" in out.with_suffix(".html").read_text()
    capsys.readouterr()
    assert main([*argv, "--format", "int8"]) != 0
    assert "parameter 'weight'" in capsys.readouterr().err


def test_timings_add_up(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compile", str(program), "--validate", "-o", str(tmp_path / "m.qcc"), "--json"]
    assert main(argv) == 0
    times = json.loads(capsys.readouterr().out)["timings"]
    assert {"load qcc", "open", "import", "raise", "validate", "build", "other"} <= set(times)
    assert min(times.values()) >= 0
    total = times.pop("total")
    assert sum(times.values()) == pytest.approx(total)
