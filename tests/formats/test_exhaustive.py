"""Every code of every format, and every half-precision input of every element, without files."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from qcc.dialects.formats import Format, available, format, from_definition
from qcc.dialects.formats.definition import Minifloat
from qcc.dialects.formats.elements import element_values
from qcc.dialects.formats.minifloats import encode_magnitudes, minifloat_values
from qcc.dialects.formats.packing import pack_codes
from qcc.dialects.formats.scratch import Scratch

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = HALVES[np.isfinite(HALVES)].astype(np.float32)
ML_DTYPES = {
    "float4_e2m1fn": Minifloat(2, 1),
    "float6_e2m3fn": Minifloat(2, 3),
    "float6_e3m2fn": Minifloat(3, 2),
    "float8_e4m3fn": Minifloat(4, 3, specials="nan"),
    "float8_e5m2": Minifloat(5, 2, specials="ieee"),
    "float8_e3m4": Minifloat(3, 4, specials="ieee"),
    "bfloat16": Minifloat(8, 7, specials="ieee"),
    "float16": Minifloat(5, 10, specials="ieee"),
}


def dtype_named(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_code_values_equal_ml_dtypes(name: str) -> None:
    element, kind = ML_DTYPES[name], dtype_named(name)
    codes = np.arange(1 << element.bits).astype(f"u{kind.itemsize}")
    assert np.array_equal(
        minifloat_values(element), codes.view(kind).astype(np.float32), equal_nan=True
    )


@pytest.mark.parametrize("name", ML_DTYPES)
def test_nearest_even_equals_ml_dtypes_on_every_half(name: str) -> None:
    element, kind = ML_DTYPES[name], dtype_named(name)
    magnitudes = np.minimum(np.abs(FINITE), np.float32(element.largest))
    expected = magnitudes.astype(kind).view(f"u{kind.itemsize}")
    assert np.array_equal(codes_of(element, magnitudes), expected)


def codes_of(element: Minifloat, magnitudes: np.ndarray) -> np.ndarray:
    codes = np.empty(magnitudes.shape, np.uint16 if element.bits > 8 else np.uint8)
    encode_magnitudes(element, magnitudes.copy(), codes, Scratch())
    return codes


def rounded_by_fractions(element: Minifloat, magnitude: float) -> int:
    """The code of a magnitude by exact rational comparison with every code's value."""
    values = [Fraction(float(v)) for v in minifloat_values(element)[: element.max_code + 1]]
    exact = Fraction(magnitude)
    below = max(code for code, value in enumerate(values) if value <= exact)
    if below == element.max_code or element.rounding == "floor":
        return below
    down, up = exact - values[below], values[below + 1] - exact
    if down != up:
        return below + (up < down)
    return below + (element.rounding == "nearest" or below % 2 == 1)


@pytest.mark.parametrize("rounding", ["even", "nearest", "floor"])
@pytest.mark.parametrize("shape", [(2, 1), (3, 2), (2, 3), (4, 3), (5, 2), (2, 5), (6, 1)])
def test_rounding_at_and_around_every_boundary(shape: tuple[int, int], rounding: str) -> None:
    element = Minifloat(*shape, rounding=rounding)  # pyright: ignore[reportArgumentType]
    values = minifloat_values(element)[: element.max_code + 1]
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [values[-1] * 1.5]])
    points = points.astype(np.float32)
    around = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(0))]
    inputs = np.unique(np.concatenate(around))
    expected = [rounded_by_fractions(element, float(x)) for x in inputs]
    assert codes_of(element, inputs).tolist() == expected


def every_format() -> list[Format]:
    table = np.random.default_rng(3).permutation(np.linspace(-1, 2, 16)) ** 3
    names = [name for name in available() if name not in ("lut4", "fp32")]
    scaled = [format("fp8_e4m3", group=32), format("fp8_e5m2", group="channel")]
    affine = [format("int4", group=32, symmetric=False), format("dint4", symmetric=True)]
    halves = [format("int4", group=32, scale="fp16"), format("uint4", scale="bf16")]
    return [*map(format, names), format("lut4", table=table), *scaled, *affine, *halves]


@pytest.mark.parametrize("fmt", every_format(), ids=lambda fmt: fmt.spelling[:40])
def test_every_code_decodes_and_encodes_to_itself(fmt: Format) -> None:
    """Each code's value, placed so that scales are one, is a fixed point of the format."""
    values = fmt.element_values()
    usable = np.isfinite(values)
    if fmt.admits is not None:
        usable &= np.abs(values) < fmt.admits.limit
    if fmt.block_size == "tensor":
        fmt = fmt.with_options(group="channel")
    if not fmt.block_scales:
        fixed = fmt.quantize(values[usable])
        assert np.array_equal(fixed.dequantize(), values[usable])
        return
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 96)).astype(np.float32)
    once = fmt.quantize(np.abs(x) if fmt.name.startswith("pact") else x)
    width = once.parts["codes"].shape[1] * 8 // fmt.stored_bits
    codes = np.resize(np.arange(1 << fmt.bits), (8, width)).astype(np.uint8)
    codes[:, 96:] = 0
    decoded = fmt.decode_rows(once.parts | {"codes": pack_codes(codes, fmt.stored_bits)}, 96)
    expected = decoded_one_by_one(fmt, codes[:, :96], once.scale_values, once.scales)
    assert np.array_equal(decoded, expected, equal_nan=True)


def decoded_one_by_one(fmt: Format, codes: np.ndarray, scales: dict, stored: dict) -> np.ndarray:
    """The decoding rule of docs/formats.md, value by value."""
    values, shifted = element_values(fmt.element), fmt.zero_point_codes()
    out = np.empty(codes.shape, np.float32)
    size = fmt.block_size if isinstance(fmt.block_size, int) else codes.shape[1]
    for (row, column), code in np.ndenumerate(codes):
        place = (row, column // size)
        value = values[code]
        if shifted[code]:
            value = np.float32(value - np.float32(stored["zero_point"][place]))
        if fmt.splits_signs:
            factor = scales["scale_pos" if value > 0 else "scale_neg"][place]
        else:
            factor = next(iter(scales.values()))[place]
        out[row, column] = value / factor if "inverse_scale" in scales else value * factor
    return out


@pytest.mark.parametrize("name", ["mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxint8"])
def test_every_half_in_a_block_of_scale_one(name: str) -> None:
    """The largest element fixes the scale at one; all halves up to it are then cast."""
    fmt = format(name)
    largest = 2.0 ** (int(np.log2(element_values(fmt.element).max(initial=0, where=finite(fmt)))))
    inputs = FINITE[np.abs(FINITE) <= largest]
    inputs = np.resize(inputs, (-(-len(inputs) // 31), 31))
    blocks = np.insert(inputs, 0, np.float32(largest), axis=1)
    q = fmt.quantize(blocks)
    assert (q.scales["scale"] == 127).all()
    nearest = element_values(fmt.element)[q.codes]
    assert np.array_equal(q.dequantize(), nearest)
    values = np.unique(element_values(fmt.element)[finite(fmt)])
    error = np.abs(nearest - blocks).ravel()
    place = np.searchsorted(values, blocks.ravel()).clip(1, len(values) - 1)
    best = np.minimum(
        np.abs(values[place] - blocks.ravel()), np.abs(values[place - 1] - blocks.ravel())
    )
    assert np.array_equal(error, best)


def finite(fmt: Format) -> np.ndarray:
    return np.isfinite(element_values(fmt.element))


def test_table_takes_the_nearer_value_and_the_lower_of_two() -> None:
    fmt = from_definition(
        "format t { element table values=[3, -1, 0.5, 2, -4, 1, 0, 8]; block size=channel; }"
    )
    values = fmt.element_values().astype(np.float64)
    inputs = np.unique(
        np.concatenate([FINITE[np.abs(FINITE) < 16], (values[:, None] + values).ravel() / 2])
    )
    distance = np.abs(inputs[:, None] - np.sort(values))
    expected = np.sort(values)[distance.argmin(axis=1)]
    assert np.array_equal(fmt.quantize(inputs).dequantize(), expected.astype(np.float32))


def test_overflow_to_infinity_begins_half_a_step_above_the_largest_value() -> None:
    """Also where codes are found by counting boundaries, of four bits and less."""
    fmt = from_definition(
        "format f { element minifloat exponent=2 mantissa=1 specials=ieee overflow=infinity;"
        " block size=channel; }"
    )
    given = np.array([[2.9, 3, 3.4, 3.5, 56, -3.4, -3.6]], np.float32)
    wanted = [3, 3, 3, np.inf, np.inf, -3, -np.inf]
    assert fmt.quantize(given).dequantize().tolist() == [wanted]


def test_a_scale_of_the_tensor_below_a_second_level() -> None:
    fmt = from_definition(
        "format f { element minifloat exponent=2 mantissa=1; block size=tensor;"
        " scale s type=e4m3 rule=absmax; scale t type=fp32 rule=second_level; }"
    )
    given = np.array([[0.125, -0.25, 0.5, 0.75]], np.float32)  # 1, -2, 4 and 6 eighths
    np.testing.assert_allclose(fmt.quantize(given).dequantize(), given, rtol=2.0**-22)


def test_nested_round_trip_and_view_of_every_eligible_half() -> None:
    halves = HALVES[np.isfinite(HALVES)]
    halves = halves[np.abs(halves) < 1.875]
    q = format("nestedfp16").quantize(halves)
    assert np.array_equal(q.codes, halves.view(np.uint16))
    assert np.array_equal(q.dequantize(), halves.astype(np.float32))
    view = q.view("fp8_e4m3")
    scaled = np.clip(halves.astype(np.float32) * 256, -448, 448)
    assert np.array_equal(view.codes, scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    expected = view.codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) / 256
    assert np.array_equal(view.dequantize(), expected)
    assert view.nbytes < q.nbytes
    alone = format("nestedfp16", view="fp8_e4m3").quantize(halves)
    assert list(alone.parts) == ["upper"]
    assert np.array_equal(alone.parts["upper"], q.parts["upper"])
    assert np.array_equal(alone.codes, view.codes)
    assert np.array_equal(alone.dequantize(), expected)
    for value in alone.format.element_values()[alone.codes], alone.dequantize():
        assert np.array_equal(value, expected)


def test_a_view_decodes_without_the_other_plane_of_the_whole() -> None:
    values = np.linspace(-1.7, 1.7, 3 * 37, dtype=np.float32).reshape(3, 37)
    whole = format("nestedfp16")
    view = whole.with_options(view="fp8_e4m3")
    stored = whole.encode_rows(values)
    expected = whole.quantize(values).view("fp8_e4m3").dequantize()
    assert stored.keys() - view.part_specs(3, 37) == {"lower"}
    assert np.array_equal(view.decode_rows({"upper": stored["upper"]}, 37), expected)
    assert view.bits_per_value == whole.bits_per_value / 2
