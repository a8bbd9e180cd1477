"""Dynamic quantization on the CPU against the NumPy encoder, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.codegen.cpu.lower import lower_to_llvm
from qcc.codegen.cpu.runtime import BufferType, CompiledObject
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import from_definition, parse_spelling
from qcc.dialects.formats.elements import element_values

F32 = np.dtype(np.float32)
LADDER = "table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]"
NO_ZERO = "table=[-1,-0.7,-0.5,-0.3,-0.2,-0.1,-0.05,0.01,0.05,0.1,0.2,0.3,0.4,0.5,0.7,0.9]"
FAMILIES = {
    "int": [
        *(f"{kind}int{bits}<symmetric={symmetric}>" for kind in ("", "u") for bits in range(2, 9)
          for symmetric in ("true", "false")),
        *(f"int{bits}<group={group},symmetric={symmetric}>" for bits in (4, 8)
          for group in ("32", "5", "tensor") for symmetric in ("true", "false")),
        *(f"{kind}<rounding={rounding}>" for kind in ("int8", "uint4")
          for rounding in ("nearest", "floor")),
    ],
    "cast": ["fp16", "bf16", "fp32", "nestedfp16", *(
        f"{kind}<rounding={rounding}>" for kind in ("fp8_e4m3", "fp8_e5m2", "fp8_152", "fp16_169")
        for rounding in ("even", "nearest", "floor")
    )],
    "scaled": [
        f"{kind}<group={group}>" for kind in ("fp8_e4m3", "fp8_e5m2", "fp8_152", "fp16_169")
        for group in ("channel", "tensor", "32", "7")
    ],
    "mx": [
        *(f"{kind}<scale={scale}>" for scale in ("floor", "ceil", "even", "rceil") for kind in
          ("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8")),
        *(f"{kind}<rounding={rounding}>" for kind in ("mxfp4", "mxfp6_e2m3", "mxint8")
          for rounding in ("nearest", "floor")),
        *(f"mxfp8_e4m3<scale={scale},compat=torchao>" for scale in ("floor", "rceil")),
    ],
    "fp4": [
        "nvfp4", "nvfp4<two_level=true>", "nvfp4<two_level=true,rounding=floor>",
        "nvfp4<two_level=true,tensor_scale=0.37>",
        *(f"amxfp4<scale={scale}>" for scale in ("e5m2", "e4m3", "pot", "potr", "fp32")),
        "amxfp4<rounding=even>", "amxfp4<flush=smallest>", "amxfp4<scale=e4m3,max480=true>",
    ],
    "table": [
        "nf4", "nf4<group=tensor>", *(f"lut4<{table},group={group}>" for table in (LADDER, NO_ZERO)
                                      for group in ("channel", "tensor", "none")),
        f"lut4<{NO_ZERO},scale=fp16>",
    ],
    "other": [
        *(f"dint{bits}<group={group},symmetric={symmetric}>" for bits in (3, 4)
          for group in ("channel", "tensor", "12") for symmetric in ("true", "false")),
        *(f"{name},scale={scale}>" for scale in ("fp16", "bf16") for name in
          ("int4<group=8", "int8<group=tensor", "uint3<group=5", "nf4<group=channel",
           "dint4<group=12")),
        "pact4", "pact8<group=channel>", "pact2<alpha=6.0>", "sawb4<alpha=1.5>",
        "sawb2<group=channel,alpha=0.5,zero_level=true>",
    ],
}  # fmt: skip
EVERY_KIND = (
    "int8", "int4<group=8,symmetric=false>", "uint4<group=5>", "int8<group=tensor>", "fp8_e4m3",
    "bf16", "mxfp4", "mxint8", "nvfp4<two_level=true>", "amxfp4", "dint4", "nf4<group=channel>",
)  # fmt: skip
RAGGED_LENGTHS = (1, 7, 31, 33, 40)
CASES = [(family, spelling) for family, members in FAMILIES.items() for spelling in members]

Shape = tuple[int | None, ...]


def tensor(shape: Shape, element: str = "f32") -> str:
    return f"tensor<{'x'.join([*('?' if n is None else str(n) for n in shape), element])}>"


def round_trip(name: str, spelling: str, shape: Shape) -> str:
    plain = tensor(shape)
    packed = f'!qcc.packed<{plain}, "{parse_spelling(spelling).spelling}">'
    return f"""
        func.func @{name}(%x: {plain}) -> {plain} {{
          %q = "qcc.quantize"(%x) : ({plain}) -> {packed}
          %y = "qcc.dequantize"(%q) : ({packed}) -> {plain}
          return %y : {plain}
        }}"""


def build(text: str) -> tuple[bytes, list[str]]:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        parts = lower_to_llvm(module).parameters.names
        return build_object(module), parts


@lru_cache
def compiled(spellings: tuple[str, ...], lengths: tuple[int | None, ...]) -> bytes:
    """An object whose function `f<i>_<length>` rounds rows to the i-th spelling."""
    return build("\n".join(
        round_trip(f"f{i}_{length}", spelling, (None, length))
        for i, spelling in enumerate(spellings) for length in lengths
    ))[0]  # fmt: skip


@contextmanager
def loaded(code: bytes, threads: int, parameters: Sequence[np.ndarray] = ()) -> Iterator[Any]:
    """call(name, *inputs) of an object, for functions with one fp32 result."""
    with closing(CompiledObject(code, parameters, threads)) as object_:
        yield lambda name, *inputs, rank=2: object_.call(name, inputs, [BufferType(F32, rank)])[0]


def assert_same_bits(found: np.ndarray, expected: np.ndarray, inputs: np.ndarray) -> None:
    assert found.shape == expected.shape
    different = found.view(np.int32) != expected.view(np.int32)
    different &= ~(np.isnan(found) & np.isnan(expected))  # inf * 0: any NaN will do
    if different.any():
        at = tuple(np.argwhere(different)[0])
        pytest.fail(
            f"{different.sum()} values differ, first at {at}: {inputs[at]!r} became "
            f"{found[at]!r}, not {expected[at]!r}"
        )


def expected_of(spelling: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return parse_spelling(spelling).quantize(x, axis=-1).dequantize()


@lru_cache
def halves() -> np.ndarray:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    return values[np.isfinite(values)]


def ties(spelling: str) -> np.ndarray:
    """Every value of the element, every midpoint of two, and their neighbours in fp32."""
    fmt = parse_spelling(spelling)
    if fmt.bits > 16:
        return np.zeros(1, np.float32)
    values = element_values(fmt.element)
    values = np.unique(values[np.isfinite(values)])
    with np.errstate(over="ignore"):
        at = np.concatenate([values, values[1:] / 2 + values[:-1] / 2])
        around = [at, *(np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf))]
    every = np.concatenate(around)
    return every[np.isfinite(every)]


def samples(spelling: str, length: int) -> Iterator[np.ndarray]:
    """Rows of `length`: all halves, ties, rows of all sizes with outliers, random bit patterns."""
    random = np.random.default_rng(length)
    sizes = np.exp2(random.integers(-149, 110, (150, 1)).astype(np.float64))
    rows = random.standard_normal((150, length)) * sizes
    rows[:, ::9] *= 50
    rows[3], rows[4], rows[5, 1:] = 0, -0.0, 0
    rows[6:20] = np.abs(rows[6:20])
    rows[20:30] = -np.abs(rows[20:30])
    bits = random.integers(0, 1 << 32, (300, length), dtype=np.uint64).astype(np.uint32)
    patterns = bits.view(np.float32)
    exact, near = halves(), ties(spelling)
    limit = parse_spelling(spelling).admits
    for x in (
        np.resize(exact, (-(-len(exact) // length), length)),
        np.resize(near, (-(-len(near) // length), length)),
        rows.astype(np.float32),
        np.where(np.isfinite(patterns), patterns, np.float32(1)),
    ):
        yield x if limit is None else np.clip(x, -limit.max_abs, limit.max_abs)


@pytest.mark.parametrize(("family", "spelling"), CASES)
def test_rounds_as_numpy_does(family: str, spelling: str) -> None:
    members = FAMILIES[family]
    code = compiled(tuple(members), (64, None))
    index = members.index(spelling)
    checks = [
        (f"f{index}_{static}", x, expected_of(spelling, x))
        for static, length in ((64, 64), (None, 70))
        for x in samples(spelling, length)
    ]
    for threads in (1, 2):
        with loaded(code, threads) as call:
            for name, x, expected in checks:
                assert_same_bits(call(name, x), expected, x)


@pytest.mark.parametrize("length", RAGGED_LENGTHS)
@pytest.mark.parametrize("spelling", EVERY_KIND)
def test_ragged_rows(spelling: str, length: int) -> None:
    code = compiled(EVERY_KIND, RAGGED_LENGTHS)
    with loaded(code, 2) as call:
        for x in samples(spelling, length):
            found = call(f"f{EVERY_KIND.index(spelling)}_{length}", x)
            assert_same_bits(found, expected_of(spelling, x), x)


SHAPES: tuple[tuple[Shape, tuple[int, ...]], ...] = (
    ((), ()),
    ((19,), (19,)),
    ((None,), (19,)),
    ((0, 8), (0, 8)),
    ((3, 0), (3, 0)),
    ((None, 5, None, 32), (2, 5, 3, 32)),
    ((1, None, 4, None), (1, 2, 4, 9)),
    ((None, 600), (3, 600)),
)


@pytest.mark.parametrize("spelling", ["int8<group=tensor>", "nvfp4<two_level=true>", "mxfp4"])
def test_shapes(spelling: str) -> None:
    text = "\n".join(round_trip(f"s{i}", spelling, shape) for i, (shape, _) in enumerate(SHAPES))
    with loaded(build(text)[0], 2) as call:
        for i, (_, shape) in enumerate(SHAPES):
            x = np.random.default_rng(i).standard_normal(shape, np.float32)
            x = np.asarray(x, np.float32)
            found = call(f"s{i}", x, rank=len(shape))
            assert_same_bits(np.atleast_1d(found), np.atleast_1d(expected_of(spelling, x)), x)


def test_many_pieces_of_a_tensor_agree() -> None:
    """The extremes of a tensor are found wherever they lie, whatever the number of pieces."""
    spelling = "int8<group=tensor,symmetric=false>"
    with loaded(compiled((spelling,), (None,)), 2) as call:
        for count in (1, 8, 511, 512, 513, 5000):
            for at in (0, count // 2, count - 1):
                x = np.linspace(-1, 1, count, dtype=np.float32).reshape(1, -1)
                x[0, at] = 300 if at % 2 else -300
                assert_same_bits(call("f0_None", x), expected_of(spelling, x), x)


@pytest.mark.parametrize("spelling", ["int8<group=8>", "fp8_e4m3", "fp8_152", "mxfp4", "nf4"])
def test_non_finite_values_stay_visible(spelling: str) -> None:
    x = np.ones((3, 64), np.float32)
    x[0, 1], x[1, 2], x[2, 3] = np.nan, np.inf, -np.inf
    with loaded(compiled((spelling,), (64,)), 1) as call:
        found = call("f0_64", x)
    assert np.isnan(found[~np.isfinite(x)]).all()
    assert np.isfinite(found[0, 32:]).all()


USER_FORMATS = {
    "a scale for each sign": """
format lopsided {
  title "a composition that no built-in format has";
  source "this test";
  element minifloat exponent=3 mantissa=4 specials=none rounding=nearest;
  block size=24 ragged=true;
  scale above of=positive type=e4m3 rule=absmax rounding=floor apply=reciprocal flush=smallest;
  scale below of=negative type=e8m0 rule=ceil;
}
""",
    "no negative zero": """
format unsigned_zero {
  title "another one";
  source "this test";
  element minifloat exponent=2 mantissa=3 specials=none signed_zero=false;
  block size=tensor;
  scale step type=e5m2 rule=absmax;
}
""",
}


@pytest.mark.parametrize("definition", USER_FORMATS.values(), ids=USER_FORMATS)
def test_a_format_of_the_users_own(definition: str) -> None:
    spelling = from_definition(definition).spelling
    with loaded(compiled((spelling,), (40, None)), 2) as call:
        for x in samples(spelling, 40):
            expected = expected_of(spelling, x)
            assert_same_bits(call("f0_40", x), expected, x)
            assert_same_bits(call("f0_None", x), expected, x)


@pytest.mark.parametrize(
    ("spelling", "kernels"),
    [("int8", 1), ("mxfp4", 1), ("pact4<alpha=2.0>", 1), ("int8<group=tensor>", 2),
     ("nvfp4<two_level=true>", 2), ("nvfp4<two_level=true,tensor_scale=0.5>", 1)],
)  # fmt: skip
def test_number_of_kernels(spelling: str, kernels: int) -> None:
    """The whole tensor is read beforehand only where a scale depends on it."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(round_trip("main", spelling, (None, 64)))
        convert_qcc_to_kernels(module)
        text = str(module)
    assert len(re.findall(r"\bcall @kernel_\d+", text)) == kernels
    assert "qcc.quantize" not in text
    assert "qcc.dequantize" not in text


def test_two_readers_of_one_quantized_value() -> None:
    text = """
        func.func @main(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
          %q = "qcc.quantize"(%x) : (tensor<4x32xf32>) -> !qcc.packed<tensor<4x32xf32>, "mxfp4">
          %a = "qcc.dequantize"(%q) :
            (!qcc.packed<tensor<4x32xf32>, "mxfp4">) -> tensor<4x32xf32>
          %b = "qcc.dequantize"(%q) :
            (!qcc.packed<tensor<4x32xf32>, "mxfp4">) -> tensor<4x32xf32>
          %y = linalg.add ins(%a, %b : tensor<4x32xf32>, tensor<4x32xf32>)
            outs(%x : tensor<4x32xf32>) -> tensor<4x32xf32>
          return %y : tensor<4x32xf32>
        }"""
    x = np.random.default_rng(0).standard_normal((4, 32), np.float32)
    with loaded(build(text)[0], 1) as call:
        assert_same_bits(call("main", x), 2 * expected_of("mxfp4", x), x)


def packed_parameter(spelling: str, shape: tuple[int, ...]) -> str:
    packed = f'!qcc.packed<{tensor(shape)}, "{parse_spelling(spelling).spelling}">'
    return f"""
        func.func @main() -> {tensor(shape)} {{
          %w = "qcc.param"() {{symbol = "w"}} : () -> {packed}
          %y = "qcc.dequantize"(%w) : ({packed}) -> {tensor(shape)}
          return %y : {tensor(shape)}
        }}"""


@pytest.mark.parametrize("shape", [(9, 40), (5, 3, 11)])
@pytest.mark.parametrize(
    "spelling",
    ["int8", "int4<group=8>", "uint3<group=5>", "fp8_e4m3", "nvfp4<two_level=true>", "amxfp4",
     "dint4", "nestedfp16", "nestedfp16<view=fp8_e4m3>", "nf4<group=channel>", "pact4", "sawb4",
     "amxfp4<scale=e4m3,max480=true>", "fp32"],
)  # fmt: skip
def test_packed_parameter_becomes_a_tensor(spelling: str, shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(1).standard_normal(shape, np.float32) * np.float32(0.3)
    w[2] = 0
    rows = w.reshape(shape[0], -1)
    fmt = parse_spelling(spelling)
    stored = fmt.encode_rows(rows)
    code, names = build(packed_parameter(spelling, shape))
    with loaded(code, 2, [stored[name.removeprefix("w/")] for name in names]) as call:
        found = call("main", rank=len(shape))
    assert found.shape == shape
    assert_same_bits(found.reshape(rows.shape), fmt.decode_rows(stored, rows.shape[1]), rows)


@pytest.mark.parametrize(
    "spelling", ["sawb4", "sawb8", "sawb2<group=channel>", "nestedfp16<view=fp8_e4m3>"]
)
def test_formats_of_weights_are_refused_for_activations(spelling: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        build(round_trip("main", spelling, (None, 64)))
    assert refused.value.code == "cpu-activation-format"
    assert parse_spelling(spelling).spelling in refused.value.what


def test_half_precision_activations_are_refused() -> None:
    with pytest.raises(UnsupportedError) as refused:
        build(round_trip("main", "int8", (None, 64)).replace("xf32", "xf16"))
    assert refused.value.code == "cpu-activation-type"
