"""Users may say how exactly layers meet fp32 x; docs/benchmarks.md says what the choice means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qcc
from qcc.compiler.artifact import Artifact
from qcc.dialects.errors import UsageError
from qcc.dialects.formats import parse_spelling

N, K = 16, 1024
RECIPE = {"default": {"weights": "amxfp4"}}


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(K, N, bias=False).eval()


@pytest.mark.parametrize(("x_bytes", "least", "most"), [(None, 3e-6, 6e-5), (3, 0, 1e-6)])
def test_the_choice_is_in_the_artifact_and_in_its_results(
    tmp_path: Path, x_bytes: int | None, least: float, most: float
) -> None:
    x = torch.randn(1, K, generator=torch.Generator().manual_seed(1))
    module = qcc.compile(layer(), (x,), recipe=RECIPE, x_bytes=x_bytes)
    module.save(tmp_path / "layer.qcc")
    with Artifact.open(tmp_path / "layer.qcc") as artifact:
        text = artifact.read("model.mlir").decode()
    assert ("x_bytes = 3 : i64" in text) == (x_bytes == 3)
    fmt = parse_spelling("amxfp4")
    weight = fmt.decode_rows(fmt.encode_rows(layer().weight.detach().numpy()), K)
    exact = x.numpy().astype(np.float64) @ weight.astype(np.float64).T
    error = np.linalg.norm(module(x.numpy()) - exact) / np.linalg.norm(exact)
    assert least <= error <= most


def test_other_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="x_bytes is 4") as refused:
        qcc.compile(layer(), (torch.zeros(1, K),), recipe=RECIPE, x_bytes=4)
    assert refused.value.code == "option-value"
    with pytest.raises(UsageError, match="takes no x_bytes") as refused:
        qcc.compile(layer(), (torch.zeros(1, K),), recipe=RECIPE, target="upmem", x_bytes=3)
    assert refused.value.code == "option-target"
