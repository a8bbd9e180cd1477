"""Static quantization on the CPU against the NumPy encoder, bit for bit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import Range, from_definition, parse_spelling

if TYPE_CHECKING:
    from .conftest import Programs

POWER_OF_TWO = """
format power_of_two {
  title "a tensor-wide scale of one byte";
  source "this test";
  element minifloat exponent=3 mantissa=2 specials=none;
  block size=tensor;
  scale step type=e8m0 rule=even;
}
"""
LOPSIDED = """
format lopsided_tensor {
  title "a tensor-wide scale for each sign";
  source "this test";
  element minifloat exponent=3 mantissa=4 specials=none rounding=nearest;
  block size=tensor;
  scale above of=positive type=e4m3 rule=absmax rounding=floor apply=reciprocal flush=smallest;
  scale below of=negative type=e5m2 rule=absmax;
}
"""
SPELLINGS = (
    *("int8<group=tensor>", "int8<group=tensor,symmetric=false>", "uint8<group=tensor>"),
    *("int4<group=tensor>", "uint4<group=tensor,rounding=floor>", "fp8_e4m3<group=tensor>"),
    *("fp8_e5m2<group=tensor>", "nvfp4<two_level=true>", "nvfp4<two_level=true,rounding=floor>"),
    *("nf4<group=tensor>", "pact4", "dint4<group=tensor>", "dint3<group=tensor,symmetric=true>"),
    *("int8<group=tensor,scale=fp16>", "nf4<group=tensor,scale=bf16>"),
    *(from_definition(text).spelling for text in (POWER_OF_TWO, LOPSIDED)),
)
RANGES: tuple[Range, ...] = ((-1.5, 3.25), (0.0, 0.0), (-7.5, -2.0), (-1e-41, 1e38))


def lengths(tensor_range: Range) -> tuple[int | None, ...]:
    """Of rows; None is a dynamic size, which has a kernel of its own whatever the range."""
    return (64, None) if tensor_range == RANGES[0] else (64,)


def static_round_trip(spelling: str, tensor_range: Range, length: int | None) -> tuple[str, str]:
    """Signature and body of a function that rounds rows of `length` within a range."""
    plain = f"tensor<?x{'?' if length is None else length}xf32>"
    packed = f'!qcc.packed<{plain}, "{spelling}">'
    ends = ", ".join(f"0x{np.float32(end).view(np.uint32):08X}" for end in tensor_range)
    return (
        f"(%x: {plain}) -> {plain}",
        f"""
        %q = "qcc.quantize"(%x) {{range = array<f32: {ends}>}} : ({plain}) -> {packed}
        %y = "qcc.dequantize"(%q) : ({packed}) -> {plain}
        return %y : {plain}""",
    )


def inputs(length: int) -> np.ndarray:
    """Rows within, at and far beyond the ranges, of every order of magnitude."""
    random = np.random.default_rng(length)
    rows = random.standard_normal((60, length))
    rows[:20] *= np.exp2(random.integers(-149, 120, (20, 1)).astype(np.float64))
    rows[20], rows[21] = 0, -0.0
    rows[22] = np.resize(np.linspace(-8, 8, 129), length)
    ends = [end for pair in RANGES for end in pair]
    rows[23] = np.resize(
        [*ends, *np.nextafter(np.array(ends, np.float32), np.float32(np.inf))], length
    )
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def rounders(programs: Programs) -> Programs:
    for spelling in SPELLINGS:
        canonical = parse_spelling(spelling).spelling
        for tensor_range in RANGES:
            for length in lengths(tensor_range):
                name = name_of(spelling, tensor_range, length)
                programs.function(name, *static_round_trip(canonical, tensor_range, length))
    return programs


def name_of(spelling: str, tensor_range: Range, length: int | None) -> str:
    return f"f{SPELLINGS.index(spelling)}_{RANGES.index(tensor_range)}_{length}"


@pytest.mark.parametrize("tensor_range", RANGES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_rounds_as_numpy_does(rounders: Programs, spelling: str, tensor_range: Range) -> None:
    for length in lengths(tensor_range):
        x = inputs(length or 70)
        name = name_of(spelling, tensor_range, length)
        encoded = parse_spelling(spelling).quantize(x, tensor_range=tensor_range)
        with np.errstate(all="ignore"):
            expected = encoded.dequantize()
        np.testing.assert_array_equal(rounders.expected(name, x), expected)
        for found in rounders.run(name, x, rank=2).values():
            different = found.view(np.int32) != expected.view(np.int32)
            different &= ~(np.isnan(found) & np.isnan(expected))  # inf * 0: any NaN will do
            assert not different.any(), (x[different][0], found[different][0])


def test_nan_and_infinity_stay_visible(rounders: Programs) -> None:
    x = np.ones((3, 64), np.float32)
    x[0, 1], x[1, 2], x[2, 3] = np.nan, np.inf, -np.inf
    for spelling in ("int8<group=tensor>", "fp8_e4m3<group=tensor>", "nf4<group=tensor>"):
        for found in rounders.run(name_of(spelling, RANGES[0], 64), x, rank=2).values():
            assert np.isnan(found[~np.isfinite(x)]).all()
            assert np.isfinite(found[np.isfinite(x)]).all()


def converted(*functions: tuple[str, str]) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(
            "\n".join(
                f"func.func @f{index}{signature} {{{body}}}"
                for index, (signature, body) in enumerate(functions)
            )
        )
        convert_qcc_to_kernels(module)
        return str(module)


@pytest.mark.parametrize("spelling", ["int8<group=tensor>", "nvfp4<two_level=true>"])
def test_the_values_are_read_once(spelling: str) -> None:
    """No kernel looks for the extremes of the tensor."""
    text = converted(static_round_trip(spelling, (-1.0, 1.0), 64))
    assert len(re.findall(r"\bcall @kernel_\d+", text)) == 1
    assert "memref.alloc(%" in text  # the result; nothing beside it
    assert text.count("memref.alloc") == 1


def test_layers_of_other_ranges_share_the_kernel() -> None:
    ranges: tuple[Range, ...] = ((-1.0, 1.0), (-2.0, 2.0), (-1.0, 1.0))
    text = converted(*(static_round_trip("int8<group=tensor>", r, 64) for r in ranges))
    assert len(set(re.findall(r"\bcall @(kernel_\d+)", text))) == 1
    assert len(re.findall(r"llvm.mlir.global internal constant @constants_", text)) == 2
