"""Whole models: layers on emulated DPUs, the rest in machine code; stored, run, refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import qcc
from qcc.codegen.upmem.execute import Emulated
from qcc.codegen.upmem.faults import DpuFault
from qcc.codegen.upmem.toolchain import VENDOR, candidates
from qcc.compiler.cli import main
from qcc.compiler.targets import TARGETS, require_target
from qcc.compiler.upmem.device import chosen_device
from qcc.dialects.errors import QccError, ResourceError, UnsupportedError, UsageError
from tests.compiler.upmem_decoder import Decoder

K, HIDDEN, N = 40, 24, 10
SMALL: dict[str, Any] = {"dpus": 4, "tokens": 8}


class Layers(nn.Module):
    """Two linear layers with a norm between, which stays on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Linear(K, HIDDEN), nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, N, bias=False),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x))))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Layers().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ({0: Dim("time", min=2, max=40)},)
    program = torch.export.export(model, (torch.randn(5, K),), dynamic_shapes=sizes)
    out = tmp_path_factory.mktemp("model") / "layers.pt2"
    torch.export.save(program, out)
    return out


@pytest.fixture(scope="module")
def path(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command line makes."""
    out = tmp_path_factory.mktemp("artifact") / "layers.qcc"
    argv = ["compile", str(exported), "--target", "upmem", "--recipe", "w4a4", "-o", str(out)]
    assert main([*argv, "--dpus", "4", "--tokens", "8"]) == 0
    return out


def test_sums_of_dpus_are_those_of_the_interpreter_in_every_bit(path: Path) -> None:
    module = qcc.load(path)
    result = module.verify()
    assert result["golden"]
    assert result["passed"]
    whole, alone = result["outputs"]
    assert alone["name"].endswith("(DPUs alone)")
    assert alone["max_abs_error"] == alone["tolerance"] == 0
    assert whole["max_rel_error"] < 1e-5


@pytest.mark.parametrize("time", [2, 8, 19])
def test_any_number_of_rows(path: Path, model: nn.Module, time: int) -> None:
    x = torch.randn(time, K)
    y = qcc.load(path)(x)
    assert y.shape == (time, N)
    assert (y - model(x)).norm() < 0.5 * model(x).norm()


def test_changed_weights_change_results(path: Path, model: nn.Module) -> None:
    """The DPUs are given the stored weights: other ones give other results."""
    torch.manual_seed(1)
    x = torch.randn(3, K)
    other = qcc.compile(
        Layers().eval().requires_grad_(False), (x,), recipe="w4a4", target="upmem", golden=False,
        **SMALL,
    )  # fmt: skip
    assert not torch.allclose(other(x), qcc.load(path)(x), atol=1e-2)


@pytest.mark.skipif(not candidates(), reason="needs clang for RV32, from PATH or qcc[pim-emu]")
def test_timed_emulator_gives_the_same(path: Path, exported: Path, tmp_path: Path) -> None:
    made = qcc.compile(exported, recipe="w4a4", target="upmem:rv32", golden=False, **SMALL)
    x = np.random.default_rng(0).standard_normal((3, K), np.float32)
    assert made.run([x])[0].tobytes() == qcc.load(path).run([x])[0].tobytes()


def test_members(path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        plan = json.loads(archive.read("kernels/upmem.json"))
        for name in plan["sources"]:
            (tmp_path / name).write_bytes(archive.read(f"kernels/upmem/{name}"))
    told = {"host.json", "host.o", "model.c", "model.h", "pim_0.c", "qcc_dpu.h", "qcc_host.h"}
    assert {f"kernels/upmem/{name}" for name in told} <= set(names)
    assert [layer["name"] for layer in plan["layers"]] == ["first", "last"]
    assert {layer["kernel"] for layer in plan["layers"]} == {"pim_0", "pim_1"}
    for layer in plan["layers"]:
        once = {move["array"]: move["once"] for move in layer["moves"]}
        assert once["weights"]
        assert not once["results"]
        assert all(move["length"] % 8 == 0 == move["offset"] % 8 for move in layer["moves"])
    headers = Path(sys.modules["qcc.codegen.upmem.sources"].__file__ or "").parent / "host"
    gcc = [shutil.which("gcc") or "gcc", "-fsyntax-only", "-Wall", "-Werror"]
    subprocess.run([*gcc, f"-I{headers}", f"-I{tmp_path}", tmp_path / "model.c"], check=True)


def test_report_says_what_runs_where(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = qcc.load(path).report["upmem"]
    assert report["dpus"] <= 4
    assert [row["layer"] for row in report["layers"]] == ["first", "last"]
    for row in report["layers"]:
        assert row["kernel_ms"] > 0
        assert row["dma_bytes"] > 0
        assert row["joules"] > 0
    total = sum(
        row[each]
        for row in report["layers"]
        for each in ("kernel_ms", "launch_ms", "to_dpu_ms", "from_dpu_ms")
    )
    assert report["milliseconds"] == pytest.approx(total)
    assert [each["op"] for each in report["host"]] == ["qcc.layer_norm"]
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "DPUs v1A, run by the emulator native" in text
    assert "launch ms" in text
    assert "no products: it would only move its input" in text
    assert main(["report", str(path), "-o", str(tmp_path / "r.html")]) == 0
    assert "Layers on up to" in (tmp_path / "r.html").read_text()
    assert main(["verify", str(path)]) == 0


def test_same_input_same_bytes(path: Path, exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.qcc"
    argv = ["compile", str(exported), "--target", "upmem", "--recipe", "w4a4", "-o", str(again)]
    assert main([*argv, "--dpus", "4", "--tokens", "8"]) == 0
    assert again.read_bytes() == path.read_bytes()


def test_validate(exported: Path, tmp_path: Path) -> None:
    made = qcc.compile(
        exported, recipe="w2a4", target="upmem", golden=False, validate=True, **SMALL
    )
    rows = {row["pass"]: row for row in made.report["validation"]}
    assert rows["partition-pim"]["max_rel_error"] < 1e-5


def test_profile_of_ones_own(exported: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('base = "v1B"\nranks = 1\ndpus_per_rank = 2\nclock_mhz = 200.0\n')
    made = qcc.compile(
        exported, recipe="w4a4", target="upmem", device=str(profile), tokens=8, golden=False
    )
    report = made.report["upmem"]
    assert report["device"] == "mine"
    assert report["dpus"] <= 2
    x = np.ones((2, K), np.float32)
    again = tmp_path / "mine.qcc"
    made.save(again)
    profile.unlink()
    assert np.array_equal(qcc.load(again).run([x])[0], made.run([x])[0])


def test_a_decoder_goes_on_token_by_token() -> None:
    torch.manual_seed(0)
    sizes = ({0: Dim("batch", max=4), 1: Dim("length", min=2, max=32)},)
    model = Decoder().eval().requires_grad_(False), (torch.zeros(2, 5, dtype=torch.int64),)
    options = SMALL | {"recipe": "w4a4", "target": "upmem", "dynamic_shapes": sizes}
    made = qcc.compile(*model, **options)
    result = made.verify()
    assert result["passed"]
    errors = {row["name"].partition(" ")[2]: row["max_rel_error"] for row in result["outputs"]}
    assert errors.keys() == {"", "(DPUs alone)", "(token by token)"}
    assert errors["(DPUs alone)"] == 0
    report = made.report["upmem"]
    of_tokens = {(row["kernel"], row["for_tokens"]) for row in report["layers"]}
    assert of_tokens == {("pim_0", 8), ("pim_1", 1)}, "kernels are shared, those of steps apart"
    assert 0 < report["step_milliseconds"] < report["milliseconds"]
    assert [each["op"] for each in report["host"]] == ["table", "attention.0"]
    grown = np.array([[1, 2, 3], [4, 5, 6]])
    new = made.generate(grown, 4)
    for _ in range(4):
        grown = np.concatenate([grown, made.run([grown])[0][:, -1].argmax(-1)[:, None]], 1)
    assert np.array_equal(new, grown[:, 3:])
    if candidates():  # DPUs that keep their MRAM: both kernels of a layer have their weights there
        options["target"] = "upmem:rv32"
        timed = qcc.compile(*model, **options, golden=False)
        assert np.array_equal(timed.generate(grown[:, :3], 4), new)
    plan = made._running.code.plan
    small = replace(
        plan, device=replace(plan.device, mram=max(plan.offsets.values()))
    ).where_it_fits()
    assert [each.name for each in small.layers] == ["q", "k", "v", "head"], "steps share kernels"


def test_programs_of_the_vendors_compiler_are_stored(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / VENDOR
    compiler.write_text('#!/bin/sh\nfor last; do :; done\ncp "$last" "${last%/*}/program"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    made = qcc.compile(exported, **SMALL, recipe="w4a4", target="upmem", golden=False)
    made.save(tmp_path / "model.qcc")
    with zipfile.ZipFile(tmp_path / "model.qcc") as artifact:
        for name in ("pim_0", "pim_1"):
            program, source = (artifact.read(f"kernels/upmem/{name}.{e}") for e in ("dpu", "c"))
            assert program == source
    assert len(qcc.load(tmp_path / "model.qcc").run([np.ones((3, K), np.float32)])) == 1


def test_a_fault_on_dpus_reaches_the_caller(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code calls Python back; what Python raises is raised, and the next call works."""
    module, x = qcc.load(path), np.ones((3, K), np.float32)
    expected = module.run([x])[0]

    def stopped(*_: object) -> None:
        raise DpuFault(2, "pim_0", 1, "main", "division by zero")

    with monkeypatch.context() as patch:
        patch.setattr(Emulated, "__call__", stopped)
        with pytest.raises(DpuFault, match="division by zero"):
            module.run([x])
    assert np.array_equal(module.run([x])[0], expected)


@pytest.mark.parametrize(
    ("options", "error", "code", "told"),
    [
        ({"recipe": "w8a16"}, UnsupportedError, "upmem-nothing", "first: its activations"),
        ({"device": "v9"}, UsageError, "pim-device-unknown", "v1A or v1B"),
        ({"dpus": 100}, UsageError, "pim-dpus", "--dpus 128"),
        ({"dpus": 5000}, UsageError, "pim-dpus", "--dpus 2048"),
        ({"device": "absent.toml"}, UsageError, "pim-profile-unreadable", "absent.toml"),
    ],
)
def test_refusals(
    exported: Path, options: dict[str, Any], error: type[QccError], code: str, told: str
) -> None:
    given: dict[str, Any] = {"recipe": "w4a4", "target": "upmem", "golden": False} | options
    with pytest.raises(error) as caught:
        qcc.compile(exported, **given)
    assert caught.value.code == code
    assert told in str(caught.value)


def test_nothing_to_place() -> None:
    with pytest.raises(UnsupportedError, match="it has no linear layers") as told:
        qcc.compile(nn.ReLU(), (torch.zeros(2, 3),), target="upmem")
    assert told.value.next_step == "compile for another target, as cpu"


def test_layer_that_fits_nowhere(exported: Path, tmp_path: Path) -> None:
    profile = tmp_path / "tiny.toml"
    profile.write_text("ranks = 1\ndpus_per_rank = 1\nmram = 256\n")
    with pytest.raises(ResourceError) as caught:
        qcc.compile(
            exported, recipe="w4a4", target="upmem", device=str(profile), tokens=8, golden=False
        )
    text = str(caught.value)
    assert "first" in text
    assert "exceed the 256 there are" in text
    assert "fits a profile with mram = " in text


def test_targets_and_devices() -> None:
    assert require_target("upmem").machine == "native"
    assert require_target("upmem:rv32").machine == "rv32"
    assert {"upmem", "upmem:rv32"} <= TARGETS.keys()
    assert chosen_device("v1A", None).dpus == 2048
    assert chosen_device("v1B", 128).dpus == 128
    assert chosen_device("v1A", 3).spelling == "v1A<ranks=1,dpus_per_rank=3>"
    with pytest.raises(UnsupportedError, match="target-unknown"):
        require_target("upmem:v1A")
