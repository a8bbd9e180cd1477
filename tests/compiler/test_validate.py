"""Translation validation: what passes, what is caught, what the bundle holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qcc
from qcc.compiler import driver
from qcc.dialects.bindings import Operation, ir
from qcc.dialects.errors import AccuracyError
from qcc.passes.registry import PASSES


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 4)).eval()


def compiled(**options: Any) -> qcc.Module:
    free = ({0: torch.export.Dim("batch", min=1, max=8)},)
    return qcc.compile(
        model(), (torch.randn(3, 32),), dynamic_shapes=free, validate=True, **options
    )


def rows(module: qcc.Module) -> dict[str, dict[str, Any]]:
    return {row["pass"]: row for row in module.report["validation"]}


def test_every_executable_pass_is_compared() -> None:
    found = rows(compiled())
    assert found["lower-torch"]["against"] == "torch"
    assert 0 < found["lower-torch"]["max_rel_error"] < found["lower-torch"]["tolerance"] == 1e-4
    for name in ("name-layers", "assign-formats"):
        assert found[name]["against"] == "before"
        assert found[name]["max_rel_error"] == found[name]["tolerance"] == 0


def test_weights_with_formats_are_compared_as_rounded() -> None:
    found = rows(compiled(recipe={"default": {"weights": "int4"}}))
    assert found["assign-formats"]["against"] == "before"
    assert found["assign-formats"]["max_rel_error"] == 0


def test_rounded_activations_are_only_measured() -> None:
    formats = {"weights": "mxfp8_e4m3", "activations": "mxfp8_e4m3"}
    found = rows(compiled(recipe={"default": formats}))
    assert found["assign-formats"]["against"] == "torch"
    assert found["assign-formats"]["tolerance"] is None
    assert found["assign-formats"]["max_rel_error"] > 1e-3


def test_nothing_is_compared_unasked() -> None:
    assert "validation" not in qcc.compile(model(), (torch.randn(3, 32),)).report


def loosened(name: str) -> Any:
    """The pass `name`, with a fault: it also changes what every layer_norm adds to the variance."""

    def apply(module: Operation, options: object = None) -> None:
        PASSES[name](module, options)
        with module.context:
            for function in module.regions[0].blocks[0].operations:
                for op in function.regions[0].blocks[0].operations:
                    if op.operation.name == "qcc.layer_norm":
                        op.attributes["epsilon"] = ir.FloatAttr.get_f64(0.5)

    return apply


@pytest.mark.parametrize(("name", "against"), [("lower-torch", "torch"), ("name-layers", "before")])
def test_a_wrong_pass_is_named(monkeypatch, tmp_path: Path, name: str, against: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(driver, "PASSES", {**PASSES, name: loosened(name)})
    with pytest.raises(AccuracyError) as caught:
        compiled()
    error = caught.value
    assert error.code == "validation-failed"
    assert error.exit_code == 4
    assert f"pass '{name}' changes output 'output_0'" in error.what
    assert against in error.why
    bundle = Path(error.where)
    assert "epsilon = 5.000000e-01" in (bundle / "after.mlir").read_text()
    assert "epsilon = 5.000000e-01" not in (bundle / "before.mlir").read_text()
    assert json.loads((bundle / "reproducer.json").read_text())["pipeline"] == name
    with np.load(bundle / "values.npz") as values:
        assert set(values) == {"input.0", "expected.0", "result.0"}
        assert not np.array_equal(values["expected.0"], values["result.0"])


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16).bfloat16()

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        return self.inner(x.bfloat16()).float() * scale


def test_half_precision_and_plain_arguments() -> None:
    module = qcc.compile(Half().eval(), (torch.randn(2, 16), 0.5), validate=True)
    (row, *_) = module.report["validation"]
    assert row["max_rel_error"] <= row["tolerance"] == 2**-4
