"""`linalg.generic` and the named ops: maps of all kinds, boxes, reductions and contractions."""

from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from qcc.dialects.errors import UnsupportedError
from qcc.dialects.interpreter.rules import linalg

f32 = partial(np.array, dtype=np.float32)
i64 = partial(np.array, dtype=np.int64)
i8 = partial(np.array, dtype=np.int8)

RNG = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


def generic(maps: str, kinds: str, ins: list[str], outs: list[str], body: str) -> str:
    """A module of one linalg.generic; `body` has block arguments %0, %1 … in operand order."""
    types = [f"tensor<{t}>" for t in ins + outs]
    names = [f"%a{i}" for i in range(len(types))]
    scalars = [t.split("x")[-1] for t in ins + outs]
    inner = ", ".join(f"%{i}: {scalar}" for i, scalar in enumerate(scalars))
    given = f"ins({', '.join(names[: len(ins)])} : {', '.join(types[: len(ins)])})" if ins else ""
    result = ", ".join(types[len(ins) :])
    listed = ", ".join(f"affine_map<{m}>" for m in maps.split(";"))
    iterators = ", ".join(f'"{kind}"' for kind in kinds.split())
    returned = ", ".join(f"%r#{i}" for i in range(len(outs))) if len(outs) > 1 else "%r"
    return f"""
    func.func @main({", ".join(f"{n}: {t}" for n, t in zip(names, types, strict=True))})
        -> ({result}) {{
      %r{f":{len(outs)}" if len(outs) > 1 else ""} = linalg.generic {{indexing_maps = [{listed}],
        iterator_types = [{iterators}]}} {given}
        outs({", ".join(names[len(ins) :])} : {result}) {{
      ^bb0({inner}):
        {body}
      }} -> ({result})
      return {returned} : {result}
    }}"""


ADD = "%s = arith.addf %0, %1 : f32\n linalg.yield %s : f32"


@pytest.fixture(params=[None, 7], ids=["whole", "boxes of 7"])
def box_limit(request):
    """Run once over whole iteration spaces, once over many small boxes."""
    if request.param is None:
        yield
        return
    with (
        patch.object(linalg, "BODY_LIMIT", request.param),
        patch.object(linalg, "OPERAND_LIMIT", 4 * request.param),
    ):
        yield


@pytest.mark.usefixtures("box_limit")
class TestMaps:
    def test_transposed_and_broadcast_operands(self, run):
        maps = "(i,j)->(j,i);(i,j)->(j);(i,j)->(i,j)"
        text = generic(maps, "parallel parallel", ["?x?xf32", "?xf32"], ["?x?xf32"], ADD)
        a, b = floats(5, 3), floats(5)
        assert_array_equal(run(text, a, b, np.zeros((3, 5), np.float32))[0], a.T + b)

    def test_a_constant_in_a_map_reads_one_slice(self, run):
        maps = "(i,j)->(i,0);(i,j)->(0,j);(i,j)->(i,j)"
        text = generic(maps, "parallel parallel", ["?x1xf32", "1x?xf32"], ["?x?xf32"], ADD)
        a, b = floats(4, 1), floats(1, 6)
        assert_array_equal(run(text, a, b, np.zeros((4, 6), np.float32))[0], a + b)

    def test_a_diagonal(self, run):
        text = generic(
            "(i)->(i,i);(i)->(i)", "parallel", ["?x?xf32"], ["?xf32"], "linalg.yield %0 : f32"
        )
        a = floats(5, 5)
        assert_array_equal(run(text, a, np.zeros(5, np.float32))[0], np.diag(a))

    def test_sums_products_and_negative_steps(self, run):
        maps = "(i,j)->(i*2+j);(i,j)->(4-i,j);(i,j)->(i,j)"
        text = generic(maps, "parallel parallel", ["11xf32", "5x3xf32"], ["5x3xf32"], ADD)
        a, b = floats(11), floats(5, 3)
        expected = a[np.add.outer(2 * np.arange(5), np.arange(3))] + b[::-1]
        assert_array_equal(run(text, a, b, np.zeros((5, 3), np.float32))[0], expected)

    def test_divisions_and_remainders_gather(self, run):
        maps = "(i,j)->(i floordiv 2, j mod 3);(i,j)->(j ceildiv 4);(i,j)->(i,j)"
        text = generic(maps, "parallel parallel", ["3x3xf32", "3xf32"], ["6x7xf32"], ADD)
        a, b = floats(3, 3), floats(3)
        i, j = np.ogrid[:6, :7]
        expected = a[i // 2, j % 3] + b[-(-j // 4)]
        assert_array_equal(run(text, a, b, np.zeros((6, 7), np.float32))[0], expected)

    def test_an_output_written_in_another_order(self, run):
        text = generic(
            "(i,j)->(i,j);(i,j)->(j,i)",
            "parallel parallel",
            ["?x?xf32"],
            ["?x?xf32"],
            "linalg.yield %0 : f32",
        )
        a = floats(4, 3)
        assert_array_equal(run(text, a, np.zeros((3, 4), np.float32))[0], a.T)

    def test_elements_outside_the_map_keep_the_initial_value(self, run):
        text = generic(
            "(i)->(i);(i)->(i,0)", "parallel", ["?xf32"], ["?x2xf32"], "linalg.yield %0 : f32"
        )
        a, initial = floats(4), floats(4, 2)
        expected = np.stack([a, initial[:, 1]], axis=1)
        assert_array_equal(run(text, a, initial)[0], expected)

    def test_index_and_scalar_operands_of_rank_zero(self, run):
        body = """
        %i = linalg.index 0 : index
        %j = linalg.index 1 : index
        %k = arith.muli %i, %j : index
        %c = arith.index_cast %k : index to i64
        %s = arith.addi %c, %0 : i64
        linalg.yield %s : i64"""
        maps = "(i,j)->();(i,j)->(i,j)"
        text = generic(maps, "parallel parallel", ["i64"], ["?x?xi64"], body)
        (got,) = run(text, np.array(100), np.zeros((4, 5), np.int64))
        assert_array_equal(got, 100 + np.multiply.outer(np.arange(4), np.arange(5)), strict=True)

    def test_a_gather_in_a_body(self, run):
        text = """
        func.func @main(%t: tensor<?x4xf32>, %i: tensor<?xi64>, %o: tensor<?x4xf32>)
            -> tensor<?x4xf32> {
          %r = linalg.generic {indexing_maps = [affine_map<(n, d) -> (n)>,
            affine_map<(n, d) -> (n, d)>], iterator_types = ["parallel", "parallel"]}
            ins(%i : tensor<?xi64>) outs(%o : tensor<?x4xf32>) {
          ^bb0(%a: i64, %b: f32):
            %row = arith.index_cast %a : i64 to index
            %column = linalg.index 1 : index
            %e = tensor.extract %t[%row, %column] : tensor<?x4xf32>
            linalg.yield %e : f32
          } -> tensor<?x4xf32>
          return %r : tensor<?x4xf32>
        }"""
        table, rows = floats(9, 4), i64([3, 0, 8])
        assert_array_equal(run(text, table, rows, np.zeros((3, 4), np.float32))[0], table[rows])

    def test_two_outputs_and_a_read_of_the_old_one(self, run):
        body = """
        %s = arith.addf %0, %1 : f32
        linalg.yield %s, %1 : f32, f32"""
        maps = "(i)->(i);(i)->(i);(i)->(i)"
        text = generic(maps, "parallel", ["?xf32"], ["?xf32", "?xf32"], body)
        a, b = floats(20), floats(20)
        total, old = run(text, a, b, np.zeros(20, np.float32))
        assert_array_equal(total, a + b)
        assert_array_equal(old, b)

    def test_an_empty_space(self, run):
        maps = "(i,j)->(i,j);(i,j)->(i)"
        text = generic(maps, "parallel reduction", ["?x?xf32"], ["?xf32"], ADD)
        initial = floats(3)
        assert_array_equal(run(text, np.zeros((3, 0), np.float32), initial)[0], initial)


FOLDS = {
    "addf": np.add,
    "mulf": np.multiply,
    "maximumf": np.maximum,
    "minimumf": np.minimum,
    "maxnumf": np.fmax,
    "minnumf": np.fmin,
}


@pytest.mark.usefixtures("box_limit")
class TestReductions:
    @pytest.mark.parametrize("op", FOLDS)
    @pytest.mark.parametrize("order", ["%0, %1", "%1, %0"])
    def test_float_combiners_over_a_middle_axis(self, run, op, order):
        body = f"%s = arith.{op} {order} : f32\n linalg.yield %s : f32"
        maps = "(i,r,j)->(i,r,j);(i,r,j)->(j,i)"
        text = generic(maps, "parallel reduction parallel", ["?x?x?xf32"], ["?x?xf32"], body)
        a, initial = floats(3, 5, 4), floats(4, 3)
        if "num" in op:
            a[0, 2, 1] = np.nan
        expected = FOLDS[op](initial, FOLDS[op].reduce(a, axis=1).T)
        assert_allclose(run(text, a, initial)[0], expected, rtol=1e-5)

    @pytest.mark.parametrize("op", ["addi", "muli", "maxsi", "minsi", "andi", "ori", "xori"])
    def test_integer_combiners_wrap_and_keep_their_type(self, run, op):
        body = f"%s = arith.{op} %0, %1 : i8\n linalg.yield %s : i8"
        text = generic("(i,j)->(i,j);(i,j)->(i)", "parallel reduction", ["?x?xi8"], ["?xi8"], body)
        a = RNG.integers(-128, 128, (3, 9)).astype(np.int8)
        ufunc = {
            "addi": np.add,
            "muli": np.multiply,
            "maxsi": np.maximum,
            "minsi": np.minimum,
            "andi": np.bitwise_and,
            "ori": np.bitwise_or,
            "xori": np.bitwise_xor,
        }[op]
        initial = i8([1, -2, 3])
        expected = ufunc(initial, ufunc.reduce(a, axis=1, dtype=np.int8))
        assert_array_equal(run(text, a, initial)[0], expected, strict=True)

    @pytest.mark.parametrize(("op", "expected"), [("addi", 1), ("ori", 1), ("andi", 0)])
    def test_bits(self, run, op, expected):
        body = f"%s = arith.{op} %0, %1 : i1\n linalg.yield %s : i1"
        text = generic("(i)->(i);(i)->()", "reduction", ["?xi1"], ["i1"], body)
        bits, initial = np.array([1, 0, 1, 1], bool), np.array(op == "andi")
        assert_array_equal(run(text, bits, initial)[0], np.array(expected, bool), strict=True)

    def test_a_reduction_of_an_expression(self, run):
        body = """
        %d = arith.subf %0, %1 : f32
        %q = arith.mulf %d, %d : f32
        %s = arith.addf %2, %q : f32
        linalg.yield %s : f32"""
        maps = "(i,j)->(i,j);(i,j)->(i);(i,j)->(i)"
        text = generic(maps, "parallel reduction", ["?x?xf32", "?xf32"], ["?xf32"], body)
        a, mean = floats(4, 6), floats(4)
        expected = np.square(a - mean[:, None]).sum(1)
        assert_allclose(run(text, a, mean, np.zeros(4, np.float32))[0], expected, rtol=1e-5)

    def test_a_value_that_ignores_the_reduction_is_counted_each_time(self, run):
        maps = "(i,j)->(i);(i,j)->(j);(i,j)->(i)"
        body = "%s = arith.addf %0, %2 : f32\n linalg.yield %s : f32"
        text = generic(maps, "parallel reduction", ["?xf32", "?xf32"], ["?xf32"], body)
        a = f32([1, 2])
        assert_array_equal(run(text, a, floats(5), np.zeros(2, np.float32))[0], 5 * a)

    @pytest.mark.parametrize("predicate", ["ogt", "oge", "ugt"])
    @pytest.mark.parametrize("with_nan", [False, True])
    def test_argmax(self, run, predicate, with_nan):
        body = f"""
        %i = linalg.index 1 : index
        %n = arith.index_cast %i : index to i64
        %m = arith.maximumf %0, %1 : f32
        %c = arith.cmpf {predicate}, %0, %1 : f32
        %p = arith.select %c, %n, %2 : i64
        linalg.yield %m, %p : f32, i64"""
        maps = "(i,j)->(i,j);(i,j)->(i);(i,j)->(i)"
        text = generic(maps, "parallel reduction", ["?x?xf32"], ["?xf32", "?xi64"], body)
        a = RNG.integers(0, 4, (6, 8)).astype(np.float32)
        if with_nan:
            a[2, 3] = np.nan
        best, where = np.full(6, -np.inf, np.float32), np.zeros(6, np.int64)
        expected_best, expected = best.copy(), where.copy()
        for row in range(6):
            for column in range(8):
                x, m = a[row, column], expected_best[row]
                unordered = np.isnan(x) or np.isnan(m)
                taken = {"ogt": x > m, "oge": x >= m, "ugt": unordered or x > m}[predicate]
                expected_best[row] = np.maximum(x, m)
                expected[row] = column if taken else expected[row]
        got_best, got = run(text, a, best, where)
        assert_array_equal(got_best, expected_best, strict=True)
        assert_array_equal(got, expected, strict=True)

    def test_a_pick_with_the_branches_swapped(self, run):
        body = """
        %z = arith.constant 0.0 : f32
        %c = arith.cmpf olt, %0, %z : f32
        %p = arith.select %c, %1, %0 : f32
        linalg.yield %p : f32"""
        text = generic(
            "(i,j)->(i,j);(i,j)->(i)", "parallel reduction", ["?x?xf32"], ["?xf32"], body
        )
        a = f32([[1, -2, 3, -4], [-1, -1, -1, -1]])
        assert_array_equal(run(text, a, f32([9, 9]))[0], f32([3, 9]))

    def test_a_body_that_is_no_fold_runs_point_by_point(self, run):
        body = """
        %h = arith.mulf %1, %1 : f32
        %s = arith.subf %0, %h : f32
        linalg.yield %s : f32"""
        text = generic(
            "(i,j)->(i,j);(i,j)->(i)", "parallel reduction", ["?x?xf32"], ["?xf32"], body
        )
        a, expected = floats(9, 4), np.zeros(9, np.float32)
        for column in a.T:
            expected = column - expected * expected
        assert_array_equal(run(text, a, np.zeros(9, np.float32))[0], expected)

    def test_the_last_value_of_a_reduction_wins(self, run):
        body = "linalg.yield %0 : f32"
        text = generic(
            "(i,j)->(i,j);(i,j)->(i)", "parallel reduction", ["?x?xf32"], ["?xf32"], body
        )
        a = floats(3, 4)
        assert_array_equal(run(text, a, np.zeros(3, np.float32))[0], a[:, -1])


def named(op: str, ins: list[str], out: str, attributes: str = "") -> str:
    types = [f"tensor<{t}>" for t in [*ins, out]]
    names = [f"%a{i}" for i in range(len(types))]
    arguments = ", ".join(f"{n}: {t}" for n, t in zip(names, types, strict=True))
    return f"""
    func.func @main({arguments}) -> {types[-1]} {{
      %r = linalg.{op} {attributes} ins({", ".join(names[:-1])} : {", ".join(types[:-1])})
        outs({names[-1]} : {types[-1]}) -> {types[-1]}
      return %r : {types[-1]}
    }}"""


@pytest.mark.usefixtures("box_limit")
class TestNamedOps:
    @pytest.mark.parametrize(
        ("op", "left", "right", "equation"),
        [
            ("matmul", (4, 5), (5, 3), "mk,kn->mn"),
            ("batch_matmul", (2, 4, 5), (2, 5, 3), "bmk,bkn->bmn"),
            ("matvec", (4, 5), (5,), "mk,k->m"),
            ("vecmat", (5,), (5, 3), "k,kn->n"),
            ("dot", (5,), (5,), "k,k->"),
        ],
    )
    def test_products(self, run, op, left, right, equation):
        a, b = floats(*left), floats(*right)
        expected = np.einsum(equation, a.astype(np.float64), b.astype(np.float64))
        types = ["x".join([*"?" * array.ndim, "f32"]) for array in (a, b, expected)]
        initial = floats(*expected.shape).reshape(expected.shape)
        (got,) = run(named(op, types[:2], types[2]), a, b, initial)
        assert_allclose(got, expected + initial, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("side", ["a", "b"])
    def test_transposed_products(self, run, side):
        a, b = floats(4, 5), floats(5, 3)
        maps = {"a": "(k,m);(k,n);(m,n)", "b": "(m,k);(n,k);(m,n)"}[side].split(";")
        listed = ", ".join(f"affine_map<(m,n,k)->{m}>" for m in maps)
        text = named("matmul", ["?x?xf32"] * 2, "?x?xf32", f"indexing_maps = [{listed}]")
        operands = (a.T, b) if side == "a" else (a, b.T)
        (got,) = run(text, *operands, np.zeros((4, 3), np.float32))
        assert_allclose(got, a @ b, rtol=1e-5)

    def test_a_product_of_narrow_integers_is_exact(self, run):
        a = RNG.integers(-128, 128, (4, 70)).astype(np.int8)
        b = RNG.integers(-128, 128, (70, 3)).astype(np.int8)
        text = named("matmul", ["?x?xi8"] * 2, "?x?xi32")
        (got,) = run(text, a, b, np.zeros((4, 3), np.int32))
        assert_array_equal(got, a.astype(np.int32) @ b.astype(np.int32), strict=True)

    def test_a_half_precision_product_sums_in_its_own_type(self, run):
        text = named("matmul", ["?x?xf16"] * 2, "?x?xf16")
        a = np.full((1, 3000), 1, np.float16)
        (got,) = run(text, a, a.T.copy(), np.zeros((1, 1), np.float16))
        assert got.dtype == np.float16
        assert abs(float(got[0, 0]) - 3000) <= 960  # one by one it stops at 2048

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("dilation", [1, 2])
    def test_convolutions(self, run, stride, dilation):
        steps = f"{{strides = dense<{stride}> : vector<2xi64>, "
        steps += f"dilations = dense<{dilation}> : vector<2xi64>}}"
        x, w = floats(2, 3, 9, 8), floats(5, 3, 3, 2)
        expected = torch.conv2d(torch.tensor(x), torch.tensor(w), None, stride, 0, dilation)
        text = named("conv_2d_nchw_fchw", ["?x?x?x?xf32"] * 2, "?x?x?x?xf32", steps)
        (got,) = run(text, x, w, np.zeros(expected.shape, np.float32))
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5)

    def test_a_depthwise_convolution(self, run):
        x, w = floats(2, 3, 6, 6), floats(3, 3, 3)
        expected = torch.conv2d(torch.tensor(x), torch.tensor(w[:, None]), groups=3)
        types = ["?x?x?x?xf32", "?x?x?xf32"]
        (got,) = run(
            named("depthwise_conv_2d_nchw_chw", types, "?x?x?x?xf32"),
            x,
            w,
            np.zeros(expected.shape, np.float32),
        )
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("op", "function"), [("max", np.max), ("sum", np.sum)])
    def test_pooling_reads_only_the_shape_of_its_window(self, run, op, function):
        x = floats(1, 2, 6, 6)
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))
        expected = function(windows, axis=(-1, -2))
        initial = np.full(expected.shape, -np.inf if op == "max" else 0, np.float32)
        text = named(f"pooling_nchw_{op}", ["?x?x?x?xf32", "2x3xf32"], "?x?x?x?xf32")
        (got,) = run(text, x, np.full((2, 3), np.nan, np.float32), initial)
        assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    def test_fill_transpose_broadcast_map_and_reduce(self, run):
        text = """
        func.func @main(%a: tensor<3x4xf32>, %x: f32) -> (tensor<3x4xf32>, tensor<4x3xf32>,
            tensor<3x2x4xf32>, tensor<3x4xf32>, tensor<4xf32>) {
          %e = tensor.empty() : tensor<3x4xf32>
          %f = linalg.fill ins(%x : f32) outs(%e : tensor<3x4xf32>) -> tensor<3x4xf32>
          %et = tensor.empty() : tensor<4x3xf32>
          %t = linalg.transpose ins(%a : tensor<3x4xf32>) outs(%et : tensor<4x3xf32>)
            permutation = [1, 0]
          %eb = tensor.empty() : tensor<3x2x4xf32>
          %b = linalg.broadcast ins(%a : tensor<3x4xf32>) outs(%eb : tensor<3x2x4xf32>)
            dimensions = [1]
          %m = linalg.map { math.absf } ins(%a : tensor<3x4xf32>) outs(%e : tensor<3x4xf32>)
          %z = tensor.empty() : tensor<4xf32>
          %zero = arith.constant 0.0 : f32
          %zf = linalg.fill ins(%zero : f32) outs(%z : tensor<4xf32>) -> tensor<4xf32>
          %s = linalg.reduce { arith.addf } ins(%a : tensor<3x4xf32>) outs(%zf : tensor<4xf32>)
            dimensions = [0]
          return %f, %t, %b, %m, %s : tensor<3x4xf32>, tensor<4x3xf32>, tensor<3x2x4xf32>,
            tensor<3x4xf32>, tensor<4xf32>
        }"""
        a = floats(3, 4)
        filled, transposed, broadcast, mapped, reduced = run(text, a, np.float32(2.5))
        assert_array_equal(filled, np.full((3, 4), np.float32(2.5)))
        assert_array_equal(transposed, a.T)
        assert_array_equal(broadcast, np.broadcast_to(a[:, None], (3, 2, 4)))
        assert_array_equal(mapped, np.abs(a))
        assert_allclose(reduced, a.sum(0), rtol=1e-5)


def test_shapes_that_do_not_fit_are_refused(run):
    maps = "(i,j)->(i,j);(i,j)->(j);(i,j)->(i,j)"
    text = generic(maps, "parallel parallel", ["?x?xf32", "?xf32"], ["?x?xf32"], ADD)
    with pytest.raises(UnsupportedError, match="reads index 4 of an array of shape"):
        run(text, floats(3, 5), floats(4), floats(3, 5))
