"""Real op mixes: small torch modules through torch-mlir's pipeline, against eager torch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn
from torch_mlir import fx

from qcc.dialects.errors import UsageError
from qcc.dialects.interpreter import interpret

i64 = partial(np.array, dtype=np.int64)


class Case(nn.Module):
    """A function of the submodules and the inputs, as a module."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


def case(name: str, function: Callable[..., Any], *operands: nn.Module | Tensor) -> Any:
    parts = [operand for operand in operands if isinstance(operand, nn.Module)]
    inputs = [operand for operand in operands if isinstance(operand, Tensor)]
    return pytest.param(Case(function, *parts).eval(), inputs, id=name)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def below(limit: int, *shape: int) -> Tensor:
    return torch.randint(0, limit, shape, generator=GENERATOR)


def apply(module: nn.Module, *inputs: Tensor) -> Any:
    return module(*inputs)


def first(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)[0]


def causal_mask(x: Tensor) -> Tensor:
    return x.masked_fill(torch.triu(torch.ones(x.shape, dtype=torch.bool), 1), float("-inf"))


def activations(x: Tensor) -> list[Tensor]:
    smooth = [F.gelu(x), F.silu(x), F.elu(x), F.mish(x), F.softplus(x), F.sigmoid(x)]
    return [*smooth, F.hardswish(x), F.leaky_relu(x), F.relu6(x), x.clamp(-0.5, 0.5)]


def elementary(x: Tensor) -> list[Tensor]:
    whole = [x.floor(), x.ceil(), x.round(), x.trunc(), x.sign()]
    return [*whole, x.erf(), x.sin(), x.cos(), x.expm1(), x.tanh(), x.atan(), x.abs().log1p()]


def integers(x: Tensor, y: Tensor) -> list[Tensor]:
    bits = [x & y, x | y, x ^ y, ~x, x << 1]
    return [*bits, x // y, x % y, torch.div(x, y, rounding_mode="trunc"), x == y, x / y]


def reductions(x: Tensor) -> list[Tensor]:
    sums = [x.sum(1), x.mean((0, 2)), x.var(1), x.std(2), x.norm(dim=1), x.logsumexp(1)]
    return [*sums, x.amax(1), x.amin(2), x.prod(1), (x > 0).any(1), (x > 0).all(1), x.argmax(2)]


def shapes(x: Tensor) -> Tensor:
    halves = [x.permute(0, 2, 1).reshape(2, -1)[:, 1:-1:2], x.flatten(1)[:, -3:]]
    return torch.cat(halves, 1).repeat(2, 1).flip(0)


GENERATOR = torch.Generator().manual_seed(11)
torch.manual_seed(11)  # for the weights of the submodules

CASES = [
    case("softmax", lambda x: F.softmax(x, -1), normal(2, 3, 5)),
    case("layer_norm", apply, nn.LayerNorm(8), normal(2, 3, 8)),
    case("group_norm", apply, nn.GroupNorm(2, 4), normal(2, 4, 5, 5)),
    case("batch_norm", apply, nn.BatchNorm2d(4), normal(2, 4, 5, 5)),
    case(
        "conv_relu_max_pool",
        lambda conv, x: F.max_pool2d(F.relu(conv(x)), 2),
        nn.Conv2d(3, 4, 3, padding=1),
        normal(2, 3, 8, 8),
    ),
    case("conv_strided", apply, nn.Conv2d(3, 4, 3, 2, 1, 2), normal(2, 3, 9, 9)),
    case("conv_grouped", apply, nn.Conv2d(4, 8, 3, padding=1, groups=2), normal(2, 4, 6, 6)),
    case("conv_depthwise", apply, nn.Conv2d(4, 4, 3, padding=1, groups=4), normal(2, 4, 6, 6)),
    case("conv_1d", apply, nn.Conv1d(4, 6, 3, padding=1), normal(2, 4, 9)),
    case("conv_transposed", apply, nn.ConvTranspose2d(4, 6, 3, stride=2), normal(2, 4, 5, 5)),
    case(
        "average_pools",
        lambda x: (F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, (2, 3))),
        normal(2, 4, 5, 7),
    ),
    case("max_pool_indices", lambda x: F.max_pool2d(x, 2, return_indices=True), normal(1, 2, 4, 4)),
    case("lstm", first, nn.LSTM(4, 6, batch_first=True), normal(2, 3, 4)),
    case("gru", first, nn.GRU(4, 6, batch_first=True), normal(2, 3, 4)),
    case("linear", apply, nn.Linear(5, 7), normal(2, 3, 5)),
    case("matmul", torch.matmul, normal(2, 3, 4, 5), normal(5, 6)),
    case("bmm", torch.bmm, normal(2, 3, 4), normal(2, 4, 5)),
    case(
        "einsum",
        lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b),
        normal(1, 2, 3, 4),
        normal(1, 2, 5, 4),
    ),
    case(
        "attention",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        *(normal(1, 2, 4, 8) for _ in range(3)),
    ),
    case("gather", lambda x, i: x.gather(1, i), normal(3, 5), below(5, 3, 4)),
    case("where", lambda x, y: torch.where(x > y, x * 2, y.abs()), normal(3, 5), normal(3, 5)),
    case("cumsum", lambda x: x.cumsum(1), normal(3, 5)),
    case("cumsum_integers", lambda x: x.cumsum(1), below(9, 3, 5)),
    case("cumprod", lambda x: x.cumprod(0), normal(3, 5)),
    case("topk", lambda x: torch.topk(x, 3, -1), normal(3, 7)),
    case("sort", lambda x: torch.sort(x, 0), normal(7, 3)),
    case("max_and_argmax", lambda x: torch.max(x, 1), normal(3, 7)),
    case("embedding", apply, nn.Embedding(9, 4), below(9, 2, 3)),
    case("index", lambda x, i: x[:, i], normal(3, 7), below(7, 4)),
    case("index_select", lambda x, i: x.index_select(1, i), normal(3, 7), below(7, 4)),
    case(
        "index_put",
        lambda x, v: x.index_put((torch.tensor([0, 2, 5]),), v),
        normal(7, 3),
        normal(3, 3),
    ),
    case(
        "scatter_add",
        lambda x, i, v: x.scatter_add(1, i, v),
        normal(3, 7),
        below(7, 3, 4),
        normal(3, 4),
    ),
    case("masked_fill", lambda x: F.softmax(causal_mask(x), -1), normal(5, 5)),
    case("activations", activations, normal(3, 5)),
    case("elementary", elementary, normal(3, 5)),
    case("integers", integers, below(5, 3, 5) - 2, below(5, 3, 5) + 1),
    case("reductions", reductions, normal(2, 3, 4)),
    case("shapes", shapes, normal(2, 3, 4)),
    case("pads", lambda x: (F.pad(x, (1, 2, 0, 1)), F.pad(x, (1, 2), "reflect")), normal(2, 3, 4)),
    case(
        "upsample", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), normal(1, 2, 3, 4)
    ),
    case("one_hot", lambda x: F.one_hot(x, 5), below(5, 4)),
    case("triangles", lambda x: x.tril() + x.triu(1) * 2, normal(4, 4)),
    case("nonzero", lambda x: (x > 0).nonzero(), normal(2, 3)),
    case("half_types", lambda x: ((x.bfloat16() * 3).float(), x.half() + 1), normal(2, 3)),
    case(
        "fake_quantize",
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -8, 7),
        normal(2, 3),
    ),
    case("slice_scatter", lambda x, y: x.slice_scatter(y, 1, 1, 3), normal(3, 4), normal(3, 2)),
    case("unfold", lambda x: F.unfold(x, 2), normal(1, 2, 4, 4)),
]


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in flat(part)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "inputs"), CASES)
def test_agrees_with_eager_torch(module: nn.Module, inputs: list[Tensor]) -> None:
    imported = fx.export_and_import(
        module, *inputs, output_type="linalg-on-tensors", func_name="main"
    )
    with torch.no_grad():
        expected = flat(module(*inputs))
    results = interpret(imported, [tensor.numpy() for tensor in inputs], {}.__getitem__)
    assert len(results) == len(expected)
    for got, tensor in zip(results, expected, strict=True):
        want = tensor.numpy()
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        if want.dtype.kind == "f":
            assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        else:
            assert_array_equal(got, want)


@pytest.mark.filterwarnings("ignore")
def test_one_dynamic_export_runs_at_every_length() -> None:
    encoder = Case(
        lambda norm, linear, x: F.softmax(linear(norm(x)) @ x.transpose(1, 2), -1),
        nn.LayerNorm(6),
        nn.Linear(6, 6),
    ).eval()
    length = torch.export.Dim("length", min=2, max=64)
    imported = fx.export_and_import(
        encoder,
        normal(1, 5, 6),
        dynamic_shapes={"inputs": ({1: length},)},
        output_type="linalg-on-tensors",
        func_name="main",
    )
    for count in (2, 3, 17):
        x = normal(1, count, 6)
        (got,) = interpret(imported, [x.numpy()], {}.__getitem__)
        assert_allclose(got, encoder(x).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_an_assertion_of_the_model_reaches_the_user() -> None:
    imported = fx.export_and_import(
        nn.Embedding(9, 4), below(9, 3), output_type="linalg-on-tensors", func_name="main"
    )
    with pytest.raises(UsageError, match="index must be smaller than dim size"):
        interpret(imported, [i64([1, 9, 2])], {}.__getitem__)
