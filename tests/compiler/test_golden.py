"""Golden inputs are such that no rounding hangs on the order of a sum: a replay can be strict."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import qcc
from qcc.codegen.cpu.features import missing_features
from qcc.codegen.cpu.runtime import MOST_THREADS
from qcc.compiler import backends
from qcc.compiler.artifact import Artifact
from qcc.compiler.cli import main
from qcc.compiler.replay import TOLERANCE, output_errors
from qcc.compiler.running import RunningCode, default_threads
from qcc.compiler.tensor_layout import unpack_tensors
from qcc.dialects.errors import AccuracyError, ResourceError
from qcc.models import FAMILIES


@pytest.mark.parametrize("family", ["gpt2", "mlp"])
@pytest.mark.parametrize("fmt", ["int8", "mxfp4"])
def test_rounded_activations_are_verified_as_strictly_as_plain_ones(family: str, fmt: str) -> None:
    sample = FAMILIES[family]()
    recipe = {"default": {"weights": fmt, "activations": fmt, "kv": fmt}}
    module = qcc.compile(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes, recipe=recipe
    )
    outputs = module.verify()["outputs"]
    assert {output["tolerance"] for output in outputs} == {TOLERANCE}
    assert max(output["max_rel_error"] for output in outputs) < 1e-5


class Threshold(torch.nn.Module):
    """What it rounds is 0.5, halfway between two integers, and the errors of two sums."""

    def __init__(self) -> None:
        super().__init__()
        self.order = torch.randperm(32)
        self.first = torch.nn.Linear(32, 32, bias=False)
        self.second = torch.nn.Linear(32, 32, bias=False)
        self.second.weight.data = self.first.weight.data[:, self.order]
        self.last = torch.nn.Linear(32, 32, bias=False)
        self.last.weight.data = torch.eye(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        errors = self.first(x) - self.second(x[:, self.order])
        return self.last(torch.cat([errors[:, :1] * 0 + 7, errors[:, 1:] * 1000 + 0.5], -1))


def test_a_model_that_no_inputs_make_steady_gets_the_tolerance_it_needs() -> None:
    torch.manual_seed(0)
    rule = {"match": "last", "activations": {"format": "int4", "group": "channel"}}
    module = qcc.compile(Threshold(), (torch.randn(3, 32),), recipe={"rule": [rule]})
    (output,) = module.verify()["outputs"]
    assert 0 < output["max_rel_error"] < output["tolerance"]
    assert 0.1 < output["tolerance"] < 1
    assert output["passed"]


class Roots(Threshold):
    """Square roots of errors of sums: which of them are NaN hangs on the order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(self.first(x) - self.second(x[:, self.order])) + self.last(x)


def test_outputs_that_no_replay_can_be_compared_with_are_not_stored() -> None:
    torch.manual_seed(0)
    recipe = {"rule": [{"match": "last", "activations": "int8"}]}
    module = qcc.compile(Roots(), (torch.randn(3, 32),), recipe=recipe)
    told = module.verify()
    assert (told["passed"], told["outputs"], told["golden"]) == (True, [], False)
    assert "into NaN" in told["reason"]
    assert "inputs of your own" in told["next_step"]


class Coarse(Threshold):
    """Nothing is left but the rounding of values that are errors of sums and halves of steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rounded = super().forward(x)
        return rounded[:, 1:] - rounded[:, 1:].mean()


def test_a_tolerance_that_all_would_pass_is_no_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    rule = {"match": "last", "activations": {"format": "int4", "group": "channel"}}
    module = qcc.compile(Coarse(), (torch.randn(3, 32),), recipe={"rule": [rule]})
    told = module.verify()
    assert (told["passed"], told["outputs"], told["golden"]) == (True, [], False)
    assert "of their largest value" in told["reason"]
    assert module.report["golden"]["unchecked"][0]["reason"] == told["reason"]
    module.save(tmp_path / "coarse.qcc")
    assert main(["verify", str(tmp_path / "coarse.qcc")]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"PASS {tmp_path / 'coarse.qcc'}: hashes only\n"
    assert "compare it with the original on inputs of your own" in shown.err


@pytest.mark.parametrize("other", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_on_one_side_is_an_infinite_error(other: float) -> None:
    right, wrong = np.array([1.0, 2.0]), np.array([1.0, other])
    for pair in ((right, wrong), (wrong, right)):
        (error,) = output_errors(["y"], pair[:1], pair[1:])
        assert error["max_abs_error"] == error["max_rel_error"] == np.inf
    (error,) = output_errors(["y"], [wrong], [wrong])
    assert error["max_rel_error"] == 0


def test_a_users_format_is_known_where_the_code_is_compiled_again(tmp_path: Path) -> None:
    (tmp_path / "mine.fmt").write_text(
        'format mine { title "t"; element table values=[-3, -1, 1, 3];'
        " block size=16; scale scale type=fp32 rule=absmax; }"
    )
    path = tmp_path / "m.qcc"
    recipe = {"default": {"weights": str(tmp_path / "mine.fmt")}}
    qcc.compile(torch.nn.Linear(32, 8), (torch.randn(2, 32),), recipe=recipe).save(path)
    program = (
        "import qcc, sys, qcc.compiler.backends as m\n"
        "m.missing_features = lambda needed: ['invented']\n"
        "print(qcc.load(sys.argv[1]).verify()['passed'])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "True\n"
    assert "compiled for a processor with invented, which this one lacks" in told.stderr


def test_the_command_line_says_that_code_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.qcc"
    qcc.compile(torch.nn.Linear(8, 8), (torch.randn(2, 8),)).save(path)
    monkeypatch.setattr(backends, "missing_features", lambda _: ("invented",))
    assert main(["verify", str(path)]) == 0
    told = capsys.readouterr().err
    assert "warning: " in told
    assert "compiled again" in told


def test_instructions_that_no_code_uses_are_not_missed() -> None:
    assert missing_features(("sgx", "wbnoinvd", "amx-tile", "invented")) == ("invented",)


def test_more_processors_than_kernels_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(384)))
    assert default_threads() == MOST_THREADS
    path, x = tmp_path / "m.qcc", torch.randn(2, 8)
    qcc.compile(torch.nn.Linear(8, 8), (x,)).save(path)
    with pytest.raises(ResourceError, match="at most 256 threads, not 300"):
        qcc.load(path, threads=300)(x)


def test_wrong_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: results that are off by a hundredth."""
    right = RunningCode.call
    monkeypatch.setattr(
        RunningCode, "call", lambda self, inputs: [each * 1.01 for each in right(self, inputs)]
    )
    layer, x = torch.nn.Linear(8, 8), (torch.randn(2, 8),)
    with pytest.raises(AccuracyError, match="does not compute") as refused:
        qcc.compile(layer, x)
    assert "off from the reference interpreter" in refused.value.why
    assert qcc.compile(layer, x, golden=False)(x[0]).shape == (2, 8)


class Masked(torch.nn.Module):
    """Attention to the keys that a mask says, or, where it `hides`, to the others."""

    def __init__(self, hides: bool) -> None:
        super().__init__()
        self.hides, self.last = hides, torch.nn.Linear(32, 8)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = ~mask if self.hides else mask
        scores = (x @ x.transpose(-2, -1)).masked_fill(~kept[:, None], -torch.inf)
        return self.last(scores.softmax(-1) @ x)


@pytest.mark.parametrize("hides", [False, True])
def test_masks_leave_something_to_check(tmp_path: Path, hides: bool) -> None:
    example = (torch.randn(2, 5, 32), torch.zeros(2, 5, dtype=torch.bool))
    module = qcc.compile(Masked(hides), example, recipe="w8a8")
    module.save(tmp_path / "masked.qcc")
    with Artifact.open(tmp_path / "masked.qcc") as artifact:
        outputs = unpack_tensors(artifact.read("golden/outputs.safetensors"))
    assert np.isfinite(outputs["0"]).all()


class Logarithm(torch.nn.Module):
    """Of the sum of a row and a number: not one of them is finite where that is very negative."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset, self.last = offset, torch.nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.log(x + self.offset))


@pytest.mark.parametrize("recipe", ["w8a16", "w8a8"])
def test_logarithms_are_drawn_positive_numbers(recipe: str) -> None:
    module = qcc.compile(Logarithm(0.0), (torch.ones(3, 32),), recipe=recipe)
    (output,) = module.verify()["outputs"]
    assert output["max_rel_error"] < output["tolerance"] < 0.1
    values = np.abs(np.random.default_rng(0).standard_normal((3, 32))).astype(np.float32)
    assert np.isfinite(module(values)).all()


def test_outputs_without_a_finite_number_check_nothing() -> None:
    told = qcc.compile(Logarithm(-99.0), (torch.ones(3, 32),)).verify()
    assert (told["outputs"], told["golden"]) == ([], False)
    assert "no finite number" in told["reason"]


class Unbounded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(32, 32), torch.nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.last(torch.cat([y[:1] / 0.0 - y[:1] / 0.0, y[1:]]))


@pytest.mark.parametrize("fmt", ["int8", "mxfp4", "nvfp4"])
def test_rounding_keeps_what_is_no_number(fmt: str) -> None:
    recipe = {"default": {"weights": "int8", "activations": fmt}}
    module = qcc.compile(Unbounded(), (torch.randn(3, 32),), recipe=recipe)
    x = np.ones((3, 32), np.float32)
    assert np.isnan(module(x)).any(axis=1).tolist() == [True, False, False]
    assert all(output["passed"] for output in module.verify()["outputs"])
