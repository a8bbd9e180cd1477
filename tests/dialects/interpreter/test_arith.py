"""`arith` against NumPy and Python integers, element types and predicates exhaustively."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

f16 = partial(np.array, dtype=np.float16)
f32 = partial(np.array, dtype=np.float32)
f64 = partial(np.array, dtype=np.float64)
i32 = partial(np.array, dtype=np.int32)
i64 = partial(np.array, dtype=np.int64)
i8 = partial(np.array, dtype=np.int8)
u8 = partial(np.array, dtype=np.uint8)

BYTES = np.arange(-128, 128).astype(np.int8)
LEFT, RIGHT = (grid.ravel() for grid in np.meshgrid(BYTES, BYTES, indexing="ij"))
FLOATS = np.array([np.nan, -np.inf, -1.5, 0.0, 1.0, 1.5, np.inf], np.float32)


def binary(op: str, type_: str, result: str | None = None, count: str = "?") -> str:
    result = result or type_
    return f"""
    func.func @main(%a: tensor<{count}x{type_}>, %b: tensor<{count}x{type_}>)
        -> tensor<{count}x{result}> {{
      %0 = {op} %a, %b : tensor<{count}x{type_}>
      return %0 : tensor<{count}x{result}>
    }}"""


def unary(op: str, source: str, result: str) -> str:
    return f"""
    func.func @main(%a: tensor<?x{source}>) -> tensor<?x{result}> {{
      %0 = {op} %a : tensor<?x{source}> to tensor<?x{result}>
      return %0 : tensor<?x{result}>
    }}"""


def wrapped(values: list[int]) -> np.ndarray:
    return np.array([(v + 128) % 256 - 128 for v in values], np.int8)


def trunc_div(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


SIGNED = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": lambda a, b: a - b,
    "arith.muli": lambda a, b: a * b,
    "arith.andi": lambda a, b: a & b,
    "arith.ori": lambda a, b: a | b,
    "arith.xori": lambda a, b: a ^ b,
    "arith.maxsi": max,
    "arith.minsi": min,
}
UNSIGNED = {"arith.maxui": max, "arith.minui": min}
DIVISIONS = {
    "arith.divsi": trunc_div,
    "arith.remsi": lambda a, b: a - trunc_div(a, b) * b,
    "arith.floordivsi": lambda a, b: a // b,
    "arith.ceildivsi": lambda a, b: -(-a // b),
}
UNSIGNED_DIVISIONS = {
    "arith.divui": lambda a, b: a // b,
    "arith.remui": lambda a, b: a % b,
    "arith.ceildivui": lambda a, b: -(-a // b),
}


@pytest.mark.parametrize("op", SIGNED)
def test_signed_integers_wrap(run, op):
    expected = wrapped([SIGNED[op](int(a), int(b)) for a, b in zip(LEFT, RIGHT, strict=True)])
    assert_array_equal(run(binary(op, "i8"), LEFT, RIGHT)[0], expected, strict=True)


@pytest.mark.parametrize("op", UNSIGNED)
def test_unsigned_reading(run, op):
    pairs = zip(LEFT.view(np.uint8), RIGHT.view(np.uint8), strict=True)
    expected = wrapped([UNSIGNED[op](int(a), int(b)) for a, b in pairs])
    assert_array_equal(run(binary(op, "i8"), LEFT, RIGHT)[0], expected, strict=True)


@pytest.mark.parametrize("op", DIVISIONS)
def test_signed_division(run, op):
    defined = (RIGHT != 0) & ~((LEFT == -128) & (RIGHT == -1))
    left, right = LEFT[defined], RIGHT[defined]
    expected = wrapped([DIVISIONS[op](int(a), int(b)) for a, b in zip(left, right, strict=True)])
    assert_array_equal(run(binary(op, "i8"), left, right)[0], expected, strict=True)


@pytest.mark.parametrize("op", UNSIGNED_DIVISIONS)
def test_unsigned_division(run, op):
    left, right = LEFT[RIGHT != 0], RIGHT[RIGHT != 0]
    pairs = zip(left.view(np.uint8), right.view(np.uint8), strict=True)
    expected = wrapped([UNSIGNED_DIVISIONS[op](int(a), int(b)) for a, b in pairs])
    assert_array_equal(run(binary(op, "i8"), left, right)[0], expected, strict=True)


@pytest.mark.parametrize(
    ("op", "meaning"),
    [
        ("arith.shli", lambda a, b: a << b),
        ("arith.shrsi", lambda a, b: a >> b),
        ("arith.shrui", lambda a, b: (a % 256) >> b),
    ],
)
def test_shifts(run, op, meaning):
    legal = (RIGHT >= 0) & (RIGHT < 8)
    left, right = LEFT[legal], RIGHT[legal]
    expected = wrapped([meaning(int(a), int(b)) for a, b in zip(left, right, strict=True)])
    assert_array_equal(run(binary(op, "i8"), left, right)[0], expected, strict=True)


@pytest.mark.parametrize("sign", ["s", "u"])
def test_wide_products(run, sign):
    text = f"""
    func.func @main(%a: tensor<?xi8>, %b: tensor<?xi8>) -> (tensor<?xi8>, tensor<?xi8>) {{
      %0:2 = arith.mul{sign}i_extended %a, %b : tensor<?xi8>
      return %0#0, %0#1 : tensor<?xi8>, tensor<?xi8>
    }}"""
    low, high = run(text, LEFT, RIGHT)
    wide = np.int32 if sign == "s" else np.uint8
    product = LEFT.view(wide if sign == "u" else np.int8).astype(np.int32)
    product = product * RIGHT.view(wide if sign == "u" else np.int8).astype(np.int32)
    assert_array_equal(low, wrapped(product.tolist()))
    assert_array_equal(high, wrapped((product >> 8).tolist()))


def test_addition_with_carry(run):
    text = """
    func.func @main(%a: tensor<?xi8>, %b: tensor<?xi8>) -> (tensor<?xi8>, tensor<?xi1>) {
      %0:2 = arith.addui_extended %a, %b : tensor<?xi8>, tensor<?xi1>
      return %0#0, %0#1 : tensor<?xi8>, tensor<?xi1>
    }"""
    total, carry = run(text, LEFT, RIGHT)
    wide = LEFT.view(np.uint8).astype(int) + RIGHT.view(np.uint8)
    assert_array_equal(total, wrapped(wide.tolist()))
    assert_array_equal(carry, wide > 255, strict=True)


@pytest.mark.parametrize("op", ["addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minui"])
def test_bits_are_integers_modulo_two(run, op):
    left, right = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    expected = {
        "addi": left ^ right,
        "subi": left ^ right,
        "muli": left & right,
        "andi": left & right,
        "ori": left | right,
        "xori": left ^ right,
        "maxsi": left & right,  # as signed numbers, true is -1
        "minui": left & right,
    }[op]
    assert_array_equal(run(binary(f"arith.{op}", "i1"), left, right)[0], expected, strict=True)


@pytest.mark.parametrize(
    ("predicate", "meaning"),
    [
        ("eq", np.equal),
        ("ne", np.not_equal),
        ("slt", np.less),
        ("sle", np.less_equal),
        ("sgt", np.greater),
        ("sge", np.greater_equal),
        ("ult", np.less),
        ("ule", np.less_equal),
        ("ugt", np.greater),
        ("uge", np.greater_equal),
    ],
)
def test_integer_predicates(run, predicate, meaning):
    kind = np.uint8 if predicate.startswith("u") else np.int8
    expected = meaning(LEFT.view(kind), RIGHT.view(kind))
    text = binary(f"arith.cmpi {predicate},", "i8", "i1")
    assert_array_equal(run(text, LEFT, RIGHT)[0], expected, strict=True)


@pytest.mark.parametrize("ordered", ["eq", "gt", "ge", "lt", "le", "ne"])
def test_float_predicates(run, ordered):
    left, right = (grid.ravel() for grid in np.meshgrid(FLOATS, FLOATS))
    unordered = np.isnan(left) | np.isnan(right)
    names = {"gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal"}
    names |= {"eq": "equal", "ne": "not_equal"}
    holds = getattr(np, names[ordered])(left, right)
    for prefix, expected in (("o", holds & ~unordered), ("u", holds | unordered)):
        text = binary(f"arith.cmpf {prefix}{ordered},", "f32", "i1")
        assert_array_equal(run(text, left, right)[0], expected, strict=True)


@pytest.mark.parametrize(("predicate", "on_nan", "else_"), [("ord", 0, 1), ("uno", 1, 0)])
def test_float_order_itself(run, predicate, on_nan, else_):
    got = run(binary(f"arith.cmpf {predicate},", "f32", "i1"), FLOATS, FLOATS)[0]
    assert_array_equal(got, np.where(np.isnan(FLOATS), on_nan, else_).astype(bool))


def test_float_minima_and_nan(run):
    left, right = f32([np.nan, 1, 2]), f32([0, np.nan, 3])
    for op, expected in {
        "maximumf": [np.nan, np.nan, 3],
        "minimumf": [np.nan, np.nan, 2],
        "maxnumf": [0, 1, 3],
        "minnumf": [0, 1, 2],
    }.items():
        got = run(binary(f"arith.{op}", "f32"), left, right)[0]
        assert_array_equal(got, np.float32(expected), strict=True)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_float_arithmetic_keeps_its_type(run, dtype):
    kind = {"f16": "float16", "bf16": ml_dtypes.bfloat16, "f32": "float32", "f64": "float64"}[dtype]
    left, right = np.array([1.1, -2.7, 3.3], kind), np.array([0.3, 0.7, -1.9], kind)
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    for op, ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply}.items():
        got = run(binary(f"arith.{op}f", dtype), left, right)[0]
        assert_array_equal(got, ufunc(wide_left, wide_right).astype(kind), strict=True)


@pytest.mark.parametrize(
    ("op", "source", "result", "values", "expected"),
    [
        ("sitofp", "i1", "f32", np.array([0, 1], bool), f32([0, -1])),
        ("uitofp", "i1", "f32", np.array([0, 1], bool), f32([0, 1])),
        ("uitofp", "i8", "f32", i8([-1, 3]), f32([255, 3])),
        ("extsi", "i1", "i64", np.array([0, 1], bool), i64([0, -1])),
        ("extui", "i1", "i64", np.array([0, 1], bool), i64([0, 1])),
        ("extui", "i8", "i32", i8([-1, 5]), i32([255, 5])),
        ("trunci", "i64", "i8", i64([257, -1]), i8([1, -1])),
        ("trunci", "i64", "i1", i64([2, 3]), np.array([0, 1], bool)),
        ("fptosi", "f32", "i32", f32([-1.9, 2.9]), i32([-1, 2])),
        ("fptoui", "f32", "i8", f32([200.5, 2.9]), u8([200, 2]).view(np.int8)),
        ("fptoui", "f32", "i1", f32([0.5, 1.5]), np.array([0, 1], bool)),
        ("truncf", "f32", "bf16", f32([1.00390625, 3]), np.array([1, 3], "bfloat16")),
        ("truncf", "f64", "f16", f64([1e9, 0.1]), f16([np.inf, 0.1])),
        ("extf", "bf16", "f32", np.array([1.5], "bfloat16"), f32([1.5])),
        ("index_cast", "i32", "index", i32([-1, 4]), i64([-1, 4])),
        ("index_castui", "i32", "index", i32([-1, 4]), i64([2**32 - 1, 4])),
        ("bitcast", "f32", "i32", f32([1.0]), i32([0x3F800000])),
    ],
)
def test_casts(run, op, source, result, values, expected):
    assert_array_equal(run(unary(f"arith.{op}", source, result), values)[0], expected, strict=True)


def test_select_by_one_condition_and_by_many(run):
    text = """
    func.func @main(%c: i1, %m: tensor<2xi1>, %a: tensor<2xf32>, %b: tensor<2xf32>)
        -> (tensor<2xf32>, tensor<2xf32>) {
      %0 = arith.select %c, %a, %b : tensor<2xf32>
      %1 = arith.select %m, %a, %b : tensor<2xi1>, tensor<2xf32>
      return %0, %1 : tensor<2xf32>, tensor<2xf32>
    }"""
    a, b = f32([1, 2]), f32([3, 4])
    one, many = run(text, np.array(True), np.array([False, True]), a, b)
    assert_array_equal(one, a)
    assert_array_equal(many, f32([3, 2]))


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("dense<1.5> : tensor<2x2xf32>", np.full((2, 2), np.float32(1.5))),
        ("dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>", i8([[1, 2], [3, 4]])),
        ("dense<[true, false]> : tensor<2xi1>", np.array([True, False])),
        ("dense<[1, -2]> : tensor<2xindex>", i64([1, -2])),
        ("dense<2.5> : tensor<3xbf16>", np.full(3, 2.5, "bfloat16")),
        (
            "dense<[1.5, 0x7F80, -3.0]> : tensor<3xbf16>",
            np.array([1.5, np.inf, -3], "bfloat16"),
        ),
        ("dense<[0.5, 448.0]> : tensor<2xf8E4M3FN>", np.array([0.5, 448], "float8_e4m3fn")),
        ("dense<> : tensor<0xf32>", np.zeros(0, np.float32)),
        ("dense_resource<blob> : tensor<3xf32>", f32([0, 1, 2])),
    ],
)
def test_constants(run, literal, expected):
    type_ = literal.rsplit(" : ", 1)[1]
    text = f"""
    func.func @main() -> {type_} {{
      %0 = arith.constant {literal}
      return %0 : {type_}
    }}
    {{-# dialect_resources: {{ builtin: {{
      blob: "0x04000000000000000000803F00000040" }} }} #-}}"""
    assert_array_equal(run(text)[0], expected, strict=True)


def test_many_bfloat16_constants_are_read_from_their_bits(run):
    values = (np.arange(200) / 8).astype("bfloat16")
    text = f"""
    func.func @main() -> tensor<200xbf16> {{
      %0 = arith.constant dense<{[float(v) for v in values]}> : tensor<200xbf16>
      return %0 : tensor<200xbf16>
    }}"""
    assert_array_equal(run(text)[0], values, strict=True)
