"""Programs at the edges: nothing to compute, results that are inputs or parameters, odd sizes."""

import numpy as np
import pytest
import torch
from torch import nn

import qcc


class Returns(nn.Module):
    """Its parameter and its input, as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(3, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.weight, x


class Views(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return x[1:], x.t(), x.sum()


class Counts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(3)


@pytest.mark.parametrize("module", [nn.Identity(), Returns(), Views(), Counts()])
def test_results_that_need_no_kernel(module: nn.Module) -> None:
    x = torch.arange(12.0).reshape(4, 3)
    results = qcc.compile(module, (x,))(x)
    expected = module(x)
    for result, wanted in zip(_tuple(results), _tuple(expected), strict=True):
        assert torch.equal(result, wanted)


def _tuple(value: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_an_empty_batch() -> None:
    dynamic = ({0: torch.export.Dim("batch", min=0, max=100)},)
    module = qcc.compile(nn.Linear(33, 17), (torch.randn(4, 33),), dynamic_shapes=dynamic)
    assert module(np.zeros((0, 33), np.float32)).shape == (0, 17)


@pytest.mark.parametrize("size", [torch.export.Dim("batch"), torch.export.Dim.DYNAMIC])
def test_a_size_without_limits(size: object) -> None:
    layer = nn.Linear(33, 17)
    program = torch.export.export(layer, (torch.randn(4, 33),), dynamic_shapes=({0: size},))
    module = qcc.compile(program)
    for batch in (2, 3, 700):
        x = torch.randn(batch, 33)
        assert torch.allclose(module(x), layer(x), atol=1e-5)


def test_non_finite_weights_name_their_parameter() -> None:
    layer = nn.Linear(32, 4)
    layer.weight.data.fill_(float("nan"))
    with pytest.raises(qcc.QccError, match="parameter 'weight'"):
        qcc.compile(layer, (torch.randn(2, 32),), recipe={"default": {"weights": "int4"}})


def test_rounding_to_infinity_is_told() -> None:
    layer = nn.Linear(32, 4)
    layer.weight.data.fill_(torch.finfo(torch.float32).max)  # 127 steps of this are beyond it
    recipe = {"default": {"weights": "int8"}}
    module = qcc.compile(layer, (torch.randn(2, 32),), recipe=recipe, golden=False)
    assert module.report["layers"][0]["sqnr_db"] < -1000


def test_a_number_that_may_vary_is_no_input() -> None:
    class Repeats(nn.Module):
        def forward(self, x: torch.Tensor, count: int) -> torch.Tensor:
            return x * count

    sizes = (None, torch.export.Dim.DYNAMIC)
    with pytest.raises(qcc.QccError, match="'count' is a number that may vary") as refused:
        qcc.compile(Repeats(), (torch.randn(2), 3), dynamic_shapes=sizes)
    assert refused.value.exit_code == 3


def test_something_that_is_no_model() -> None:
    with pytest.raises(qcc.QccError, match="cannot compile a function"):
        qcc.compile(_tuple, (torch.randn(2),))  # pyright: ignore[reportArgumentType]


def test_a_recipe_rounds_the_keys_and_values_of_attention() -> None:
    class Attend(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.randn(3, 2, 4, 7, 32).unbind()
    exact = qcc.compile(Attend(), (q, k, v))(q, k, v)
    rounded = qcc.compile(Attend(), (q, k, v), recipe={"default": {"kv": "mxfp8_e4m3"}})(q, k, v)
    fmt = qcc.format("mxfp8_e4m3")
    expected = Attend()(q, *(torch.from_numpy(fmt.quantize(x).dequantize()) for x in (k, v)))
    assert torch.allclose(rounded, expected, atol=1e-5)
    assert not torch.allclose(rounded, exact, atol=1e-4)


class ComputedIndex(nn.Module):
    """Looks up an index that no check of the inputs can see."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(32, 32)
        self.head = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(x + x))


@pytest.mark.parametrize("weights", ["none", "int8"])
def test_an_index_of_no_row_gives_nan_and_reads_nothing(weights: str) -> None:
    recipe = {"default": {"weights": weights, "embeddings": weights}}
    model = ComputedIndex()
    module = qcc.compile(model, (torch.arange(2),), recipe=recipe, golden=False)
    result = module(torch.tensor([15, 16]))
    assert torch.allclose(result[0], model(torch.tensor([15]))[0], atol=0.05)
    assert result[1].isnan().all()
    assert module(torch.tensor([2**60, -1])).isnan().all()


def test_rows_without_columns() -> None:
    layer = nn.Linear(0, 3)
    assert torch.equal(
        qcc.compile(layer, (torch.zeros(2, 0),))(torch.zeros(2, 0)), layer(torch.zeros(2, 0))
    )
