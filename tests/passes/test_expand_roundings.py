"""Roundings written out mean what `qcc.quantize` and `qcc.dequantize` mean, to the bit."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.decoding import row_codes
from qcc.dialects.interpreter import interpret
from qcc.dialects.qcc import BLOCK_CHANNELS, BLOCK_IMAGES
from qcc.passes.expand_roundings import expand_roundings

FORMATS = [
    "int8", "int4", "int8<symmetric=false>", "int8<group=32>", "int8<group=tensor>",
    "uint4<group=16>", "int5<rounding=nearest>", "int6<rounding=floor>", "dint4<group=32>",
    "fp8_e4m3", "fp8_e5m2", "fp8_e4m3<group=channel>", "fp8_152", "fp16", "bf16", "nf4<group=32>",
    "mxfp8_e4m3", "mxfp6_e3m2<scale=rceil>", "mxfp4<scale=even>", "mxint8", "nvfp4",
    "nvfp4<two_level=true>", "amxfp4", "amxfp4<scale=e5m2>", "pact4", "sawb4<alpha=1.5>",
]  # fmt: skip


def round_trip(spelling: str, columns: int, attribute: str = "") -> str:
    packed = f'!qcc.packed<tensor<?x{columns}xf32>, "{spelling}">'
    plain = f"tensor<?x{columns}xf32>"
    return f"""
    func.func @main(%x: {plain}) -> {plain} {{
      %q = "qcc.quantize"(%x) {attribute} : ({plain}) -> {packed}
      %y = "qcc.dequantize"(%q) : ({packed}) -> {plain}
      return %y : {plain}
    }}"""


def values(rows: int, columns: int) -> np.ndarray:
    random = np.random.default_rng(rows)
    found = random.standard_normal((rows, columns)) * np.exp2(random.integers(-9, 9, (rows, 1)))
    found[0] = 0
    found[-1, ::3] = -found[-1, ::3] * 1e-3
    return found.astype(np.float32)


def both(text: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The results before and after the pass."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        [before] = interpret(module, [x], params=lambda name: np.empty(0))
        expand_roundings(module.operation)
        assert module.operation.verify()
        assert "qcc." not in str(module)
        [after] = interpret(module, [x], params=lambda name: np.empty(0))
    return before, after


@pytest.mark.parametrize("spelling", FORMATS)
def test_every_format_to_the_bit(spelling: str) -> None:
    ragged = parse_spelling(spelling).part_specs(1, 70) if _takes(spelling, 70) else None
    for columns in (64, 70) if ragged else (64,):
        before, after = both(round_trip(spelling, columns), values(5, columns))
        np.testing.assert_array_equal(after, before)


def _takes(spelling: str, columns: int) -> bool:
    try:
        parse_spelling(spelling).part_specs(1, columns)
    except Exception:  # noqa: BLE001  # any refusal of the format means that rows are not cut so
        return False
    return True


@pytest.mark.parametrize("spelling", ["int8<group=tensor>", "int8<group=tensor, symmetric=false>"])
def test_known_ranges(spelling: str) -> None:
    text = round_trip(spelling, 64, "{range = array<f32: -3.0, 2.5>}")
    before, after = both(text, values(5, 64))
    np.testing.assert_array_equal(after, before)


def test_what_is_not_finite_becomes_nan() -> None:
    x = values(3, 64)
    x[1, 5], x[2, 6] = np.nan, np.inf
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(round_trip("fp8_e4m3", 64))
        expand_roundings(module.operation)
        [after] = interpret(module, [x], params=lambda name: np.empty(0))
    assert np.isnan(after[1, 5])
    assert np.isnan(after[2, 6])
    assert np.isfinite(after).sum() == x.size - 2


def stored(spelling: str, plain: str, x: np.ndarray, attribute: str = "") -> tuple[str, list]:
    """What a kernel reads of a packed value, here returned in its place: types and arrays."""
    packed = f'!qcc.packed<{plain}, "{spelling}">'
    text = f"""
    func.func @main(%x: {plain}) -> {plain} {{
      %q = "qcc.quantize"(%x) {attribute} : ({plain}) -> {packed}
      %l = "tile.pointer"(%q) {{part = "codes"}} : ({packed}) -> !tile.argument
      return %x : {plain}
    }}"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        expand_roundings(module.operation)
        lines = str(module).splitlines()
        [cast] = [line for line in lines if "unrealized_conversion_cast" in line]
        names, types = re.search(r"cast (.*) : (.*) to", cast).groups()  # type: ignore[union-attr]
        kept = [line for line in lines if "tile.pointer" not in line and line is not cast]
        changed = "\n".join(kept).replace(f"-> {plain} {{", f"-> ({types}) {{", 1)
        changed = re.sub(r"return .*", f"return {names} : {types}", changed)
        return types, interpret(ir.Module.parse(changed), [x], params=lambda name: np.empty(0))


def test_codes_and_scales_of_int8() -> None:
    x = values(4, 32)
    types, (codes, scale) = stored("int8", "tensor<?x32xf32>", x)
    assert types == "tensor<?x32xi8>, tensor<?xf32>"
    parts = parse_spelling("int8").quantize(x, axis=-1).parts
    np.testing.assert_array_equal(codes.view(np.uint8), parts["codes"])
    np.testing.assert_array_equal(scale, parts["scale"].reshape(-1))


NHWC = (0, 2, 3, 1)


@pytest.mark.parametrize(
    ("spelling", "layout", "shape", "kind"),
    [
        ("int4", "pairs", (3, 16), "3x2xi32"),
        ("int4", "pairs", (3, 7), "3x4xi8"),
        ("int2", "pairs", (3, 10), "3x5xi8"),
        ("int4", "integers", (3, 7), "3x7xi8"),
        ("int3<group=tensor>", "pixels", (2, 3, 2, 5), "2x2x5x3xi8"),
        ("pact4", "paired-pixels", (2, 6, 2, 3), "2x2x3x3xi8"),
        ("int8<group=tensor>", "pixel-blocks", (16, 32, 3, 2), "2x2x3x2x8x16xi8"),
        ("int4<group=tensor>", "paired-pixel-blocks", (8, 64, 1, 2), "1x2x1x2x8x4xi32"),
    ],
)
def test_layouts_of_codes(spelling: str, layout: str, shape: tuple[int, ...], kind: str) -> None:
    """Integers with their sign in bytes, or two in a byte; channels of pixels side by side."""
    plain = f"tensor<{'x'.join(map(str, shape))}xf32>"
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    types, (found, _) = stored(spelling, plain, x, f'{{layout = "{layout}"}}')
    assert types.startswith(f"tensor<{kind}>, ")
    fmt = parse_spelling(spelling)
    rows = x.reshape(-1, shape[-1])
    codes = row_codes(fmt, fmt.encode_rows(rows), shape[-1]).astype(np.int64).reshape(shape)
    wanted = np.where((codes >> (fmt.bits - 1) == 1) & ("int" in spelling),
                      codes - (1 << fmt.bits), codes)  # fmt: skip
    wanted = wanted.transpose(NHWC) if "pixels" in layout else wanted
    wanted = in_blocks(wanted, BLOCK_CHANNELS[layout]) if layout in BLOCK_CHANNELS else wanted
    if not layout.startswith("pair"):
        np.testing.assert_array_equal(found, wanted)
        return
    padded = np.pad(wanted, [(0, 0)] * (wanted.ndim - 1) + [(0, wanted.shape[-1] % 2)]) & 15
    pairs = (padded[..., ::2] | padded[..., 1::2] << 4).astype(np.uint8)
    np.testing.assert_array_equal(found.view(np.uint8), pairs)


def in_blocks(images: np.ndarray, channels: int) -> np.ndarray:
    """[N, C, H, W] to [N / n, C / c, H, W, n, c]."""
    n, c, height, width = images.shape
    shape = n // BLOCK_IMAGES, BLOCK_IMAGES, c // channels, channels, height, width
    return images.reshape(shape).transpose(0, 2, 4, 5, 1, 3)


def test_blocks_are_whole() -> None:
    whole = round_trip("int8<group=tensor>", 16, '{layout = "pixel-blocks"}')
    for shape in ("7x16x2x2", "8x24x2x2", "?x16x2x2", "8x16"):
        with make_context(), pytest.raises(ir.MLIRError, match="no blocks of 8 images x 16"):
            ir.Module.parse(whole.replace("?x16", shape))


def test_searched_clips_are_refused() -> None:
    with (
        make_context(),
        ir.Location.unknown(),
        pytest.raises(UnsupportedError, match="no kernel rounds activations"),
    ):
        expand_roundings(ir.Module.parse(round_trip("sawb4", 64)).operation)
