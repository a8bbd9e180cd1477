"""torch-mlir's scan, sort and scatter against NumPy."""

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcc.dialects.errors import UnsupportedError, UsageError

f32 = partial(np.array, dtype=np.float32)
i32 = partial(np.array, dtype=np.int32)
i64 = partial(np.array, dtype=np.int64)

RNG = np.random.default_rng(7)


def scan(inclusive: str, body: str) -> str:
    return f"""
    func.func @main(%a: tensor<?x?xf32>, %o: tensor<?x?xf32>, %s: tensor<?xf32>)
        -> (tensor<?x?xf32>, tensor<?xf32>) {{
      %r:2 = tm_tensor.scan dimension(1) inclusive({inclusive}) ins(%a : tensor<?x?xf32>)
        outs(%o, %s : tensor<?x?xf32>, tensor<?xf32>) {{
      ^bb0(%0: f32, %1: f32):
        {body}
      }} -> tensor<?x?xf32>, tensor<?xf32>
      return %r#0, %r#1 : tensor<?x?xf32>, tensor<?xf32>
    }}"""


ADD = "%2 = arith.addf %0, %1 : f32\n tm_tensor.yield %2 : f32"


def test_inclusive_scan(run):
    a = RNG.standard_normal((3, 6), np.float32)
    prefixes, last = run(scan("true", ADD), a, np.zeros_like(a), np.zeros(3, np.float32))
    assert_allclose(prefixes, np.cumsum(a, axis=1), rtol=1e-6)
    assert_array_equal(last, prefixes[:, -1])


def test_exclusive_scan_begins_with_the_accumulator(run):
    a = f32([[1, 2, 3]])
    prefixes, last = run(scan("false", ADD), a, np.zeros_like(a), f32([10]))
    assert_array_equal(prefixes, [[10, 11, 13]])
    assert_array_equal(last, [13])


def test_scan_of_a_body_that_is_no_ufunc(run):
    body = """
    %2 = arith.mulf %0, %0 : f32
    %3 = arith.subf %1, %2 : f32
    tm_tensor.yield %3 : f32"""
    a = f32([[1, 2, 3, 4]])
    prefixes, _ = run(scan("true", body), a, np.zeros_like(a), np.zeros(1, np.float32))
    assert_array_equal(prefixes, [[1, 1, 2, 0]])


def sort(op: str, type_: str, operands: str = "%0, %1") -> str:
    return f"""
    func.func @main(%a: tensor<?x?x{type_}>, %b: tensor<?x?xi64>)
        -> (tensor<?x?x{type_}>, tensor<?x?xi64>) {{
      %r:2 = tm_tensor.sort dimension(0) outs(%a, %b : tensor<?x?x{type_}>, tensor<?x?xi64>) {{
      ^bb0(%0: {type_}, %1: {type_}, %2: i64, %3: i64):
        %c = {op} {operands} : {type_}
        tm_tensor.yield %c : i1
      }} -> tensor<?x?x{type_}>, tensor<?x?xi64>
      return %r#0, %r#1 : tensor<?x?x{type_}>, tensor<?x?xi64>
    }}"""


@pytest.mark.parametrize(
    ("text", "larger_first"),
    [
        (sort("arith.cmpf oge,", "f32"), True),
        (sort("arith.cmpf ole,", "f32"), False),
        (sort("arith.cmpf ole,", "f32", "%1, %0"), True),
        (sort("arith.cmpi sge,", "i64"), True),
        (sort("arith.cmpi sle,", "i64"), False),
    ],
)
def test_sort_is_stable_and_carries_the_others_along(run, text, larger_first):
    dtype = np.int64 if "cmpi" in text else np.float32
    keys = RNG.integers(0, 4, (12, 3)).astype(dtype)
    places = np.broadcast_to(np.arange(12)[:, None], keys.shape)
    got, order = run(text, keys, places)
    expected = np.argsort(-keys if larger_first else keys, axis=0, kind="stable")
    assert_array_equal(order, expected)
    assert_array_equal(got, np.take_along_axis(keys, expected, 0), strict=True)


def test_sort_by_an_unknown_order_is_refused(run):
    with pytest.raises(UnsupportedError, match="something else than one comparison"):
        run(sort("arith.cmpi eq,", "i64"), *(np.zeros((2, 2), np.int64),) * 2)


def scatter(updates: str, indices: str, original: str, axes: str, body: str) -> str:
    element = original.split("x")[-1]
    return f"""
    func.func @main(%u: tensor<{updates}>, %i: tensor<{indices}>, %o: tensor<{original}>)
        -> tensor<{original}> {{
      %r = tm_tensor.scatter {{dimension_map = array<i64: {axes}>}} unique_indices(false)
        ins(%u, %i : tensor<{updates}>, tensor<{indices}>) outs(%o : tensor<{original}>) {{
      ^bb0(%0: {element}, %1: {element}):
        {body}
      }} -> tensor<{original}>
      return %r : tensor<{original}>
    }}"""


REPLACE = "tm_tensor.yield %0 : f32"
HALVE_AND_ADD = """
%h = arith.constant 0.5 : f32
%m = arith.mulf %1, %h : f32
%2 = arith.addf %m, %0 : f32
tm_tensor.yield %2 : f32"""


@pytest.mark.parametrize(
    ("body", "combine"),
    [
        (REPLACE, lambda update, old: update),
        (ADD, lambda update, old: old + update),
        (HALVE_AND_ADD, lambda update, old: old / 2 + update),
    ],
)
def test_scatter_of_rows_meets_repeated_indices_in_order(run, body, combine):
    updates = RNG.standard_normal((4, 3), np.float32)
    original = RNG.standard_normal((6, 3), np.float32)
    rows = [5, 2, 5, 0]
    expected = original.copy()
    for row, update in zip(rows, updates, strict=True):
        expected[row] = combine(update, expected[row])
    text = scatter("?x3xf32", "?x1xi64", "?x3xf32", "0", body)
    (got,) = run(text, updates, i64(rows)[:, None], original)
    assert_allclose(got, expected, rtol=1e-6)


def test_scatter_of_elements_by_full_coordinates(run):
    text = scatter("?xf32", "?x2xi32", "?x?xf32", "1, 0", ADD)
    original = np.zeros((3, 4), np.float32)
    (got,) = run(text, f32([1, 2]), i32([[3, 0], [0, 2]]), original)
    expected = original.copy()
    expected[0, 3], expected[2, 0] = 1, 2
    assert_array_equal(got, expected)


def test_scatter_of_windows_starts_at_the_index(run):
    text = scatter("?x2x3xf32", "?x1xi64", "?x3xf32", "0", REPLACE)
    updates, original = RNG.standard_normal((1, 2, 3), np.float32), np.zeros((5, 3), np.float32)
    (got,) = run(text, updates, i64([[2]]), original)
    assert_array_equal(got[2:4], updates[0])
    assert not got[[0, 1, 4]].any()


def test_scatter_outside_is_refused(run):
    text = scatter("?xf32", "?x1xi64", "?xf32", "0", REPLACE)
    with pytest.raises(UsageError, match="index 3 on axis 0"):
        run(text, f32([1]), i64([[3]]), np.zeros(3, np.float32))
