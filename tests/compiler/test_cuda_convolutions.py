"""Models of convolutions on the emulator: integers of 4 and 8 bits, requantised in between."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from torch import nn

import qcc


class Residual(nn.Module):
    """Three convolutions, a batch norm that stays, and what is added at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.third = nn.Conv2d(32, 16, 1)
        for name, values in (("running_mean", torch.randn(32)), ("running_var", torch.rand(32))):
            self.norm.get_buffer(name).copy_(values + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.norm(self.first(x)))
        return torch.relu(self.third(torch.relu(self.second(inner))) + x)


def compiled(folder: Path, target: str, *, open_batch: bool) -> tuple[qcc.Module, str]:
    """The module, and the emitted kernels of convolutions."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 9, 7)
    module = Residual().eval()
    given: Any = module
    if open_batch:
        batch = {0: torch.export.Dim("batch", min=1, max=64)}
        given = folder / "model.pt2"
        torch.export.save(torch.export.export(module, (x,), dynamic_shapes=(batch,)), given)
    inputs = None if open_batch else (x,)
    found = qcc.compile(given, inputs, recipe="w4a4-static", target=target, calibration=[(x,)])
    found.save(folder / "model.qcc")
    with ZipFile(folder / "model.qcc") as archive:
        return found, archive.read("kernels/cuda/warps.cu").decode()


@pytest.mark.parametrize(
    ("target", "instruction", "open_batch"),
    [
        ("cuda:emulate", "mma_m16n8k64_s4", True),
        ("cuda:emulate:sm_90a", "mma_m16n8k32_s8", False),
    ],
)
def test_layers_hand_codes_on(
    tmp_path: Path, target: str, instruction: str, open_batch: bool
) -> None:
    """Two of three kernels store integers, of which the next one multiplies: nothing between."""
    found, source = compiled(tmp_path, target, open_batch=open_batch)
    assert found.verify()["passed"]
    assert set(re.findall(r"\bmma_\w+", source)) == {instruction}
    kernels = source.split('extern "C"')[1:]
    assert len(kernels) == 3
    stored = ["transposed_bytes" in kernel or "u8* y_pointer" in kernel for kernel in kernels]
    assert sum(stored) == 2
    assert sum("channel3" in kernel for kernel in kernels) == 1
    if open_batch:
        assert found(torch.randn(5, 16, 9, 7)).shape == (5, 16, 9, 7)
