"""Matrix instructions under the emulator against NumPy, the fragments by the form of spec §2."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

LANE = np.arange(32)
GROUP, THREAD = LANE[:, None] >> 2, LANE[:, None] & 3


def places_a(e: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    """[32, values] rows and columns of the elements of A."""
    v = np.arange(values)[None]
    return GROUP + 8 * ((v // e) & 1), e * THREAD + v % e + 4 * e * (v // (2 * e))


def places_b(e: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    v = np.arange(values)[None]
    return e * THREAD + v % e + 4 * e * (v // e), GROUP + 0 * v


def places_c() -> tuple[np.ndarray, np.ndarray]:
    v = np.arange(4)[None]
    return GROUP + 8 * (v >> 1), 2 * THREAD + (v & 1)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes side by side in words, the first one lowest."""
    e = 32 // bits
    parts = codes.astype(np.uint32).reshape(*codes.shape[:-1], -1, e)
    shifted = parts << np.arange(0, 32, bits, dtype=np.uint32)
    return np.ascontiguousarray(np.bitwise_or.reduce(shifted, axis=-1))


def minifloat(kind) -> tuple[int, np.ndarray]:
    codes = np.arange(1 << 8, dtype=np.uint8).view(kind).astype(np.float64)
    return 8, np.where(np.isfinite(codes), codes, 0)


def integers(bits: int, signed: bool) -> tuple[int, np.ndarray]:
    codes = np.arange(1 << bits)
    return bits, np.where(signed & (codes >= 1 << (bits - 1)), codes - (1 << bits), codes)


def halves(kind) -> tuple[int, np.ndarray]:
    with np.errstate(invalid="ignore"):
        values = np.arange(1 << 16, dtype=np.uint16).view(kind).astype(np.float64)
    return 16, np.where(np.isfinite(values), values, 0)


TYPES = {
    "f16": halves(np.float16),
    "bf16": halves(ml_dtypes.bfloat16),
    "e4m3": minifloat(ml_dtypes.float8_e4m3fn),
    "e5m2": minifloat(ml_dtypes.float8_e5m2),
    "s8": integers(8, True),
    "u8": integers(8, False),
    "s4": integers(4, True),
    "u4": integers(4, False),
}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
INTEGERS = [
    ("m16n8k16_s8", "s8", "s8", 2),
    ("m16n8k32_s8", "s8", "s8", 4),
    ("m16n8k32_u8", "u8", "u8", 4),
    ("m16n8k32_u8s8", "u8", "s8", 4),
    ("m16n8k32_s8u8", "s8", "u8", 4),
    ("m16n8k32_s4", "s4", "s4", 2),
    ("m16n8k64_s4", "s4", "s4", 4),
    ("m16n8k64_u4", "u4", "u4", 4),
    ("m16n8k64_u4s4", "u4", "s4", 4),
]
FLOATS = [
    ("m16n8k8_f16", "f16", "f16", 2),
    ("m16n8k16_f16", "f16", "f16", 4),
    ("m16n8k8_bf16", "bf16", "bf16", 2),
    ("m16n8k16_bf16", "bf16", "bf16", 4),
    ("m16n8k32_e4m3", "e4m3", "e4m3", 4),
    ("m16n8k32_e5m2", "e5m2", "e5m2", 4),
    ("m16n8k32_e4m3e5m2", "e4m3", "e5m2", 4),
    ("m16n8k32_e5m2e4m3", "e5m2", "e4m3", 4),
]


def operands(kind_a: str, kind_b: str, registers: int, codes: int | None = None):
    """Random words of both operands and the matrices A [16, K], B [K, 8] that they mean."""
    random = np.random.default_rng(registers)
    bits, values_a = TYPES[kind_a]
    e = 32 // bits
    count = codes or 1 << bits
    code_a = random.integers(0, count, (32, e * registers))
    code_b = random.integers(0, count, (32, e * registers // 2))
    a, b = np.zeros((16, 2 * registers * e)), np.zeros((2 * registers * e, 8))
    a[places_a(e, e * registers)] = values_a[code_a]
    b[places_b(e, e * registers // 2)] = TYPES[kind_b][1][code_b]
    return packed(code_a, bits), packed(code_b, bits), a, b


@pytest.mark.parametrize(("name", "kind_a", "kind_b", "registers"), INTEGERS)
def test_integers_are_exact(emulated, name, kind_a, kind_b, registers):
    words_a, words_b, a, b = operands(kind_a, kind_b, registers)
    d = np.arange(128, dtype=np.int32).reshape(32, 4)
    expected = (a @ b).astype(np.int64)[places_c()] + d
    emulated("functions").launch(f"multiply_{name}", 1, 32, 0, [words_a, words_b, d])
    np.testing.assert_array_equal(d, expected)


@pytest.mark.parametrize(("name", "kind_a", "kind_b", "registers"), FLOATS)
def test_floats_are_fp32_sums_in_index_order(emulated, name, kind_a, kind_b, registers):
    """Bit for bit: products are exact, each sum is rounded once."""
    codes = 0x4000 if name.endswith("bf16") else None  # beyond, products overflow fp32
    words_a, words_b, a, b = operands(kind_a, kind_b, registers, codes)
    start = np.linspace(-1, 1, 128, dtype=np.float32).reshape(32, 4)
    d, sums = start.copy(), np.zeros((16, 8), np.float32)
    sums[places_c()] = start
    for k in range(a.shape[1]):
        sums += (a[:, k, None] * b[None, k]).astype(np.float32)
    if kind_a != "bf16":
        words_a = without_specials(words_a, kind_a)
        words_b = without_specials(words_b, kind_b)
    emulated("functions").launch(f"multiply_{name}", 1, 32, 0, [words_a, words_b, d])
    np.testing.assert_array_equal(d, sums[places_c()])


def without_specials(words: np.ndarray, kind: str) -> np.ndarray:
    """Infinities and NaN replaced by zero, as in the tables of values."""
    bits, _ = TYPES[kind]
    codes = words.view(np.uint16 if bits == 16 else np.uint8).copy()
    floats = {"f16": np.float16, "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
    codes[~np.isfinite(codes.view(floats[kind]).astype(np.float32))] = 0
    return codes.view(np.uint32)


def test_f16_accumulators_round_once_an_instruction(emulated):
    words_a, words_b, a, b = operands("f16", "f16", 4, codes=0x4200)
    d = np.zeros((32, 2), np.uint32)
    emulated("functions").launch("multiply_m16n8k16_f16_f16", 1, 32, 0, [words_a, words_b, d])
    sums = np.zeros((16, 8), np.float32)
    for k in range(16):
        sums += (a[:, k, None] * b[None, k]).astype(np.float32)
    np.testing.assert_array_equal(d.view(np.float16), sums[places_c()].astype(np.float16))


def test_tf32_reads_19_bits(emulated):
    random = np.random.default_rng(3)
    words_a, words_b = (random.standard_normal((32, n), np.float32) for n in (4, 2))
    a, b = np.zeros((16, 8)), np.zeros((8, 8))
    a[places_a(1, 4)] = (words_a.view(np.uint32) & 0xFFFFE000).view(np.float32)
    b[places_b(1, 2)] = (words_b.view(np.uint32) & 0xFFFFE000).view(np.float32)
    d, sums = np.zeros((32, 4), np.float32), np.zeros((16, 8), np.float32)
    for k in range(8):
        sums += (a[:, k, None] * b[None, k]).astype(np.float32)
    emulated("functions").launch("multiply_m16n8k8_tf32", 1, 32, 0, [words_a, words_b, d])
    np.testing.assert_array_equal(d, sums[places_c()])


@pytest.mark.parametrize(("name", "blocks"), [("mxf8", 1), ("mxf4", 2), ("nvf4", 4)])
def test_block_scales_multiply_parts_of_k(emulated, name, blocks):
    """Scales of A come from lanes 4 (row & 7) + (row >> 3), of B from lanes 4 column."""
    random = np.random.default_rng(blocks)
    bits, table = (8, TYPES["e4m3"][1]) if name == "mxf8" else (4, E2M1)
    e = 32 // bits
    code_a, code_b = (random.integers(0, 1 << bits, (32, e * n)) for n in (4, 2))
    if bits == 8:
        code_a, code_b = (np.where(x & 127 == 127, 0, x) for x in (code_a, code_b))
    a, b = np.zeros((16, 8 * e)), np.zeros((8 * e, 8))
    a[places_a(e, 4 * e)], b[places_b(e, 2 * e)] = table[code_a], table[code_b]
    low, high = (40, 64) if name == "nvf4" else (124, 131)
    codes = random.integers(low, high, (2, 32, 4), dtype=np.uint8)
    scale = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    scale = scale if name == "nvf4" else np.ldexp(1.0, codes.astype(int) - 127)
    row, column = np.arange(16), np.arange(8)
    part = np.arange(8 * e) * blocks // (8 * e)
    a *= scale[0][4 * (row & 7) + (row >> 3)][:, part]
    b *= scale[1][4 * column][:, part].T
    d = np.zeros((32, 4), np.float32)
    words = [packed(code_a, bits), packed(code_b, bits), codes.view(np.uint32), d]
    kernel = f"multiply_m16n8k{8 * e}_{name}"
    emulated("functions").launch(kernel, 1, 32, 0, words)
    np.testing.assert_allclose(d, (a @ b)[places_c()], rtol=1e-4, atol=1e-3)
