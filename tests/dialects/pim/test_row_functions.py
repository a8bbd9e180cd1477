"""Softmax and norms in integers: near fp32 within the bound that they state, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.pim.function_forms import Form, form_attribute, form_of
from qcc.dialects.pim.functions import evaluated
from qcc.dialects.pim.row_functions import Norm, Softmax
from qcc.dialects.pim.smooth import SMOOTH, Elementwise

Floats = NDArray[np.floating]
SCALES = (1e-30, 1e-3, 1.0, 30.0, 1e6, 1e30)


def exact_softmax(x: Floats) -> Floats:
    powers = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def exact_norm(form: Norm, x: Floats) -> Floats:
    y = x.astype(np.float64)
    y = y - y.mean(axis=-1, keepdims=True) if form.centred else y
    return y / np.sqrt((y * y).mean(axis=-1, keepdims=True) + form.epsilon)


def drawn(rows: int, columns: int, scale: float) -> Floats:
    """Normal rows, the first all alike, the second with one that is far larger."""
    x = np.random.default_rng(columns).standard_normal((rows, columns)) * scale
    x[0], x[1, 0] = x[0, 0], 100 * scale
    return x.astype(np.float32)


@pytest.mark.parametrize("columns", [1, 2, 7, 64, 383, 4096])
def test_softmax_is_within_its_bound(columns: int) -> None:
    form = Softmax.of(columns, empty_rows=False)
    for scale in (0.01, 1.0, 8.0, 1e4):
        x = drawn(9, columns, scale)
        x[2, 1:] = x[2, 0] - 11  # as many as there are, each hardly anything
        assert np.abs(evaluated(form, x) - exact_softmax(x)).max() <= form.error
    assert form.error < (0.005 if columns == 4096 else 1e-3)


@pytest.mark.parametrize("columns", [1, 2, 7, 64, 383, 4096])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
def test_norms_are_within_their_bounds(columns: int, centred: bool, epsilon: float) -> None:
    form = Norm.of(columns, epsilon, centred=centred)
    for scale in SCALES:
        x = drawn(9, columns, scale)
        exact = exact_norm(form, x)
        largest = np.maximum(1, np.abs(exact).max(axis=1, keepdims=True))
        assert (np.abs(evaluated(form, x) - exact) / largest).max() <= form.error
    assert form.error < 6e-3


def test_a_mean_is_taken_away_whole() -> None:
    """Numbers of fp32 around 1,000 that differ by 1 keep their differences."""
    form = Norm.of(256, 1e-5, centred=True)
    x = (1000 + np.random.default_rng(0).standard_normal((4, 256))).astype(np.float32)
    assert np.abs(evaluated(form, x) - exact_norm(form, x)).max() < 2e-3


def test_masks_and_what_is_no_number() -> None:
    x = np.zeros((5, 4), np.float32)
    x[0, 1:], x[1], x[2, 0], x[3, 0] = -np.inf, -np.inf, np.nan, np.inf
    x[4, 1:] = np.finfo(np.float32).min
    plain, attention = (Softmax.of(4, empty_rows=zeros) for zeros in (False, True))
    assert np.array_equal(evaluated(attention, x)[[0, 1, 4]], [[1, 0, 0, 0], [0] * 4, [1, 0, 0, 0]])
    assert np.isnan(evaluated(plain, x)[1:4]).all()
    norm = evaluated(Norm.of(4, 1e-5, centred=True), x[:3])
    assert np.isnan(norm).all()
    assert (evaluated(Norm.of(4, 0.0, centred=False), np.zeros((2, 4), np.float32)) == 0).all()


def test_rows_may_be_wider_than_those_of_a_kernel() -> None:
    form, x = Softmax.of(16, empty_rows=True), drawn(3, 50, 2.0)
    assert np.abs(evaluated(form, x) - exact_softmax(x)).max() < 1e-3


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_are_within_their_bounds(name: str) -> None:
    form, smooth = Elementwise.of(name), SMOOTH[name]
    x = np.concatenate([np.linspace(-60, 60, 40001), [0.0, -0.0, 1e-30]]).astype(np.float32)
    bound = form.bound(smooth)
    assert np.abs(evaluated(form, x) - smooth.function(x.astype(np.float64))).max() <= bound < 2e-3
    assert np.isnan(evaluated(form, np.array([np.nan], np.float32)))


@pytest.mark.parametrize(
    "form",
    [
        Elementwise.of("silu"),
        Softmax.of(40, empty_rows=True),
        Norm.of(40, 1e-6, centred=False),
    ],
)
def test_forms_are_stored_whole(form: Form) -> None:
    x = np.random.default_rng(1).standard_normal((6, 40), np.float32) * 4
    with make_context(), ir.Location.unknown():
        stored = form_of(ir.Attribute.parse(str(form_attribute(form))))
        assert stored == form
        assert np.array_equal(evaluated(stored, x), evaluated(form, x))
        with pytest.raises(QccError, match="no form of a function"):
            form_of(ir.DictAttr.get({"kind": ir.StringAttr.get("softmax")}))
