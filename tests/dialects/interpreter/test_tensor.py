"""`tensor` against NumPy slicing."""

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcc.dialects.errors import UsageError

f32 = partial(np.array, dtype=np.float32)
i64 = partial(np.array, dtype=np.int64)

GRID = np.arange(24, dtype=np.float32).reshape(4, 6)


def test_dim_rank_and_empty(run):
    text = """
    func.func @main(%a: tensor<?x6xf32>) -> (index, index, tensor<?x2xi64>) {
      %c0 = arith.constant 0 : index
      %d = tensor.dim %a, %c0 : tensor<?x6xf32>
      %r = tensor.rank %a : tensor<?x6xf32>
      %e = tensor.empty(%d) : tensor<?x2xi64>
      return %d, %r, %e : index, index, tensor<?x2xi64>
    }"""
    extent, rank, empty = run(text, GRID)
    assert (extent, rank, empty.shape, empty.dtype) == (4, 2, (4, 2), np.int64)


def test_extract_and_insert_one_element(run):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %i: index) -> (f32, tensor<4x6xf32>) {
      %c2 = arith.constant 2 : index
      %e = tensor.extract %a[%i, %c2] : tensor<4x6xf32>
      %n = arith.negf %e : f32
      %r = tensor.insert %n into %a[%i, %c2] : tensor<4x6xf32>
      return %e, %r : f32, tensor<4x6xf32>
    }"""
    element, inserted = run(text, GRID, np.array(3))
    assert element == GRID[3, 2]
    expected = GRID.copy()
    expected[3, 2] *= -1
    assert_array_equal(inserted, expected)


@pytest.mark.parametrize("row", [-1, 4])
def test_an_index_outside_is_refused(run, row):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %i: index) -> f32 {
      %e = tensor.extract %a[%i, %i] : tensor<4x6xf32>
      return %e : f32
    }"""
    with pytest.raises(UsageError, match=f"index {row} on axis 0") as caught:
        run(text, GRID, np.array(row))
    assert caught.value.code == "index-range"


def test_slices_with_strides_and_dynamic_offsets(run):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %o: index, %n: index) -> tensor<?x3xf32> {
      %r = tensor.extract_slice %a[%o, 1] [%n, 3] [1, 2] : tensor<4x6xf32> to tensor<?x3xf32>
      return %r : tensor<?x3xf32>
    }"""
    assert_array_equal(run(text, GRID, np.array(1), np.array(2))[0], GRID[1:3, 1:6:2])
    with pytest.raises(UsageError, match="leaves axis 0"):
        run(text, GRID, np.array(3), np.array(2))


@pytest.mark.parametrize(
    ("sizes", "result", "shape"),
    [("1, 6", "6", (6,)), ("4, 1", "4", (4,)), ("1, 1", "", ()), ("1, 1", "1x", (1,))],
)
def test_slices_drop_unit_axes(run, sizes, result, shape):
    type_ = f"tensor<{result.removesuffix('x')}{'x' if result else ''}f32>"
    text = f"""
    func.func @main(%a: tensor<4x6xf32>) -> {type_} {{
      %r = tensor.extract_slice %a[0, 0] [{sizes}] [1, 1] : tensor<4x6xf32> to {type_}
      return %r : {type_}
    }}"""
    (got,) = run(text, GRID)
    assert got.shape == shape
    assert got.ravel()[0] == GRID[0, 0]


def test_insert_slice_leaves_its_operand_alone(run):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %b: tensor<2xf32>) -> (tensor<4x6xf32>, tensor<4x6xf32>) {
      %r = tensor.insert_slice %b into %a[1, 2] [1, 2] [1, 3]
        : tensor<2xf32> into tensor<4x6xf32>
      return %r, %a : tensor<4x6xf32>, tensor<4x6xf32>
    }"""
    inserted, original = run(text, GRID, f32([-1, -2]))
    expected = GRID.copy()
    expected[1, 2:6:3] = [-1, -2]
    assert_array_equal(inserted, expected)
    assert_array_equal(original, np.arange(24).reshape(4, 6))


def test_reshapes(run):
    text = """
    func.func @main(%a: tensor<?x6xf32>, %n: index, %s: tensor<3xindex>)
        -> (tensor<?x2x3xf32>, tensor<?xf32>, tensor<?x?x?xf32>) {
      %e = tensor.expand_shape %a [[0], [1, 2]] output_shape [%n, 2, 3]
        : tensor<?x6xf32> into tensor<?x2x3xf32>
      %c = tensor.collapse_shape %e [[0, 1, 2]] : tensor<?x2x3xf32> into tensor<?xf32>
      %r = tensor.reshape %a(%s) : (tensor<?x6xf32>, tensor<3xindex>) -> tensor<?x?x?xf32>
      return %e, %c, %r : tensor<?x2x3xf32>, tensor<?xf32>, tensor<?x?x?xf32>
    }"""
    expanded, collapsed, reshaped = run(text, GRID, np.array(4), i64([2, 3, 4]))
    assert_array_equal(expanded, GRID.reshape(4, 2, 3))
    assert_array_equal(collapsed, GRID.ravel())
    assert_array_equal(reshaped, GRID.reshape(2, 3, 4))


def test_a_cast_checks_the_shape(run):
    text = """
    func.func @main(%a: tensor<?x6xf32>) -> tensor<4x6xf32> {
      %r = tensor.cast %a : tensor<?x6xf32> to tensor<4x6xf32>
      return %r : tensor<4x6xf32>
    }"""
    assert_array_equal(run(text, GRID)[0], GRID)
    with pytest.raises(UsageError, match=r"shape \[3, 6\] is not a tensor<4x6xf32>"):
        run(text, GRID[:3])


def test_concat_and_splat_and_from_elements(run):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %b: tensor<4x1xf32>, %x: f32)
        -> (tensor<4x7xf32>, tensor<2x2xf32>, tensor<1x3xf32>) {
      %c = tensor.concat dim(1) %a, %b : (tensor<4x6xf32>, tensor<4x1xf32>) -> tensor<4x7xf32>
      %s = tensor.splat %x : tensor<2x2xf32>
      %y = arith.addf %x, %x : f32
      %f = tensor.from_elements %x, %y, %x : tensor<1x3xf32>
      return %c, %s, %f : tensor<4x7xf32>, tensor<2x2xf32>, tensor<1x3xf32>
    }"""
    joined, splat, elements = run(text, GRID, GRID[:, :1], np.float32(7))
    assert_array_equal(joined, np.concatenate([GRID, GRID[:, :1]], axis=1))
    assert_array_equal(splat, np.full((2, 2), 7, np.float32), strict=True)
    assert_array_equal(elements, f32([[7, 14, 7]]), strict=True)


def test_pad_with_a_constant_and_with_a_function_of_the_index(run):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %n: index) -> tensor<?x9xf32> {
      %p = tensor.pad %a low[%n, 1] high[0, 2] {
      ^bb0(%i: index, %j: index):
        %s = arith.addi %i, %j : index
        %k = arith.index_cast %s : index to i64
        %f = arith.sitofp %k : i64 to f32
        tensor.yield %f : f32
      } : tensor<4x6xf32> to tensor<?x9xf32>
      return %p : tensor<?x9xf32>
    }"""
    (got,) = run(text, GRID, np.array(2))
    expected = np.add.outer(np.arange(6), np.arange(9)).astype(np.float32)
    expected[2:, 1:7] = GRID
    assert_array_equal(got, expected, strict=True)


def test_generate(run):
    text = """
    func.func @main(%n: index) -> tensor<?x3xi1> {
      %g = tensor.generate %n {
      ^bb0(%i: index, %j: index):
        %c = arith.cmpi sle, %j, %i : index
        tensor.yield %c : i1
      } : tensor<?x3xi1>
      return %g : tensor<?x3xi1>
    }"""
    assert_array_equal(run(text, np.array(2))[0], np.tri(2, 3, dtype=bool), strict=True)


def test_gather_and_scatter(run):
    text = """
    func.func @main(%a: tensor<4x6xf32>, %i: tensor<2x1xi64>)
        -> (tensor<2x6xf32>, tensor<2x1x6xf32>, tensor<4x6xf32>) {
      %g = tensor.gather %a[%i] gather_dims([0])
        : (tensor<4x6xf32>, tensor<2x1xi64>) -> tensor<2x6xf32>
      %k = tensor.gather %a[%i] gather_dims([0])
        : (tensor<4x6xf32>, tensor<2x1xi64>) -> tensor<2x1x6xf32>
      %n = arith.negf %k : tensor<2x1x6xf32>
      %s = tensor.scatter %n into %a[%i] scatter_dims([0]) unique
        : (tensor<2x1x6xf32>, tensor<4x6xf32>, tensor<2x1xi64>) -> tensor<4x6xf32>
      return %g, %k, %s : tensor<2x6xf32>, tensor<2x1x6xf32>, tensor<4x6xf32>
    }"""
    rows, kept, scattered = run(text, GRID, i64([[3], [1]]))
    assert_array_equal(rows, GRID[[3, 1]])
    assert_array_equal(kept, GRID[[3, 1]][:, None])
    expected = GRID.copy()
    expected[[3, 1]] *= -1
    assert_array_equal(scattered, expected)


def test_bitcast(run):
    text = """
    func.func @main(%a: tensor<2xf32>) -> tensor<2xi32> {
      %r = tensor.bitcast %a : tensor<2xf32> to tensor<2xi32>
      return %r : tensor<2xi32>
    }"""
    values = f32([1.5, -2])
    assert_array_equal(run(text, values)[0], values.view(np.int32), strict=True)
