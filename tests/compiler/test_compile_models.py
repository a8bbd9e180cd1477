"""Models as others write them: each compiled, validated, and held against eager torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils import parametrizations
from torch.utils import _pytree as pytree

import qcc

BATCH, TIME = Dim("batch", min=1, max=16), Dim("time", min=2, max=60)
TOKENS = {0: BATCH, 1: TIME}
VOCABULARY, WIDTH, HEADS = 61, 32, 4


class Case(NamedTuple):
    module: nn.Module
    inputs: tuple[Any, ...]
    dynamic_shapes: Any = None
    tolerance: float = 1e-4


def ids(batch: int = 2, time: int = 6) -> Tensor:
    return torch.randint(0, VOCABULARY, (batch, time))


class RotaryAngles(nn.Module):
    frequencies: Tensor

    def __init__(self, depth: int) -> None:
        super().__init__()
        steps = torch.arange(0, depth, 2).float() / depth
        self.register_buffer("frequencies", 10000.0**-steps, persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        column = self.frequencies[None, :, None].expand(positions.shape[0], -1, 1)
        with torch.autocast("cpu", enabled=False):
            angles = (column.float() @ positions[:, None, :].float()).transpose(1, 2)
            both = torch.cat((angles, angles), -1)
            return both.cos().to(x.dtype), both.sin().to(x.dtype)


class Decoder(nn.Module):
    """Grouped heads repeated by expand and reshape, additive mask, weights tied to the table."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.norm = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.angles = RotaryAngles(WIDTH // HEADS)
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.kv = nn.Linear(WIDTH, WIDTH, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids)
        batch, time, _ = x.shape
        lowest = torch.finfo(x.dtype).min
        mask = torch.triu(torch.full((time, time), lowest, dtype=x.dtype), diagonal=1)
        mask = mask[None, None].expand(batch, 1, -1, -1)
        cos, sin = self.angles(x, torch.arange(time)[None])
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        normed = self.norm * normed.to(x.dtype)
        q = self.q(normed).view(batch, time, HEADS, -1).transpose(1, 2)
        k, v = self.kv(normed).view(batch, time, 2, HEADS // 2, -1).permute(2, 0, 3, 1, 4).unbind()
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        k, v = repeated(k), repeated(v)
        if self.fused:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1]) + mask
            attended = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v
        x = x + self.o(attended.transpose(1, 2).contiguous().reshape(batch, time, -1))
        return F.linear(x, self.table.weight)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos[:, None] + turned * sin[:, None]


def repeated(x: Tensor) -> Tensor:
    batch, heads, time, depth = x.shape
    return x[:, :, None].expand(batch, heads, 2, time, depth).reshape(batch, -1, time, depth)


def decoder() -> Case:
    return Case(Decoder(False), (ids(),), (TOKENS,))


def decoder_in_half_precision() -> Case:
    return Case(Decoder(True).half(), (ids(),), (TOKENS,), 5e-3)


class Spiral(nn.Module):
    """Rotary angles as complex numbers, from a plain attribute or a buffer."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        rates = torch.outer(torch.arange(64.0), 100.0 ** -torch.arange(0, 1, 0.25))
        table = torch.polar(torch.ones_like(rates), rates)
        if registered:
            self.register_buffer("table", table, persistent=False)
        else:
            self.table = table
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).view(*x.shape[:2], HEADS, -1, 2)
        turned = torch.view_as_complex(q) * self.table[None, : x.shape[1], None, :]
        return torch.view_as_real(turned).flatten(3).type_as(x)


def spiral() -> Case:
    return Case(Spiral(False), (torch.randn(2, 5, WIDTH),), (TOKENS,))


def spiral_in_a_buffer() -> Case:
    return Case(Spiral(True), (torch.randn(2, 5, WIDTH),), (TOKENS,))


class Transposed(nn.Module):
    """GPT-2's layer: rows joined and parted again by their sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH) / 6)
        self.bias = nn.Parameter(torch.randn(3 * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        q, k, v = rows.view(*x.size()[:-1], 3 * WIDTH).split(WIDTH, dim=2)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


def transposed() -> Case:
    return Case(Transposed(), (torch.randn(2, 5, WIDTH),), (TOKENS,))


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 48, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.layer(x, memory, tgt_mask=mask, tgt_is_causal=True)


def cross_attention() -> Case:
    memory = {0: BATCH, 1: Dim("memory", min=2, max=40)}
    inputs = (torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH))
    return Case(Cross(), inputs, (TOKENS, memory))


class Classifier(nn.Module):
    """Scores of the last token before the padding, several results of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor) -> dict[str, Any]:
        scores = self.head(self.table(input_ids))
        last = (torch.eq(input_ids, 0).int().argmax(-1) - 1) % input_ids.shape[-1]
        values, places = scores.topk(3, dim=-1)
        chosen = scores[torch.arange(input_ids.shape[0]), last]
        return {"top": (values, places), "log": scores.log_softmax(-1), "chosen": chosen}


def classifier() -> Case:
    return Case(Classifier(), (ids(),), (TOKENS,))


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, 4, bias=False)
        self.weight = nn.Parameter(torch.randn(4, WIDTH, WIDTH) / 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.view(-1, x.shape[-1])
        scores = self.gate(rows)
        chances, chosen = torch.topk(F.softmax(scores, dim=1), 2, dim=-1)
        chances = chances / chances.sum(-1, keepdim=True)
        full = torch.zeros_like(scores).scatter(1, chosen, chances)
        each = torch.einsum("nd,efd->nef", rows, self.weight)
        out = torch.zeros_like(rows)
        out.index_add_(0, torch.arange(rows.shape[0]), (each * full[..., None]).sum(1))
        return out.view(x.shape), scores


def experts() -> Case:
    return Case(Experts(), (torch.randn(2, 5, WIDTH),), (TOKENS,))


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTMCell(8, 16)
        self.second = nn.GRUCell(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.size(1), 16)
        g = torch.zeros(x.size(1), 16)
        outputs = []
        for step in x:
            h, c = self.first(step, (h, c))
            g = self.second(h, g)
            outputs.append(g)
        return torch.stack(outputs)


def cells() -> Case:
    return Case(Cells(), (torch.randn(3, 2, 8),), ({1: BATCH},))


class Residual(nn.Module):
    """Everything in place, as torchvision and timm write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular", bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.skip = nn.Conv2d(3, 8, 4, padding="same")
        assert self.norm.running_var is not None
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.conv(x)))
        y += self.skip(x)
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        return F.adaptive_avg_pool2d(self.act(y), (3, 5)).flatten(1)


def residual() -> Case:
    return Case(Residual(), (torch.randn(2, 3, 8, 8),), ({0: BATCH},))


class Instances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(4, affine=True)
        self.conv = parametrizations.weight_norm(nn.Conv1d(4, 8, 3, padding=4, dilation=2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.norm(x))[:, :, :-4].contiguous()
        return F.glu(y + F.pad(y, (1, -1)), dim=1)


def instances() -> Case:
    return Case(Instances(), (torch.randn(2, 4, 12),), ({0: BATCH, 2: TIME},))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        degree = edges.sum(1).pow(-0.5)
        degree[torch.isinf(degree)] = 0.0
        return torch.diag(degree) @ edges @ self.layer(nodes)


def graph() -> Case:
    return Case(Graph(), (torch.randn(5, 8), (torch.rand(5, 5) > 0.6).float()))


class Cached(nn.Module):
    """One step of a decoder that is handed its past."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        parts = self.qkv(x).view(x.shape[0], x.shape[1], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        k, v = torch.cat([past[0], parts[1]], 2), torch.cat([past[1], parts[2]], 2)
        return F.scaled_dot_product_attention(parts[0], k, v).transpose(1, 2).flatten(2), (k, v)


def cached() -> Case:
    past = (torch.randn(2, HEADS, 5, 8), torch.randn(2, HEADS, 5, 8))
    sizes = {0: BATCH, 2: Dim("past", min=1, max=60)}
    return Case(Cached(), (torch.randn(2, 1, WIDTH), past), ({0: BATCH}, (sizes, sizes)))


class Picture(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
        grid = torch.stack((columns, rows), 2).expand(1, 4, 5, 2) - 0.5
        return x.float().div(255.0).mean(1)[..., None] * grid, x


def picture() -> Case:
    return Case(Picture(), (torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8),))


MODELS = (
    *(decoder, decoder_in_half_precision, transposed, cross_attention, classifier, experts, cells),
    *(residual, instances, graph, cached, picture, spiral, spiral_in_a_buffer),
)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_model_matches_eager_torch(make: Callable[[], Case]) -> None:
    torch.manual_seed(0)
    module, inputs, dynamic_shapes, tolerance = make()
    compiled = qcc.compile(module.eval(), inputs, dynamic_shapes=dynamic_shapes, validate=True)
    assert compiled.verify()["passed"]
    with torch.no_grad():
        expected = module(*pytree.tree_map(torch.clone, inputs))
    found = compiled(*inputs)
    assert pytree.tree_structure(found) == pytree.tree_structure(expected)
    results, wholes = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    for result, wanted in zip(results, wholes, strict=True):
        assert result.dtype == wanted.dtype
        assert result.shape == wanted.shape
        error = (result.double() - wanted.double()).abs().max()
        assert error <= tolerance * wanted.double().abs().max()
