"""Spelling programs in ops of the torch dialect: regions, respellings, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._higher_order_ops.wrap import wrap_with_autocast

from qcc.compiler.frontend.decompose import decompose
from qcc.compiler.frontend.import_program import import_program
from qcc.compiler.frontend.inline_regions import has_regions, inline_regions
from qcc.compiler.frontend.respell import RESPELLINGS
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def exported(function: Callable[..., Any], x: torch.Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(Calls(function), (x,))


def in_regions(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        y = x * 2
        with torch.autocast("cpu", enabled=False):
            a, b = y @ y.T, y + 1
    return b, a.exp()


def test_regions_become_part_of_the_graph() -> None:
    x = torch.randn(3, 3)
    program = exported(in_regions, x)
    assert has_regions(program)
    inlined = inline_regions(program)
    assert not has_regions(inlined)
    assert has_regions(program)
    for got, wanted in zip(inlined.module()(x), in_regions(x), strict=True):
        assert torch.equal(got, wanted)


def test_enabled_autocast_keeps_its_casts() -> None:
    def cast(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (x @ x).float()

    x = torch.randn(4, 4)
    spelled = decompose(exported(cast, x), make_context(), False)
    assert wrap_with_autocast not in {node.target for node in spelled.graph.nodes}
    assert torch.equal(spelled.module()(x), cast(x))


def complex_parts(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z = torch.complex(x, x.flip(0)) * (1 + 2j) - 3j
    return z.abs(), z.angle(), x.angle(), torch.exp(z).real, (z.conj() / 2j).imag


def scattered(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    places, zeros = x.argsort(-1)[:, :2], torch.zeros_like(x)
    written = zeros.scatter(-1, places, x), zeros.scatter(-1, places, 2.0)
    return *written, x.scatter_add(-1, places, x), x.scatter_reduce(-1, places, x, "amax")


def searched(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    edges, places = x.sort(-1)[0], x.argsort(-1)
    right = torch.searchsorted(x, x, sorter=places, right=True)
    return torch.searchsorted(edges, x), right, torch.searchsorted(edges[0], x, out_int32=True)


def bags(mode: str) -> Callable[[torch.Tensor], Any]:
    bag = nn.EmbeddingBag(9, 3, mode=mode, padding_idx=1)
    indices, offsets = torch.tensor([1, 2, 3, 1, 5, 5, 8, 1]), torch.tensor([0, 1, 1, 4])
    return lambda x: bag(indices, offsets) + x


def resized(mode: str) -> Callable[[torch.Tensor], Any]:
    def resize(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        small = F.interpolate(x, (3, 4), mode=mode, antialias=True)
        large = F.interpolate(x, (9, 5), mode=mode, antialias=True, align_corners=True)
        return small, large, F.interpolate(x, scale_factor=0.6, mode=mode, antialias=True)

    return resize


def write_masked(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y > 0] = 7.0
    return y


RESPELLED: list[tuple[Callable[[torch.Tensor], Any], tuple[int, ...]]] = [
    (write_masked, (3, 4)),
    (lambda x: F.pad(x, (2, -1, -1, 0)), (3, 4)),
    (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (1, 2, 5, 7)),
    (lambda x: F.conv2d(x, x[:, None, :2, :2]), (1, 4, 4)),
    (lambda x: F.softshrink(x), (3, 4)),
    (lambda x: F.scaled_dot_product_attention(x, x, x[:, :2]), (5, 4)),
    (lambda x: F.scaled_dot_product_attention(x, x, x, x @ x.mT), (2, 5, 4)),
    (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (2, 2, 2, 5, 4)),
    (lambda x: torch.copysign(x, torch.tensor([0.0, -0.0, -1.0, 2.0])), (3, 4)),
    (lambda x: torch.hypot(x, x.flip(0)) + x.erfc(), (3, 4)),
    (lambda x: torch.isfinite(x / x.floor().clamp(0, 1)), (3, 4)),
    (lambda x: torch.cdist(x, x[:2]) + torch.cdist(x, x[:2], p=1.0), (3, 4)),
    (lambda x: (x[0, 0] @ x, x @ x[0, 0]), (2, 3, 3)),
    (lambda x: (x * 9).int().fmod(4) + (x * 9).int().pow(3), (3, 4)),
    (lambda x: ((x * 9).int() | 5) ^ 3, (3, 4)),
    (lambda x: x.scatter_reduce(1, (x > 0).long(), x, "mean"), (3, 4)),
    (lambda x: x.scatter_reduce(1, (x > 0).long(), x, "mean", include_self=False), (3, 4)),
    (lambda x: F.grid_sample(x, x[:, :2].movedim(1, -1), align_corners=True), (1, 3, 4, 4)),
    (complex_parts, (3, 4)),
    (scattered, (3, 4)),
    (searched, (3, 4)),
    (bags("sum"), (1, 3)),
    (bags("mean"), (1, 3)),
    (bags("max"), (1, 3)),
    (resized("bilinear"), (1, 2, 7, 8)),
    (resized("bicubic"), (1, 2, 7, 8)),
    (lambda x: F.adaptive_max_pool2d(x, (3, 2), return_indices=True), (1, 2, 5, 7)),
    (lambda x: (x.median(), *x.median(1), *x.kthvalue(2, 0), *x.log().median(0)), (4, 5)),
    (lambda x: (*x.round().cummax(1), *x.log().cummin(0)), (4, 5)),
    (lambda x: (x * 100).logcumsumexp(1), (4, 5)),
    (lambda x: sum(torch.meshgrid(x[0], x[:, 0], x[0], indexing="xy")), (3, 4)),
]


@pytest.mark.parametrize(("function", "shape"), RESPELLED)
def test_another_spelling_gives_the_same(
    function: Callable[[torch.Tensor], Any], shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape)
    program = exported(function, x)
    spelled = decompose(program, make_context(), False)
    assert spelled is not program
    torch.testing.assert_close(spelled.module()(x), function(x), equal_nan=True)


def test_points_are_gathered_by_one_index() -> None:
    gather = RESPELLINGS[torch.ops.aten.index.Tensor]
    x, i, j = torch.randn(3, 4, 2), torch.tensor([0, -1, 2]), torch.tensor([3, 1, -4])
    assert gather(x, [i, j]) is NotImplemented
    batch = torch.export.Dim("batch", min=2, max=9)

    class Points(nn.Module):
        def forward(self, x: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
            return x[torch.arange(x.shape[0]), j]

    program = torch.export.export(Points(), (x, j), dynamic_shapes=({0: batch}, {0: batch}))
    spelled = decompose(program, make_context(), False)
    assert torch.equal(spelled.module()(x, j), x[torch.arange(3), j])


def test_a_program_that_needs_nothing_stays_the_same_object() -> None:
    program = exported(lambda x: x + 1, torch.randn(2))
    assert decompose(program, make_context(), False) is program


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda x: x + torch.rand_like(x), "op-random"),
        (lambda x: F.dropout(x, 0.5, training=True), "op-random"),
        (lambda x: x[x > 0], "op-data-dependent"),
        (torch.nonzero, "op-data-dependent"),
    ],
)
def test_what_no_spelling_helps_is_refused(function: Callable[..., Any], code: str) -> None:
    program = exported(function, torch.randn(4))
    with pytest.raises(UnsupportedError) as refused:
        decompose(program, make_context(), False)
    assert refused.value.code == code
    assert "test_decompose.py:" in refused.value.where


def test_dropout_at_rest_is_not_random() -> None:
    x = torch.randn(4)
    program = exported(lambda x: F.dropout(x, 0.5, training=False), x)
    spelled = decompose(program, make_context(), False)
    assert torch.equal(spelled.module()(x), x)


def decide(x: torch.Tensor) -> torch.Tensor:
    return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


@pytest.mark.parametrize(
    ("function", "code", "told"),
    [
        (decide, "op-unsupported", "torch.cond"),
        (torch.linalg.inv, "op-unsupported", "linalg"),
        (lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)), "op-unsupported", "cond"),
    ],
)
def test_what_holds_graphs_or_checks_is_named(
    function: Callable[..., Any], code: str, told: str
) -> None:
    program = exported(function, torch.eye(3))
    context = make_context()
    with pytest.raises(UnsupportedError, match=told) as refused:
        import_program(program, context)
    assert refused.value.code == code
    assert "\x1b" not in str(refused.value)


def test_an_input_that_is_written_to_is_left_alone() -> None:
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2) + 1

    x = torch.ones(3)
    spelled = decompose(exported(doubled, x), make_context(), False)
    assert [spec.kind.name for spec in spelled.graph_signature.output_specs] == ["USER_OUTPUT"]
    assert torch.equal(spelled.module()(x), torch.full((3,), 3.0))


def test_what_needs_no_other_spelling_is_still_decomposed() -> None:
    x = torch.randn(1, 2, 11)
    program = exported(lambda x: F.adaptive_avg_pool1d(x, 4), x)
    spelled = decompose(program, make_context(), True)
    names = {str(node.target) for node in spelled.graph.nodes}
    assert not any("adaptive" in name for name in names)
    torch.testing.assert_close(spelled.module()(x), F.adaptive_avg_pool1d(x, 4))
