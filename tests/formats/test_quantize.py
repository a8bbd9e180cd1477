"""`Format.quantize` and `QuantizedArray` on ordinary and awkward arrays."""

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qcc
from qcc.dialects.errors import QccError, UsageError
from qcc.dialects.formats import Format, available, encoding, format

SIGNAL_TO_NOISE = {  # decibels on N(0, 1), formats.md 1.7 and neighbours
    "mxfp4": (18.6, 19.0),
    "amxfp4": (20.0, 20.4),
    "nvfp4": (20.3, 21.0),
    "mxfp6_e2m3": (30.0, 32.0),
    "mxfp8_e4m3": (30.0, 32.5),
    "int8": (38.0, 42.0),
    "int4<group=32>": (20.0, 20.5),
    "uint4<group=32>": (21.6, 22.1),
    "nf4": (19.5, 21.5),
}


def signal_to_noise(fmt: Format, x: np.ndarray) -> float:
    error = fmt.quantize(x).dequantize().astype(np.float64) - x
    return float(10 * np.log10(np.square(x, dtype=np.float64).sum() / np.square(error).sum()))


def usable(name: str) -> Format:
    return format(name, table=np.linspace(-1, 1, 16)) if name == "lut4" else format(name)


@pytest.mark.parametrize("name", SIGNAL_TO_NOISE)
def test_quality_on_normal_data(name: str, rng: np.random.Generator) -> None:
    low, high = SIGNAL_TO_NOISE[name]
    assert low < signal_to_noise(format(name), rng.standard_normal((256, 2048), np.float32)) < high


def test_amxfp4_table_of_the_paper_review(rng: np.random.Generator) -> None:
    normal = rng.standard_normal((512, 2048), np.float32)
    heavy = rng.standard_t(3, (512, 2048)).astype(np.float32)
    assert signal_to_noise(format("amxfp4", scale="pot"), normal) == pytest.approx(18.57, abs=0.1)
    assert signal_to_noise(format("amxfp4"), normal) == pytest.approx(20.18, abs=0.1)
    assert signal_to_noise(format("amxfp4", scale="pot"), heavy) == pytest.approx(17.43, abs=0.5)
    assert signal_to_noise(format("amxfp4"), heavy) == pytest.approx(20.20, abs=0.5)


@pytest.mark.parametrize("name", sorted(available()))
@pytest.mark.parametrize("shape", [(), (1,), (33,), (3, 70), (2, 3, 5), (0, 4), (4, 0), (2, 1, 65)])
def test_any_shape_and_axis(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    fmt = usable(name)
    x = np.abs(rng.standard_normal(shape)).astype(np.float32) * np.float32(0.3)
    for axis in range(-len(shape), len(shape)) if shape else (0, -1):
        q = fmt.quantize(x, axis=axis)
        values = q.dequantize()
        assert (q.codes.shape, values.shape, values.dtype) == (shape, shape, np.float32)
        k = shape[axis] if shape else 1
        specs = fmt.part_specs(x.size // k if k else rest(shape, axis), k)
        assert {n: (p.shape, p.dtype) for n, p in q.parts.items()} == specs
        assert q.nbytes == sum(part.nbytes for part in q.parts.values())
        assert np.isfinite(values).all()
        assert np.abs(values - x).max(initial=0) <= np.abs(x).max(initial=0)
        moved = np.moveaxis(x, axis, -1) if shape else x
        expected = fmt.quantize(moved).dequantize()
        assert np.array_equal(values, np.moveaxis(expected, -1, axis) if shape else expected)


def rest(shape: tuple[int, ...], axis: int) -> int:
    return int(np.prod([n for i, n in enumerate(shape) if i != axis % len(shape)]))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(set(available()) - {"lut4", "nestedfp16", "sawb7", "sawb8"})),
    rows=st.integers(1, 5),
    k=st.integers(1, 200),
    scale=st.integers(-140, 120),
    seed=st.integers(0, 99),
)
def test_results_are_finite_at_any_magnitude(
    name: str, rows: int, k: int, scale: int, seed: int
) -> None:
    x = np.ldexp(np.random.default_rng(seed).standard_normal((rows, k)), scale).astype(np.float32)
    q = format(name).quantize(x)
    if name != "fp8_152" and not (name == "fp16_169" and scale > 20):
        assert np.isfinite(q.dequantize()).all()


def test_zeros_give_zeros() -> None:
    """Even from tables and levels that hold no zero."""
    for name in available():
        assert not usable(name).quantize(np.zeros((3, 64))).dequantize().any(), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("name", sorted(available()))
def test_non_finite_input_is_refused(name: str, value: float) -> None:
    x = np.ones((4, 100), np.float32)
    x[2, 50] = np.copysign(np.float32(value), value)
    with pytest.raises(QccError, match="NaN or an infinity"):
        usable(name).quantize(x)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.int32, np.bool_])
def test_other_input_types(dtype: Any) -> None:
    x = np.arange(64).reshape(2, 32).astype(dtype)
    expected = format("mxfp4").quantize(x.astype(np.float32))
    q = format("mxfp4").quantize(x)
    assert np.array_equal(q.codes, expected.codes)


@pytest.mark.parametrize("x", ["text", [1j], [[1], [2, 3]], None, np.array(["1"], object)])
def test_what_is_no_array_of_numbers_is_refused(x: Any) -> None:
    with pytest.raises(UsageError):
        format("int8").quantize(x)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(2, 2, device="meta"),
        torch.eye(3).to_sparse(),
    ],
    ids=["complex", "without data", "sparse"],
)
def test_tensors_without_plain_numbers_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(UsageError) as refused:
        format("int8").quantize(x)
    assert refused.value.code == "format-dtype"


@pytest.mark.parametrize("axis", [2, -3, None, 0.5])
def test_wrong_axis(axis: Any) -> None:
    with pytest.raises(UsageError, match="axis"):
        format("int8").quantize(np.ones((2, 2)), axis=axis)


def test_torch_tensors() -> None:
    x = torch.linspace(-1, 1, 96, requires_grad=True).reshape(3, 32)
    q = qcc.format("amxfp4", scale="e5m2").quantize(x)
    assert np.array_equal(q.codes, format("amxfp4").quantize(x.detach().numpy()).codes)
    half = format("int8").quantize(x.to(torch.bfloat16), axis=0)
    assert half.shape == (3, 32)


def test_signed_codes_index_the_table(rng: np.random.Generator) -> None:
    q = format("int4", group=32).quantize(rng.standard_normal((4, 64)))
    assert q.codes.dtype == np.int8
    assert q.codes.min() >= -7
    values = q.format.element_values()[q.codes] * np.repeat(q.scales["scale"], 32, axis=1)
    assert np.array_equal(values, q.dequantize())


def test_affine_matches_its_equation(rng: np.random.Generator) -> None:
    x = (rng.standard_normal((5, 96)) + 2).astype(np.float32)
    q = format("uint4", group=32).quantize(x)
    step = np.repeat(q.scales["scale"], 32, axis=1)
    offset = np.repeat(q.scales["zero_point"], 32, axis=1).astype(np.float32)
    assert np.array_equal(q.codes, np.clip(np.rint(x / step) + offset, 0, 15))
    assert np.array_equal(q.dequantize(), (q.codes - offset) * step)
    assert np.abs(q.dequantize() - x).max() <= step.max() * 0.51


@pytest.mark.parametrize(("name", "kind"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_scales_of_16_bits_are_those_of_fp32_rounded(
    rng: np.random.Generator, name: str, kind: type
) -> None:
    x = rng.standard_normal((7, 96)).astype(np.float32) * np.logspace(-2, 3, 7)[:, None]
    for base in ("int4", "uint4", "dint4", "nf4", "int8"):
        exact = format(base, group=32).quantize(x.astype(np.float32))
        q = format(base, group=32, scale=name).quantize(x.astype(np.float32))
        assert q.scales["scale"].dtype == np.uint16
        assert np.array_equal(q.scales["scale"].view(kind), exact.scales["scale"].astype(kind))
        codes = q.codes.astype(np.int64) - exact.codes
        assert np.abs(codes[np.isin(q.codes, [14, 15], invert=True)]).max() <= 1
    tiny = format("int4", group="channel", scale="fp16").quantize(np.full((1, 4), 1e-9, np.float32))
    assert tiny.scale_values["scale"][0, 0] == 2.0**-24
    assert not tiny.dequantize().any()


def test_dint_special_windows_are_open() -> None:
    steps = np.array([-7, 6, 0.25, -0.25, 0.75, -0.75, 0.26, -0.74, 0.5, -0.5], np.float32)
    values = format("dint4").quantize(steps).dequantize()
    assert values.tolist() == [-7, 6, 0, 0, 1, -1, 0.5, -0.5, 0.5, -0.5]
    assert format("dint4").quantize(steps).codes[6:8].tolist() == [14, 15]


@pytest.mark.parametrize("tiny", [1e-5, 2.0**-20, 1e-38, 1e-45])
def test_amxfp4_flushed_scale_gives_zero(tiny: float) -> None:
    """Hazard 1: the reference divides zero by zero here."""
    x = np.full((1, 32), -tiny, np.float32)
    x[0, ::2] = 0
    q = format("amxfp4").quantize(x)
    assert q.scales["scale_neg"][0, 0] == 0x3C
    assert not q.dequantize().any()
    assert not q.codes.any()


def test_amxfp4_can_keep_the_smallest_scale() -> None:
    x = np.full((1, 32), -(2.0**-17), np.float32)
    fine = format("amxfp4", flush="smallest").quantize(x)
    assert fine.scale_values["scale_neg"][0, 0] == 2.0**-16
    assert np.array_equal(fine.dequantize(), x)


def test_torchao_scale_code_zero_is_copied_only_on_request() -> None:
    """Hazard 9: encoded with 2**-126, decoded with 2**-127."""
    x = np.full((1, 32), 2.0**-127, np.float32)
    assert format("mxfp4").quantize(x).dequantize()[0, 0] == x[0, 0]
    assert format("mxfp4", compat="torchao").quantize(x).dequantize()[0, 0] == x[0, 0] / 2


def test_rceil_just_above_a_power_of_two() -> None:
    """Hazard 8: the exponent of 1024 * (1 + 2**-23) rounds up to 11."""
    x = np.full((1, 32), np.nextafter(np.float32(1024 * 6), np.float32(np.inf)), np.float32)
    assert format("mxfp4", scale="rceil").quantize(x).scales["scale"][0, 0] == 138


def test_two_level_nvfp4_computes_its_tensor_scale(rng: np.random.Generator) -> None:
    x = (rng.standard_normal((32, 256)) * 1e-4).astype(np.float32)
    q = format("nvfp4", two_level=True).quantize(x)
    assert q.scales["tensor_scale"].shape == (1,)
    assert q.scales["tensor_scale"][0] == np.abs(x).max() / np.float32(448 * 6)
    assert signal_to_noise(q.format, x) > 19
    assert not format("nvfp4").quantize(x).dequantize().any()


def test_streaming_does_not_change_the_result(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = rng.standard_normal((37, 200)).astype(np.float32)
    names = ["mxfp4", "amxfp4", "int4<group=40>", "uint4<group=tensor>", "nvfp4<two_level=true>"]
    for name in [*names, "sawb4", "int3", "sawb8"]:
        whole = format(name).encode_rows(x)
        with monkeypatch.context() as patch:
            patch.setattr(encoding, "PIECE", 512)
            pieces = format(name).encode_rows(x)
        for part, stored in whole.items():
            assert np.array_equal(stored, pieces[part]), (name, part)


@pytest.mark.parametrize("shape", [(4096, 2048), (1, 1 << 23)])
def test_peak_memory_does_not_grow_with_the_tensor(shape: tuple[int, int]) -> None:
    x = np.ones(shape, np.float32)
    for name in ("mxfp4", "int4<group=32,symmetric=false>", "nvfp4<two_level=true>"):
        fmt = format(name)
        tracemalloc.start()
        parts = fmt.encode_rows(x)
        peak = tracemalloc.get_traced_memory()[1] - sum(part.nbytes for part in parts.values())
        tracemalloc.stop()
        assert peak < 12 << 20, name


def test_strided_rows(rng: np.random.Generator) -> None:
    x = rng.standard_normal((64, 96)).astype(np.float32)
    for name in ("mxfp4", "int4<group=32>"):
        parts = format(name).encode_rows(x.T)
        expected = format(name).encode_rows(np.ascontiguousarray(x.T))
        assert all(np.array_equal(parts[part], expected[part]) for part in expected)


def test_searched_clip_beats_the_closed_form(rng: np.random.Generator) -> None:
    """Hazard 15: eight bits of SAWB clip a flat distribution."""
    x = rng.uniform(-0.1, 0.1, (16, 512)).astype(np.float32)
    for group in ("tensor", "channel"):
        searched = signal_to_noise(format("sawb8", group=group), x)
        assert searched > signal_to_noise(format("sawb8", alpha="sawb", group=group), x) + 5
