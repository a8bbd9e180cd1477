"""Products of matrices however a model spells them: layers where there is a weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils import parametrizations

import qcc


class ByHand(nn.Module):
    """Attention out of products, and weights of [inputs, outputs] as GPT-2's Conv1D has them."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.randn(32, 96) / 6)
        self.bias = nn.Parameter(torch.randn(96))
        self.out = nn.Parameter(torch.randn(32, 40) / 6)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        rows = torch.addmm(self.bias, x.view(-1, width), self.project)
        heads = rows.view(batch, tokens, 3, 4, 8).permute(2, 0, 3, 1, 4)
        scores = torch.tanh(heads[0] @ heads[1].transpose(-2, -1)).softmax(-1)
        mixed = (scores @ heads[2]).transpose(1, 2).reshape(batch, tokens, width)
        return mixed @ self.out


FREE = ({0: Dim("batch", max=8), 1: Dim("tokens", max=64)},)


@pytest.mark.parametrize("sizes", [None, FREE], ids=["static", "free"])
def test_products_without_a_transpose(sizes: object) -> None:
    model = ByHand().eval()
    x = torch.randn(3, 10, 32)
    module = qcc.compile(model, (x,), dynamic_shapes=sizes)
    for example in [x] if sizes is None else [x, torch.randn(2, 37, 32)]:
        assert torch.allclose(module(example), model(example), rtol=1e-4, atol=1e-5)
    assert [layer["name"] for layer in module.report["layers"]] == [
        "project", "matmul.0", "matmul.1", "out",
    ]  # fmt: skip


def test_weights_on_the_right_are_quantized() -> None:
    model = ByHand().eval()
    x = torch.randn(3, 10, 32)
    module = qcc.compile(model, (x,), recipe={"default": {"weights": "int8"}})
    layers = {layer["name"]: layer for layer in module.report["layers"]}
    assert {name: layers[name]["weights"] for name in ("project", "out")} == {
        "project": "int8", "out": "int8",
    }  # fmt: skip
    with torch.no_grad():
        for weight in (model.project, model.out):
            rounded = qcc.format("int8").quantize(weight.T.contiguous()).dequantize()
            weight.copy_(torch.as_tensor(rounded).T)
    assert torch.allclose(module(x), model(x), rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    """A matrix that one layer reads as it is and another the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 40) / 6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x @ self.weight, self.weight) + self.weight.sum()


def test_a_weight_read_both_ways() -> None:
    model = Shared().eval()
    x = torch.randn(5, 24)
    assert torch.allclose(qcc.compile(model, (x,))(x), model(x), rtol=1e-4, atol=1e-5)
    module = qcc.compile(model, (x,), recipe={"default": {"weights": "int8"}})
    assert torch.allclose(module(x), model(x), rtol=0.05, atol=0.3)


class Caret(nn.Module):
    """Parameters that are called as the transposes of others are."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.randn(24, 40) / 6))
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        weight = self.get_parameter(self.names[0])
        return nn.functional.linear(x @ weight, weight)


def test_a_parameter_called_as_a_transpose() -> None:
    model, x = Caret("w^T").eval(), torch.randn(5, 24)
    module = qcc.compile(model, (x,))
    assert torch.allclose(module(x), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(qcc.QccError, match="rename"):
        qcc.compile(Caret("w", "w^T").eval(), (x,))


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((2, 1, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)),
        ((1, 4, 5, 8), (3, 4, 7, 8), (3, 4, 7, 8)),
        ((1, 5, 8), (3, 7, 8), (3, 7, 8)),
        ((5, 8), (3, 7, 8), (3, 7, 8)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_query_shared_by_heads_or_batches(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], dtype: torch.dtype
) -> None:
    class Attend(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    given = tuple(torch.randn(shape, dtype=dtype) for shape in (query, key, value))
    module, expected = qcc.compile(Attend(), given), Attend()(*given)
    assert module(*given).shape == expected.shape
    assert torch.allclose(module(*given), expected, rtol=1e-3, atol=1e-3)
    assert [layer["op"] for layer in module.report["layers"]] == ["attention"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4, 5), (3, 5, 6)),
        ((4, 5), (2, 3, 5, 6)),
        ((2, 1, 4, 5), (1, 3, 5, 6)),
        ((5,), (3, 5, 2)),
    ],
)
def test_stacks_of_matrices(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    class Product(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b

    a, b = torch.randn(left), torch.randn(right)
    module = qcc.compile(Product(), (a, b))
    assert torch.allclose(module(a, b), a @ b, rtol=1e-4, atol=1e-5)
    assert module(a, b).shape == (a @ b).shape


class Similarity(nn.Module):
    """A layer's results, and those of another input, as the matrix of a product."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(16, 8), nn.Linear(12, 8)

    def forward(self, x: Tensor, y: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.left(x), self.right(y)
        return left @ right.t(), nn.functional.linear(left, right, bias)


@pytest.mark.parametrize("target", ["cpu", "cuda:emulate"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16], ids=["fp32", "fp16"])
def test_a_matrix_that_the_model_computes(target: str, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Similarity().eval().to(kind)
    inputs = tuple(torch.randn(*shape, dtype=kind) for shape in ((4, 16), (6, 12), (6,)))
    module = qcc.compile(model, inputs, target=target)
    rtol, atol = (1e-4, 1e-5) if (target, kind) == ("cpu", torch.float32) else (2e-2, 5e-3)
    for found, expected in zip(module(*inputs), model(*inputs), strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=rtol, atol=atol)


class Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(16, 32, 5, stride=2, padding=2)
        self.second = nn.Conv1d(32, 24, 3, padding="same", dilation=2, groups=2)
        self.normed = parametrizations.weight_norm(nn.Conv1d(24, 8, 2, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.normed(torch.relu(self.second(torch.relu(self.first(x)))))


@pytest.mark.parametrize("target", ["cpu", "cuda:emulate"])
def test_convolutions_of_signals_are_layers(target: str) -> None:
    model, x = Signals().eval(), torch.randn(2, 16, 37)
    free = ({2: Dim("time", min=8, max=200)},) if target == "cpu" else None
    recipe = {"default": {"weights": "int8"}}
    module = qcc.compile(model, (x,), recipe=recipe, target=target, dynamic_shapes=free)
    found = {row["name"]: (row["op"], row["weights"]) for row in module.report["layers"]}
    assert found.items() >= {"first": ("conv2d", "int8"), "second": ("conv2d", "int8")}.items()
    for example in [x] if free is None else [x, torch.randn(2, 16, 90)]:
        wanted = model(example)
        assert (module(example) - wanted).abs().max() < 0.02 * wanted.abs().max()
