"""Limits keep NaN as torch does."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcc

NAN, INF = float("nan"), float("inf")


class Limits(nn.Module):
    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        return (
            F.relu6(x), F.hardtanh(x, -2, 3), x.clamp(-1, 1), x.clamp(min=0.5), x.clamp(max=0.5),
            x.clamp_min(0), torch.clamp_max(x, 2), torch.clamp(x, other, other + 1),
            torch.fmin(x, other), torch.fmax(x, other[:1]),
            torch.maximum(x, other), torch.minimum(x, other), F.threshold(x, 0.1, 20),
            x.to(torch.int64).clamp(0, 3),
        )  # fmt: skip


def test_limits_as_in_torch() -> None:
    x = torch.tensor([NAN, -3, -0.25, 0, 0.5, 7, INF, -INF, NAN])
    other = torch.tensor([1.0, NAN, 2, -1, 0.25, 8, 3, NAN, NAN])
    found = qcc.compile(Limits(), (x, other), golden=False)(x, other)
    for index, (ours, wanted) in enumerate(zip(found, Limits()(x, other), strict=True)):
        if index < 13:
            torch.testing.assert_close(ours, wanted, rtol=0, atol=0, equal_nan=True)
        else:
            assert torch.equal(ours[1:6], wanted[1:6])
