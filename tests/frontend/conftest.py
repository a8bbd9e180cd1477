"""Small models, saved programs, and tools that rewrite archives for the tests of bad input."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class ConvNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(x)), inplace=True)
        return F.adaptive_avg_pool2d(self.depthwise(y), 1).flatten(1)


class Attention(nn.Module):
    """Grouped-query attention with rotary position embedding from a non-persistent table."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, kv_heads * self.size, bias=False)
        self.v = nn.Linear(width, kv_heads * self.size, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        rates = 1.0 / 10_000 ** (torch.arange(0, self.size, 2) / self.size)
        angles = torch.outer(torch.arange(128), rates)
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1), persistent=False)
        self.register_buffer("sin", torch.cat([angles.sin()] * 2, -1), persistent=False)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, -1)
        turned = torch.cat([-right, left], -1)
        return x * self.cos[: x.shape[2]] + turned * self.sin[: x.shape[2]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, _ = x.shape
        q, k, v = (
            linear(x).view(b, s, heads, self.size).transpose(1, 2)
            for linear, heads in (
                (self.q, self.heads),
                (self.k, self.kv_heads),
                (self.v, self.kv_heads),
            )
        )
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (self.rotate(k), v))
        y = F.scaled_dot_product_attention(self.rotate(q), k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(b, s, -1))


class Block(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.norm_in, self.norm_mid = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, kv_heads)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_in(x))
        y = self.norm_mid(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """A Llama-shaped decoder whose head is tied to its embedding."""

    def __init__(
        self, width: int = 32, hidden: int = 64, layers: int = 2, vocabulary: int = 50
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            Block(width, hidden, width // 8, width // 16) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        return self.lstm(x)


class Mixed(nn.Module):
    """Constants, a mutated buffer, a strided and a shared buffer, keywords, a nested result."""

    count: torch.Tensor
    turned: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.offset = nn.Parameter(torch.randn(8).bfloat16())
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("turned", torch.randn(8, 8).t())
        self.table = torch.arange(8.0)

    def forward(
        self, x: torch.Tensor, *, scale: torch.Tensor | None = None, power: int = 2
    ) -> dict[str, Any]:
        self.count.add_(1)
        y = self.linear(x @ self.turned) * self.table + torch.tensor([1.0, 2.0] * 4)
        y = y + self.offset.float() ** power
        parts = y.split([3, 5], -1)
        if scale is not None:
            y = y * scale
        return {"y": y.view(-1), "parts": (parts[1], [parts[0].sum(-1)])}


@dataclass(frozen=True)
class Case:
    """A module, inputs to trace it, its dynamic axes, and other inputs to compare it on."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic_shapes: Any
    others: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]

    def export(self) -> torch.export.ExportedProgram:
        return torch.export.export(
            self.module, self.args, self.kwargs or None, dynamic_shapes=self.dynamic_shapes
        )


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 50, shape)


def case(name: str) -> Case:
    """The case of that name, with weights and inputs from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        x = torch.randn
        batch = torch.export.Dim("batch", min=1, max=64)
        sequence = torch.export.Dim("sequence", min=2, max=100)
        double = torch.export.Dim("half", min=1, max=16)
        made: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...], Any, Any, Any]]] = {
            "mlp": lambda: (Mlp(), (x(3, 8),), {}, ({0: batch},), [((x(5, 8),), {})]),
            "mlp-static": lambda: (Mlp(), (x(3, 8),), {}, None, []),
            "mlp-even": lambda: (Mlp(), (x(4, 8),), {}, ({0: 2 * double},), [((x(6, 8),), {})]),
            "conv": lambda: (ConvNorm(), (x(2, 3, 9, 9),), {}, None, [((x(2, 3, 9, 9),), {})]),
            "llama": lambda: (
                *(Llama(), (ids(2, 6),), {}, ({0: batch, 1: sequence},)),
                [((ids(1, 17),), {}), ((ids(3, 2),), {})],
            ),
            "lstm": lambda: (Recurrent(), (x(2, 7, 6),), {}, None, [((x(2, 7, 6),), {})]),
            "mixed": lambda: (
                *(Mixed(), (x(4, 8),), {"scale": x(1)}),
                {"x": {0: batch}, "scale": None, "power": None},
                [((x(9, 8),), {"scale": x(1)})],
            ),
        }
        module, args, kwargs, shapes, others = made[name]()
        if name == "mixed":
            shapes = {"x": shapes["x"], "scale": None}
        module.eval()
    return Case(name, module, args, kwargs, shapes, ((args, kwargs), *others))


CASES = ("mlp", "mlp-static", "mlp-even", "conv", "llama", "lstm", "mixed")


@pytest.fixture(params=CASES)
def each_case(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The `.pt2` of a case, written once per session."""
    folder = tmp_path_factory.mktemp("programs")

    def save(name: str) -> Path:
        path = folder / f"{name}.pt2"
        if not path.exists():
            torch.export.save(case(name).export(), path)
        return path

    return save


@pytest.fixture(scope="session")
def make_case() -> Callable[[str], Case]:
    return case


def rewrite(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """A stored copy of an archive with members replaced, added or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
        for name, data in (members | changes).items():
            if data is not None:
                new.writestr(zipfile.ZipInfo(f"{root}/{name}"), data)
    return target


@pytest.fixture(scope="session")
def rewrite_archive() -> Callable[[Path, Path, dict[str, bytes | None]], Path]:
    return rewrite
