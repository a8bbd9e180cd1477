"""Each compilation runs the lowered program beside torch, which sees faults of lowering."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qcc
from qcc.compiler import lowering_check
from qcc.compiler.tensor_layout import unpack_tensors
from qcc.dialects.bindings import Operation
from qcc.dialects.errors import AccuracyError
from qcc.dialects.regions import walk
from qcc.passes.lower_torch import lower_torch
from qcc.passes.registry import PASSES


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x))) * 0.5


def lowered_wrongly(module: Operation, _: Any = None) -> None:
    """relu that keeps what is below zero and drops what is above."""
    lower_torch(module)
    for op in (child.operation for child in walk(module)):
        if op.name == "arith.select":
            op.operands[1], op.operands[2] = op.operands[2], op.operands[1]


def test_a_fault_of_lowering_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASSES, "lower-torch", lowered_wrongly)
    x = torch.randn(3, 8)
    with pytest.raises(AccuracyError) as refused:
        qcc.compile(Net(), (x,), recipe="int8")
    told = str(refused.value)
    assert refused.value.code == "lowering-mismatch"
    assert "torch" in told
    assert "--no-golden" in told
    qcc.compile(Net(), (x,), recipe="int8", golden=False)


def test_a_jump_at_one_draw_is_not_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first draw stands at an edge, another one tells."""
    draws = iter([1.0, 0.0])
    real = lowering_check._errors

    def errors(*given: Any) -> list[dict[str, Any]]:
        off = next(draws, 0.0)
        return [{**each, "max_rel_error": each["max_rel_error"] + off} for each in real(*given)]

    monkeypatch.setattr(lowering_check, "_errors", errors)
    qcc.compile(Net(), (torch.randn(3, 8),))
    assert next(draws, None) is None


class Remainders(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a % b


def test_what_torch_refuses_to_run_is_not_compared() -> None:
    a, b = torch.tensor([7, 8]), torch.tensor([2, 3])
    assert torch.equal(qcc.compile(Remainders(), (a, b))(a, b), a % b)


class Pixels(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.float() / 255


def test_golden_bytes_are_all_bytes() -> None:
    image = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
    module = qcc.compile(Pixels(), (image,))
    stored = unpack_tensors(module._artifact.read("golden/inputs.safetensors"))
    assert stored["0"].max() > 200
