"""Piecewise-linear functions: networks exactly, fits as good as methods.md's, cells as DPUs run."""

from pathlib import Path

import numpy as np
import pytest

from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.pim.piecewise import FUNCTIONS, Cells, PiecewiseLinear
from qcc.dialects.pim.reference import run_kernel
from qcc.passes.pim_piecewise_kernel import pim_piecewise_kernel

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "nnlut_16entry.npz"
DPU = pim.device("v1A")


@pytest.mark.parametrize("name", ["gelu", "exp", "rsqrt"])
def test_golden_networks(name: str) -> None:
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden/nnlut_16entry.npz")
    data = np.load(GOLDEN)
    lut = PiecewiseLinear.of_network(*(data[f"{name}_{each}"] for each in "nbm"))
    assert np.allclose(lut.breaks, data[f"{name}_breaks"], rtol=1e-12)
    assert np.allclose(lut.slopes, data[f"{name}_slopes"], rtol=1e-9, atol=1e-12)
    assert np.allclose(lut.intercepts, data[f"{name}_intercepts"], rtol=1e-9, atol=1e-12)
    x = data[f"{name}_x"].astype(np.float64)
    n, b, m = (data[f"{name}_{each}"] for each in "nbm")
    assert np.abs(lut(x) - np.maximum(x[:, None] * n + b, 0) @ m).max() < 5e-13
    # The stored outputs are those of inputs before they were rounded to float32.
    assert np.abs(lut(x) - data[f"{name}_nn_out_f64"]).max() < 4e-6


def test_a_network_is_a_table() -> None:
    rng = np.random.default_rng(0)
    n, b, m = (rng.standard_normal(15) for _ in range(3))
    n[3] = 0.0
    x = rng.uniform(-4, 4, 1000)
    expected = np.maximum(x[:, None] * n + b, 0) @ m
    assert np.allclose(PiecewiseLinear.of_network(n, b, m)(x), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "mean", "most"),
    [("gelu", 7.9e-4, 3.6e-3), ("exp", 2.5e-4, 2.0e-3), ("rsqrt", 2.7e-4, 1.0e-2),
     ("reciprocal", 1.3e-4, 9.4e-3)],
)  # fmt: skip
def test_fits_reach_the_published_errors(name: str, mean: float, most: float) -> None:
    """methods.md §9, 16 entries and power 0.4; a tenth above is granted."""
    function, low, high = FUNCTIONS[name]
    found = PiecewiseLinear.fitted(function, low, high).errors(function, low, high)
    assert found[0] <= 1.1 * mean
    assert found[1] <= 1.1 * most


@pytest.mark.parametrize(("name", "most"), [("gelu", 2e-3), ("exp", 1e-2)])
def test_cells_in_fixed_point(name: str, most: float) -> None:
    function, low, high = FUNCTIONS[name]
    assert Cells.of(function, low, high).errors(function)[1] < most


def test_a_kernel_computes_the_cells() -> None:
    cells = Cells.of(*FUNCTIONS["gelu"])
    x = np.random.default_rng(0).integers(0, len(cells.base) << cells.bits, (2, 1024))
    arrays = {
        "base": np.repeat(cells.base[None], 2, axis=0),
        "slope": np.repeat(cells.slope[None], 2, axis=0),
        "inputs": x.astype(np.int16), "results": np.zeros((2, 1024), np.int16),
    }  # fmt: skip
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_piecewise_kernel(cells, 1024, DPU, "gelu")
        assert module.operation.verify()
        run_kernel(kernel, arrays, {})
    assert np.array_equal(arrays["results"], cells(arrays["inputs"]))


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(QccError, match="a table has 1 to 256"):
        Cells.of(np.exp, 0, 1, cells=1000)
    with pytest.raises(QccError, match="entries from"):
        PiecewiseLinear.fitted(np.exp, 1, 0)
    with make_context(), ir.Location.unknown(), pytest.raises(QccError, match="no blocks of 256"):
        pim_piecewise_kernel(Cells.of(np.exp, 0, 1), 100, DPU, "exp")
