"""Functions of one thread and of one warp against NumPy: all codes where there are few."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from qcc.codegen.cuda.emulator import EmulatedModule

WORDS = np.uint32


def apply(
    module: EmulatedModule, name: str, a: npt.ArrayLike, b: npt.ArrayLike = 0, c: npt.ArrayLike = 0
) -> np.ndarray:
    """The function on words of arrays `a`, `b`, `c`, which are broadcast."""
    a, b, c = (np.ascontiguousarray(x) for x in np.broadcast_arrays(*map(as_words, (a, b, c))))
    results = np.zeros(a.shape, WORDS)
    module.launch(f"apply_{name}", -(-a.size // 128), 128, 0, [a, b, c, results, a.size])
    return results


def as_words(values: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    return array.view(WORDS) if array.dtype == np.float32 else array.astype(np.int64).astype(WORDS)


def random_words(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=WORDS)


@pytest.fixture(scope="module")
def functions(emulated):
    return emulated("functions")


A, B, C = (random_words(1000, seed) for seed in (1, 2, 3))


def test_lop3_is_its_truth_table(functions):
    np.testing.assert_array_equal(apply(functions, "lop3_ea", A, B, C), (A & B) | C)
    np.testing.assert_array_equal(apply(functions, "lop3_96", A, B, C), A ^ B ^ C)
    chosen = (A & (B | ~C)) | (B & ~A & C)
    np.testing.assert_array_equal(apply(functions, "lop3_d8", A, B, C), chosen)


def test_permute_bytes_takes_bytes_and_signs(functions):
    pool = np.concatenate([A[:, None].view(np.uint8), B[:, None].view(np.uint8)], axis=1)
    nibbles = (C[:, None] >> np.arange(0, 16, 4, dtype=WORDS)) & 15
    taken = np.take_along_axis(pool, (nibbles & 7).astype(np.intp), axis=1)
    signs = np.where(taken & 0x80, 255, 0).astype(np.uint8)
    expected = np.ascontiguousarray(np.where(nibbles & 8, signs, taken)).view(WORDS)[:, 0]
    np.testing.assert_array_equal(apply(functions, "permute_bytes", A, B, C), expected)


def test_funnel_shift_and_dot_products(functions):
    wide = A.astype(np.uint64) | B.astype(np.uint64) << np.uint64(32)
    shifted = (wide >> (C & 31).astype(np.uint64)).astype(WORDS)
    np.testing.assert_array_equal(apply(functions, "funnel_shift_right", A, B, C), shifted)
    bytes_a, bytes_b = (x[:, None].view(np.int8).astype(np.int64) for x in (A, B))
    expected = ((bytes_a * bytes_b).sum(1) + C).astype(WORDS)
    np.testing.assert_array_equal(apply(functions, "dot_s8", A, B, C), expected)
    expected = (((bytes_a & 255) * bytes_b).sum(1) + C).astype(WORDS)
    np.testing.assert_array_equal(apply(functions, "dot_u8s8", A, B, C), expected)


# ---- pairs of 16-bit floats

PAIR_TYPES = {"f16x2": np.dtype(np.float16), "bf16x2": np.dtype(ml_dtypes.bfloat16)}


def round_once(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Doubles to 16 bits: over float32 rounded to odd, so that only one rounding counts."""
    single = values.astype(np.float32)
    bits = single.view(np.int32).astype(np.int64)
    inexact = np.isfinite(values) & (single.astype(np.float64) != values) & (bits & 1 == 0)
    away = np.abs(single.astype(np.float64)) < np.abs(values)
    bits = np.where(inexact, bits + np.where(away, 1, -1), bits)
    return bits.astype(np.int32).view(np.float32).astype(kind)


def canonical(words: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Every NaN as hardware makes it."""
    halves = words.view(np.uint16).copy()
    halves[np.isnan(halves.view(kind).astype(np.float32))] = 0x7FFF
    return halves


def exact_fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded to odd in 64 bits: long doubles hold f16 and bf16 of similar size."""
    product = a.astype(np.longdouble) * b.astype(np.longdouble)
    return product + c.astype(np.longdouble)


@pytest.mark.parametrize("pair", PAIR_TYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_pairs_round_once(functions, pair):
    kind = PAIR_TYPES[pair]
    # Exponents near one another, so that long doubles hold a sum; special values besides.
    special = np.array([0, 0x8000, 1, 0x8001, 0x7C00, 0x7F80, 0xFF80, 0x7FFF, 0x3C00], np.uint16)
    random = np.random.default_rng(5)
    near = (random.integers(0, 1 << 32, (3, 4000), dtype=np.int64) & 0x83FF83FF) | 0x3C003C00
    a, b, c = near.astype(WORDS)
    a[:81] = np.repeat(special, 9).astype(WORDS) * 0x10001
    b[:81] = np.tile(special, 9).astype(WORDS) * 0x10001
    x, y, z = (w.view(np.uint16).view(kind).astype(np.float64) for w in (a, b, c))
    doubles = {
        "fma": exact_fma(x, y, z).astype(np.float64),
        "add": x + y,
        "sub": x - y,
        "mul": x * y,
        "max": np.fmax(x, y),
        "min": np.fmin(x, y),
    }
    for name, values in doubles.items():
        found = apply(functions, f"{name}_{pair}", a, b, c)
        expected = round_once(values, kind)
        want = canonical(np.ascontiguousarray(expected).view(WORDS), kind)
        zeros = (name in ("max", "min")) & (want & 0x7FFF == 0)  # which zero is not said
        np.testing.assert_array_equal(
            np.where(zeros, 0, canonical(found, kind)), np.where(zeros, 0, want), name
        )


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        # A tie that a tiny addend breaks: rounding twice would lose it. In bf16, 1.0078125 squared
        # is 1.01568603515625; 1 + 2^-7 and so on are exact, the addend is 2^-100.
        (0x3F80, 0x3F81, 0x3F80, 0x4000),
        (0x3F80, 0x3C00, 0x3F80, 0x3F81),  # 1 + 2^-7
        (0x3F80, 0x3B80, 0x3F80, 0x3F80),  # 1 + 2^-8 is a tie: even
        (0x3B80, 0x3F80, 0x3F81, 0x3F82),  # 1 + 2^-7 + 2^-8 is a tie: even
    ],
)
def test_fma_of_bf16_at_ties(functions, a, b, c, expected):
    found = apply(functions, "fma_bf16x2", np.array([a]), b, c)
    assert found[0] & 0xFFFF == expected


def test_fma_of_bf16_keeps_what_is_far_below(functions):
    """1.5 * 1.0078125 = 1.51171875, a tie of bf16; 2^-120 more or less decides it."""
    product = 1.5 * 1.0078125
    for tiny, expected in ((2.0**-120, 0x3FC2), (-(2.0**-120), 0x3FC1)):
        addend = np.float32(tiny).view(WORDS) >> 16
        found = apply(functions, "fma_bf16x2", np.array([0x3FC0]), 0x3F81, addend)[0] & 0xFFFF
        assert found == expected, product


# ---- conversions

ALL_HALVES = np.arange(1 << 16, dtype=WORDS)


def test_f16_and_bf16_codes_all(functions):
    halves = ALL_HALVES.astype(np.uint16)
    for name, kind in (("f16", np.dtype(np.float16)), ("bf16", np.dtype(ml_dtypes.bfloat16))):
        expected = halves.view(kind).astype(np.float32)
        found = apply(functions, f"f32_from_{name}", ALL_HALVES).view(np.float32)
        np.testing.assert_array_equal(found, expected)
        number = ~np.isnan(expected)
        back = apply(functions, f"{name}_from_f32", expected[number])
        np.testing.assert_array_equal(back, ALL_HALVES[number])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("f16", np.dtype(np.float16)),
        ("bf16", np.dtype(ml_dtypes.bfloat16)),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rounding_to_16_bits_of_random_floats_and_ties(functions, name, kind):
    codes = ALL_HALVES.astype(np.uint16).view(kind).astype(np.float64)
    ties = ((codes[:-1] + codes[1:]) / 2).astype(np.float32)
    values = np.concatenate([ties, A.view(np.float32), np.nextafter(ties, np.float32(0))])
    values = values[~np.isnan(values)]
    expected = values.astype(kind).view(np.uint16)
    found = apply(functions, f"{name}_from_f32", values)
    np.testing.assert_array_equal(found, expected)
    pair = apply(functions, f"{name}x2_from_f32", values, values[::-1])
    np.testing.assert_array_equal(pair & 0xFFFF, expected)
    np.testing.assert_array_equal(pair >> 16, expected[::-1])


SMALL = {"e4m3x2": (ml_dtypes.float8_e4m3fn, 448.0), "e5m2x2": (ml_dtypes.float8_e5m2, 57344.0)}


@pytest.mark.parametrize("pair", SMALL)
def test_8_bit_codes_all_and_their_ties(functions, pair):
    kind, largest = SMALL[pair]
    values = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)
    found = apply(functions, f"f16x2_from_{pair}", ALL_HALVES).view(np.float16).reshape(-1, 2)
    np.testing.assert_array_equal(found[:, 0], values[ALL_HALVES & 255].astype(np.float16))
    np.testing.assert_array_equal(found[:, 1], values[ALL_HALVES >> 8].astype(np.float16))

    finite = np.sort(values[np.isfinite(values)])
    ties = (finite[:-1] + finite[1:]) / 2
    inputs = np.concatenate([ties, np.nextafter(ties, np.float32(9e9)), finite, [1e9, -np.inf]])
    inputs = inputs.astype(np.float32)
    expected = np.clip(inputs, -largest, largest).astype(kind).view(np.uint8)
    codes = apply(functions, f"{pair}_from_f32", inputs, inputs[::-1])
    np.testing.assert_array_equal(codes & 255, expected)
    np.testing.assert_array_equal(codes >> 8, expected[::-1])
    assert apply(functions, f"{pair}_from_f32", np.array([np.nan], np.float32))[0] & 127 == 127


def test_4_bit_codes_and_scales_all(functions):
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    values = np.concatenate([values, -values])
    codes = np.arange(256)
    found = apply(functions, "f16x2_from_e2m1x2", codes).view(np.float16).reshape(-1, 2)
    np.testing.assert_array_equal(found, values[np.stack([codes & 15, codes >> 4], 1)])
    inputs = np.array([0.25, 0.26, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 5.1, 100, -0.75], np.float32)
    rounded = [0, 1, 2, 2, 4, 4, 6, 6, 7, 7, 10]
    np.testing.assert_array_equal(apply(functions, "e2m1x2_from_f32", inputs), rounded)
    scales = apply(functions, "f32_from_e8m0", codes).view(np.float32)
    np.testing.assert_array_equal(scales[:255], np.ldexp(np.float32(1), np.arange(255) - 127))
    assert np.isnan(scales[255])


@pytest.mark.parametrize("name", ["e4m3x2", "e5m2x2", "e2m1x2"])
def test_plain_arithmetic_converts_as_the_instructions_do(functions, name):
    """All codes to f16; to codes, every f16 value and its neighbours among the floats."""
    codes = ALL_HALVES if name != "e2m1x2" else ALL_HALVES[:256]
    found = apply(functions, f"plain_f16x2_from_{name}", codes)
    np.testing.assert_array_equal(found, apply(functions, f"f16x2_from_{name}", codes))
    halves = ALL_HALVES.astype(np.uint16).view(np.float16).astype(np.float32)
    beside = halves.view(np.int32) + np.array([[-1], [1]], np.int32)
    values = np.concatenate([halves, beside.view(np.float32).ravel(), A.view(np.float32)])
    found = apply(functions, f"plain_{name}_from_f32", values, values[::-1])
    expected = apply(functions, f"{name}_from_f32", values, values[::-1])
    np.testing.assert_array_equal(found, expected)


def test_saturating_bytes(functions):
    x = np.array([0.5, 1.5, -0.5, 127.4, 127.5, 300, -128.5, -1e20, np.nan, np.inf], np.float32)
    expected = np.array([0, 2, 0, 127, 127, 127, -128, -128, 0, 127])
    found = apply(functions, "s8_from_f32", x).view(np.int32)
    np.testing.assert_array_equal(found, expected)
    packed = apply(functions, "s8x4_from_f32", x, x[::-1].copy(), np.float32(-1)).view(np.int8)
    rows = np.stack([expected, expected[::-1], 0 * expected - 1, 0 * expected], 1)
    np.testing.assert_array_equal(packed.reshape(-1, 4), rows)


# ---- warps and blocks


def test_exchange_between_lanes(functions):
    lane, values = np.arange(32), random_words(32, 9)
    out = np.zeros((4, 32), WORDS)
    functions.launch("exchange", 1, 32, 0, [values, out])
    np.testing.assert_array_equal(out[0], values[lane ^ 5])
    np.testing.assert_array_equal(out[1], values[np.where(lane + 3 < 32, lane + 3, lane)])
    np.testing.assert_array_equal(out[2], values[values & 31])
    assert (out[3] == (values & 1) @ (1 << lane).astype(np.uint64)).all()


def test_matrices_arrive_straight_and_transposed(functions):
    """Matrix m is rows 8 m … 8 m + 7 of 16 bytes; lane l gets word l & 3 of row l >> 2."""
    rows, out = random_words(128, 10).reshape(4, 8, 4), np.zeros((32, 8), WORDS)
    functions.launch("move_matrices", 1, 32, 512, [rows, out])
    straight = rows.reshape(4, 32).T
    np.testing.assert_array_equal(out[:, :4], straight)
    halves = np.ascontiguousarray(rows.view(np.uint16).transpose(0, 2, 1))
    np.testing.assert_array_equal(out[:, 4:], halves.view(WORDS).reshape(4, 32).T)


def test_blocks_take_turns(functions):
    total, flag, count = np.zeros(2, np.float32), np.zeros(1, WORDS), np.zeros(1, np.int32)
    functions.launch("take_turns", 6, 64, 0, [total, flag, count])
    assert total.tolist() == [1 * 16 + 2 * 8 + 3 * 4 + 4 * 2 + 5, 6 * 64]
    assert (flag[0], count[0]) == (6, 5)


def test_pairs_are_added_in_memory(functions):
    pairs, total = np.arange(64, dtype=np.float16), np.zeros(2, np.float16)
    functions.launch("add_pairs", 1, 32, 0, [pairs.view(WORDS), total.view(WORDS)])
    assert total.tolist() == [sum(range(0, 64, 2)), sum(range(1, 64, 2))]
