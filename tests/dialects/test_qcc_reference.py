"""The NumPy meaning of each `qcc` op against torch, and the ops through the interpreter."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal

from qcc.dialects import qcc
from qcc.dialects.errors import UsageError
from qcc.dialects.formats import parse_spelling
from qcc.dialects.qcc import reference

f32 = partial(np.array, dtype=np.float32)
i64 = partial(np.array, dtype=np.int64)

RNG = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


def tensors(*arrays: np.ndarray | None) -> Any:
    return [None if array is None else torch.tensor(array) for array in arrays]


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (0, 5)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear(shape, with_bias):
    x, weight, bias = floats(*shape), floats(4, 5), floats(4) if with_bias else None
    expected = F.linear(*tensors(x, weight, bias))
    assert_allclose(reference.linear(x, weight, bias), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window_bytes", [1 << 26, 100])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 2), (1, 1), 1),
        ((1, 2), (0, 1), (2, 1), 2),
        ((2, 2), (1, 1), (1, 1), 4),
    ],
)
def test_conv2d(monkeypatch, window_bytes, stride, padding, dilation, groups):
    monkeypatch.setattr(reference, "WINDOW_BYTES", window_bytes)
    x, weight, bias = floats(2, 4, 9, 8), floats(8, 4 // groups, 3, 2), floats(8)
    expected = F.conv2d(
        *tensors(x, weight, bias),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    got = reference.conv2d(
        x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_with_shared_key_heads(causal, heads):
    q, k, v = floats(2, 6, 5, 8), floats(2, heads, 5, 8), floats(2, heads, 5, 4)
    expected = F.scaled_dot_product_attention(
        *tensors(q, k, v), is_causal=causal, scale=0.3, enable_gqa=True
    )
    got = reference.attention(q, k, v, scale=0.3, causal=causal)
    assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_attention_with_a_broadcast_mask():
    q, k, v, mask = floats(2, 4, 5, 8), floats(2, 4, 7, 8), floats(2, 4, 7, 8), floats(2, 1, 1, 7)
    mask[0, 0, 0, 3:] = -np.inf
    expected = F.scaled_dot_product_attention(*tensors(q, k, v, mask))
    got = reference.attention(q, k, v, mask, scale=8**-0.5)
    assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_a_row_masked_throughout_gives_zeros_as_in_torch():
    q, k, v = floats(1, 1, 2, 4), floats(1, 1, 3, 4), floats(1, 1, 3, 4)
    mask = np.zeros((2, 3), np.float32)
    mask[0] = -np.inf
    expected = F.scaled_dot_product_attention(*tensors(q, k, v, mask))
    got = reference.attention(q, k, v, mask, scale=0.5)
    assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert not got[0, 0, 0].any()


def test_a_nan_in_the_scores_stays_one():
    scores = f32([[1, np.nan], [1, 2]])
    assert_array_equal(np.isnan(reference.softmax(scores)), [[True, True], [False, False]])


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("with_weight", [False, True])
def test_norms(axes, with_weight):
    x = floats(2, 3, 4, 5) * 3 + 2
    shape = x.shape[-axes:]
    weight, bias = (floats(*shape), floats(*shape)) if with_weight else (None, None)
    expected = F.layer_norm(torch.tensor(x), shape, *tensors(weight, bias), eps=1e-3)
    got = reference.layer_norm(x, weight, bias, epsilon=1e-3, axes=axes)
    assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    expected = F.rms_norm(torch.tensor(x), shape, *tensors(weight), eps=1e-3)
    assert_allclose(
        reference.rms_norm(x, weight, epsilon=1e-3, axes=axes), expected, rtol=1e-4, atol=1e-6
    )


def test_embedding_refuses_an_index_outside():
    table = floats(5, 3)
    assert_array_equal(reference.embedding(table, i64([[4], [0]])), table[[[4], [0]]])
    for bad in (-1, 5):
        with pytest.raises(UsageError, match="embedding of 5 rows"):
            reference.embedding(table, i64([bad]))


def test_quantize_is_the_formats_own_rounding(run):
    text = """
    func.func @main(%x: tensor<3x32xf32>) -> tensor<3x32xf32> {
      %q = "qcc.quantize"(%x) : (tensor<3x32xf32>) -> !qcc.packed<tensor<3x32xf32>, "mxfp4">
      %d = "qcc.dequantize"(%q)
        : (!qcc.packed<tensor<3x32xf32>, "mxfp4">) -> tensor<3x32xf32>
      return %d : tensor<3x32xf32>
    }"""
    x = floats(3, 32)
    (got,) = run(text, x)
    assert_array_equal(got, parse_spelling("mxfp4").quantize(x, axis=-1).dequantize(), strict=True)
    assert len(np.unique(np.abs(got[0] / 2 ** np.floor(np.log2(np.abs(got[0]).max()))))) <= 8
    assert np.any(got != x)


PACKED = '!qcc.packed<tensor<4x5xf32>, "int4">'


def test_a_packed_parameter_is_its_decoded_array(run):
    text = f"""
    func.func @main(%x: tensor<?x5xf32>) -> tensor<?x4xf32> {{
      %w = "qcc.param"() {{symbol = "w"}} : () -> {PACKED}
      %b = "qcc.param"() {{symbol = "b"}} : () -> tensor<4xf32>
      %r = "qcc.linear"(%x, %w, %b) {{operandSegmentSizes = array<i32: 1, 1, 1>}}
        : (tensor<?x5xf32>, {PACKED}, tensor<4xf32>) -> tensor<?x4xf32>
      return %r : tensor<?x4xf32>
    }}"""
    x, params = floats(3, 5), {"w": floats(4, 5), "b": floats(4)}
    (got,) = run(text, x, params=params)
    assert_allclose(got, x @ params["w"].T + params["b"], rtol=1e-5, atol=1e-6)


def test_the_other_ops_through_the_interpreter(run):
    text = """
    func.func @main(%x: tensor<2x3x4xf32>, %image: tensor<1x4x6x6xf32>, %i: tensor<2xi64>)
        -> (tensor<2x3x3xf32>, tensor<1x6x3x3xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>,
            tensor<2x4xf32>) {
      %t = "qcc.param"() {symbol = "table"} : () -> tensor<9x4xf32>
      %k = "qcc.param"() {symbol = "kernel"} : () -> tensor<6x2x3x3xf32>
      %g = "qcc.param"() {symbol = "gain"} : () -> tensor<4xf32>
      %b = "qcc.param"() {symbol = "bias"} : () -> tensor<4xf32>
      %e = tensor.empty() : tensor<2x4x3xf32>
      %y = linalg.transpose ins(%x : tensor<2x3x4xf32>) outs(%e : tensor<2x4x3xf32>)
        permutation = [0, 2, 1]
      %m = "qcc.matmul"(%x, %y) : (tensor<2x3x4xf32>, tensor<2x4x3xf32>) -> tensor<2x3x3xf32>
      %c = "qcc.conv2d"(%image, %k) {stride = array<i64: 2, 2>, padding = [1, 1],
          dilation = array<i64: 1, 1>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}
        : (tensor<1x4x6x6xf32>, tensor<6x2x3x3xf32>) -> tensor<1x6x3x3xf32>
      %l = "qcc.layer_norm"(%x, %b) {epsilon = 1.0e-3 : f64, axes = 1 : i64,
          operandSegmentSizes = array<i32: 1, 0, 1>}
        : (tensor<2x3x4xf32>, tensor<4xf32>) -> tensor<2x3x4xf32>
      %r = "qcc.rms_norm"(%x, %g) {epsilon = 1.0e-3 : f64, axes = 1 : i64,
          operandSegmentSizes = array<i32: 1, 1>}
        : (tensor<2x3x4xf32>, tensor<4xf32>) -> tensor<2x3x4xf32>
      %v = "qcc.embedding"(%t, %i) : (tensor<9x4xf32>, tensor<2xi64>) -> tensor<2x4xf32>
      return %m, %c, %l, %r, %v : tensor<2x3x3xf32>, tensor<1x6x3x3xf32>, tensor<2x3x4xf32>,
        tensor<2x3x4xf32>, tensor<2x4xf32>
    }"""
    params = {"table": floats(9, 4), "kernel": floats(6, 2, 3, 3)}
    params |= {"gain": floats(4), "bias": floats(4)}
    x, image, rows = floats(2, 3, 4), floats(1, 4, 6, 6), i64([7, 1])
    product, convolved, normed, scaled, looked_up = run(text, x, image, rows, params=params)
    assert_allclose(product, x @ x.swapaxes(1, 2), rtol=1e-5, atol=1e-6)
    expected = F.conv2d(*tensors(image, params["kernel"]), stride=2, padding=1, groups=2)
    assert_allclose(convolved, expected, rtol=1e-4, atol=1e-5)
    expected = F.layer_norm(torch.tensor(x), (4,), None, torch.tensor(params["bias"]), 1e-3)
    assert_allclose(normed, expected, rtol=1e-4, atol=1e-6)
    expected = F.rms_norm(torch.tensor(x), (4,), torch.tensor(params["gain"]), 1e-3)
    assert_allclose(scaled, expected, rtol=1e-4, atol=1e-6)
    assert_array_equal(looked_up, params["table"][rows])


CACHED = """
func.func @main(%q: tensor<1x4x?x8xf32>, %k: tensor<1x2x?x8xf32>, %v: tensor<1x2x?x8xf32>,
    %p: tensor<i64>) -> tensor<1x4x?x8xf32> {
  %r = "qcc.attention"(%q, %k, %v, %p) {scale = 0.35 : f64, causal = true, cache = "layer",
      operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}
    : (tensor<1x4x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<i64>)
    -> tensor<1x4x?x8xf32>
  return %r : tensor<1x4x?x8xf32>
}"""


def test_attention_step_by_step_equals_attention_at_once(run):
    q, k, v = floats(1, 4, 7, 8), floats(1, 2, 7, 8), floats(1, 2, 7, 8)
    whole = reference.attention(q, k, v, scale=0.35, causal=True)
    caches: reference.Caches = {}
    for first, last in ((0, 4), (4, 5), (5, 7)):
        part = slice(first, last)
        steps = [array[:, :, part] for array in (q, k, v)]
        (got,) = run(CACHED, *steps, np.array(first), caches=caches)
        assert_allclose(got, whole[:, :, part], rtol=1e-5, atol=1e-6)
    assert_array_equal(caches["layer"][0], k)
    steps = [array[:, :, 3:4] for array in (q, k, v)]  # go back and take another turn
    (got,) = run(CACHED, *steps, np.array(3), caches=caches)
    assert_allclose(got, whole[:, :, 3:4], rtol=1e-5, atol=1e-6)
    assert caches["layer"][0].shape[2] == 4


def test_attention_is_not_causal_unless_it_says_so(run):
    text = CACHED.replace("causal = true", "causal = false")
    q, k, v = floats(1, 4, 3, 8), floats(1, 2, 3, 8), floats(1, 2, 3, 8)
    (got,) = run(text, q, k, v, np.array(0))
    assert_allclose(got, reference.attention(q, k, v, scale=0.35), rtol=1e-5, atol=1e-6)


def test_a_cache_that_is_too_short_is_refused(run):
    step = [floats(1, heads, 1, 8) for heads in (4, 2, 2)]
    with pytest.raises(UsageError, match="'layer' holds 0 positions, 3 are asked for"):
        run(CACHED, *step, np.array(3))


def test_every_op_of_the_dialect_has_a_meaning():
    ops = [getattr(qcc, name) for name in qcc.__all__ if name.endswith("Op")]
    assert set(reference.MEANINGS) == {op.OPERATION_NAME for op in ops}
