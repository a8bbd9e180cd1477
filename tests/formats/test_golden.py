"""Bit for bit against the outputs of public reference code (formats.md 12)."""

from typing import Any

import numpy as np
import pytest

from qcc.dialects.formats import Format, accumulate_chunked, format, from_definition
from qcc.dialects.formats.nested import merge_planes, split_halves

AMXFP4 = {
    "fp32scale": {"scale": "fp32"},
    "e5m2": {"scale": "e5m2"},
    "e4m3max480": {"scale": "e4m3", "max480": True},
    "pot": {"scale": "pot"},
    "potr": {"scale": "potr"},
}
SYMMETRIC_SCALES = {
    "fp32scale": "type=fp32 rule=absmax",
    "e5m2": "type=e5m2 rule=absmax rounding=nearest",
    "e4m3max480": "type=e4m3max480 rule=absmax rounding=nearest",
    "pot": "type=e8m0 rule=floor",
    "potr": "type=e8m0 rule=even",
}
MX = {"e4m3": "mxfp8_e4m3", "e5m2": "mxfp8_e5m2", "e3m2": "mxfp6_e3m2", "e2m3": "mxfp6_e2m3"}
MX["e2m1"] = "mxfp4"
MICROXCALING = {f"fp{name[4]}_{key}": name for key, name in MX.items()} | {"int8": "mxint8"}


def symmetric_fp4(scale: str) -> Format:
    """The baselines of the AMXFP4 code are not built in: a user would write them so."""
    return from_definition(
        "format symmetric_fp4 {"
        " element minifloat exponent=2 mantissa=1 rounding=nearest signed_zero=false;"
        f" block size=32; scale scale {scale}; }}"
    )


@pytest.mark.parametrize("mode", AMXFP4)
def test_amxfp4_values(golden: Any, mode: str) -> None:
    vectors = golden("amxfp4_mxqllm")
    expected = vectors[f"amxfp4_{mode}"]
    known = ~np.isnan(expected)  # hazard 1
    values = format("amxfp4", **AMXFP4[mode]).quantize(vectors["x"]).dequantize()
    assert np.array_equal(values[known], expected[known])
    assert np.isfinite(values).all()


@pytest.mark.parametrize("mode", SYMMETRIC_SCALES)
def test_symmetric_baselines_from_a_user_definition(golden: Any, mode: str) -> None:
    vectors = golden("amxfp4_mxqllm")
    expected = np.nan_to_num(vectors[f"mxfp4_{mode}"], nan=0.0)  # hazard 2: the row of zeros
    fmt = symmetric_fp4(SYMMETRIC_SCALES[mode])
    assert np.array_equal(fmt.quantize(vectors["x"]).dequantize(), expected)


def test_amxfp4_codes_and_scales(golden: Any) -> None:
    vectors = golden("amxfp4_mxqllm")
    q = format("amxfp4").quantize(vectors["x"])
    assert np.array_equal(q.codes, vectors["e5m2_code"])
    assert np.array_equal(q.scales["scale_pos"][:, 0], vectors["e5m2_scale_pos_u8"])
    assert np.array_equal(q.scales["scale_neg"][:, 0], vectors["e5m2_scale_neg_u8"])


@pytest.mark.parametrize("rounding", ["nearest", "even", "floor"])
@pytest.mark.parametrize("key", MICROXCALING)
def test_microxcaling(golden: Any, key: str, rounding: str) -> None:
    vectors = golden("mx_microxcaling")
    q = format(MICROXCALING[key], rounding=rounding).quantize(vectors["x"])
    assert np.array_equal(q.dequantize(), vectors[f"{key}_{rounding}"])


@pytest.mark.parametrize("mode", ["floor", "ceil", "even", "rceil"])
@pytest.mark.parametrize("key", MX)
def test_torchao_mx(golden: Any, key: str, mode: str) -> None:
    vectors = golden("mx_torchao")
    q = format(MX[key], scale=mode).quantize(vectors["x"])
    assert np.array_equal(q.scales["scale"], vectors[f"{key}_{mode}_scale"])
    assert np.array_equal(q.parts["codes"], vectors[f"{key}_{mode}_data"])
    if f"{key}_{mode}_deq" in vectors:
        assert np.array_equal(q.dequantize(), vectors[f"{key}_{mode}_deq"])


@pytest.mark.parametrize("level", ["single", "two"])
def test_torchao_nvfp4(golden: Any, level: str) -> None:
    vectors = golden("nvfp4_torchao")
    options: dict[str, Any] = {}
    if level == "two":
        options = {"two_level": True, "tensor_scale": vectors["two_global"]}
    q = format("nvfp4").quantize(vectors["x"], **options)
    assert np.array_equal(q.scales["scale"], vectors[f"{level}_scale_u8"])
    assert np.array_equal(q.parts["codes"], vectors[f"{level}_packed"])
    assert np.array_equal(q.dequantize(), vectors[f"{level}_deq"])


def test_nestedfp_planes(golden: Any) -> None:
    vectors = golden("nestedfp_fp16")
    upper, lower = split_halves(vectors["fp16_bits"])
    assert np.array_equal(upper, vectors["upper"])
    assert np.array_equal(lower, vectors["lower"])
    assert np.array_equal(merge_planes(upper, lower), vectors["merged"])


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("data", ["gauss", "laplace", "t3"])
def test_dint_model(golden: Any, data: str, bits: int) -> None:
    vectors, key = golden("dint_model"), f"{data}_d{bits}"
    q = format(f"dint{bits}").quantize(vectors[f"w_{data}"])
    assert np.array_equal(q.codes, vectors[f"{key}_code"])
    assert np.array_equal(q.scales["zero_point"], vectors[f"{key}_zp"])
    np.testing.assert_allclose(q.scales["scale"], vectors[f"{key}_scale"], rtol=1e-7)
    np.testing.assert_allclose(q.dequantize(), vectors[f"{key}_deq"], rtol=2e-7)


@pytest.mark.parametrize("data", ["gauss", "laplace", "uniform"])
@pytest.mark.parametrize(
    ("key", "bits"),
    [("sawb0", 2), ("sawb0", 4), ("sawb0", 8), ("sawb", 2), ("sawb", 3), ("sawb", 4), ("sawb", 5)],
)
def test_sawb(golden: Any, data: str, key: str, bits: int) -> None:
    vectors, case = golden("sawb_pact_fmsmo"), f"{key}_{data}_{bits}"
    fmt = format(f"sawb{bits}", alpha="sawb")
    if bits in (2, 4):
        fmt = fmt.with_options(zero_level=key == "sawb0")
    weights, alpha = vectors[f"w_{data}"], vectors[f"{case}_alpha"]
    found = fmt.quantize(weights).scales["scale"]
    np.testing.assert_allclose(found.ravel(), alpha.ravel(), rtol=2e-6)
    given = fmt.with_options(alpha=alpha.item()).quantize(weights)
    assert np.array_equal(given.dequantize(), vectors[case])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pact(golden: Any, bits: int) -> None:
    vectors = golden("sawb_pact_fmsmo")
    fmt = format(f"pact{bits}", alpha=vectors["pact_alpha"].item())
    assert np.array_equal(fmt.quantize(vectors["pact_x"]).dequantize(), vectors[f"pact_{bits}"])


@pytest.mark.parametrize("name", ["fp8_152", "fp16_169"])
def test_training_formats(golden: Any, name: str) -> None:
    vectors = golden("fp8train_rounding_chunk")
    values = format(name).quantize(vectors["x"]).dequantize()
    assert np.array_equal(values, vectors[f"{name}_rne"])


def test_chunked_accumulation(golden: Any) -> None:
    vectors = golden("fp8train_rounding_chunk")
    products = vectors["A"] * vectors["W"]
    sums = [float(accumulate_chunked(products, int(chunk))) for chunk in vectors["chunk_len"]]
    assert sums == vectors["chunk_result"].tolist()
