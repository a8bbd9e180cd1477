"""Scales of a tensor from its known range, in place of its values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.dialects.errors import UsageError
from qcc.dialects.formats import parse_spelling

TAKE_RANGE = (
    *("int8<group=tensor>", "int4<group=tensor,symmetric=false>", "uint8<group=tensor>"),
    *("int8<group=tensor,rounding=floor>", "fp8_e4m3<group=tensor>", "fp8_e5m2<group=tensor>"),
    *("nvfp4<two_level=true>", "nf4<group=tensor>", "pact4"),
    *(
        "int8<group=tensor,scale=fp16>",
        "uint4<group=tensor,scale=bf16>",
        "dint4<group=tensor>",
        "dint3<group=tensor,symmetric=false>",
    ),
)
TAKE_NONE = (
    *("int8", "int8<group=32>", "mxfp4", "mxfp8_e4m3", "amxfp4", "nvfp4", "nestedfp16", "bf16"),
    *("sawb4", "sawb8", "sawb4<alpha=1.5>", "pact4<alpha=6.0>", "fp8_e4m3", "nf4"),
    *("nvfp4<two_level=true,tensor_scale=0.37>", "fp16_169<group=tensor>"),
)
FIXED = ("bf16", "fp8_e4m3", "nestedfp16", "sawb4<alpha=1.5>", "pact4<alpha=6.0>", "fp32")

floats = st.floats(-(2.0**100), 2.0**100, width=32)


@pytest.mark.parametrize("spelling", TAKE_RANGE)
@settings(max_examples=20, deadline=None)
@given(values=st.lists(floats, min_size=1, max_size=40))
def test_the_range_of_the_values_gives_their_own_encoding(
    spelling: str, values: list[float]
) -> None:
    fmt = parse_spelling(spelling)
    rows = np.array([values, values[::-1]], np.float32)
    own = fmt.encode_rows(rows)
    ranged = fmt.encode_rows(rows, (float(rows.min()), float(rows.max())))
    assert own.keys() == ranged.keys()
    for role, part in own.items():
        np.testing.assert_array_equal(ranged[role], part, role)


@pytest.mark.parametrize("spelling", TAKE_RANGE)
def test_values_inside_are_encoded_as_beside_the_extremes(spelling: str) -> None:
    """A whole array's scales do not depend on which of its rows are encoded."""
    fmt = parse_spelling(spelling)
    rows = np.random.default_rng(0).standard_normal((64, 48), np.float32)
    extremes = float(rows.min()), float(rows.max())
    whole = fmt.quantize(rows).dequantize()
    few = fmt.quantize(rows[3:5], tensor_range=extremes).dequantize()
    np.testing.assert_array_equal(few, whole[3:5])


@pytest.mark.parametrize("spelling", TAKE_RANGE)
def test_values_beyond_saturate(spelling: str) -> None:
    """They become what the value at the end of the range becomes."""
    fmt = parse_spelling(spelling)
    ends = np.array([[-0.75] * 16, [1.5] * 16], np.float32)
    at_the_ends = fmt.quantize(ends, tensor_range=(-0.75, 1.5)).dequantize()
    largest = np.abs(at_the_ends).max()
    for factor in (4, 1e6, 1e30):
        beyond = fmt.quantize(ends * np.float32(factor), tensor_range=(-0.75, 1.5)).dequantize()
        assert np.isfinite(beyond).all()
        assert np.abs(beyond).max() <= max(largest, 1.5) * 1.15
        np.testing.assert_array_equal(beyond[1], at_the_ends[1])


@pytest.mark.parametrize("spelling", TAKE_RANGE)
@pytest.mark.parametrize("both", [(0.0, 0.0), (2.0, 5.0), (-5.0, -2.0)])
def test_ranges_beside_zero(spelling: str, both: tuple[float, float]) -> None:
    fmt = parse_spelling(spelling)
    rows = np.full((2, 16), both[0], np.float32)
    rows[1] = both[1]
    expected = fmt.quantize(rows).dequantize()
    np.testing.assert_array_equal(fmt.quantize(rows, tensor_range=both).dequantize(), expected)


def test_properties_follow_the_definition() -> None:
    for spelling in TAKE_RANGE:
        assert parse_spelling(spelling).takes_range, spelling
        assert not parse_spelling(spelling).fixed_scales, spelling
    for spelling in TAKE_NONE:
        assert not parse_spelling(spelling).takes_range, spelling
        assert parse_spelling(spelling).fixed_scales is (spelling in FIXED), spelling


@pytest.mark.parametrize("spelling", TAKE_NONE)
def test_other_formats_refuse_a_range(spelling: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_spelling(spelling).quantize(np.ones(32), tensor_range=(0, 1))
    assert refused.value.code == "format-takes-no-range"


@pytest.mark.parametrize(
    "wrong", [(1.0, 0.0), (0.0, np.inf), (np.nan, 1.0), (-1e39, 1.0), (0.0, np.nan)]
)
def test_what_is_no_range(wrong: tuple[float, float]) -> None:
    with pytest.raises(UsageError) as refused:
        parse_spelling("int8<group=tensor>").quantize(np.ones(4), tensor_range=wrong)
    assert refused.value.code == "format-tensor-range"


def test_values_must_still_be_finite() -> None:
    with pytest.raises(UsageError) as refused:
        parse_spelling("int8<group=tensor>").quantize([1.0, np.nan], tensor_range=(0, 1))
    assert refused.value.code == "format-non-finite"


def test_the_callers_numpy_states_what_is_stored() -> None:
    q = parse_spelling("int8<group=tensor>").quantize([0.5, 9.0, -9.0], tensor_range=(-1.27, 1.0))
    assert q.codes.tolist() == [50, 127, -127]
    np.testing.assert_allclose(q.scale_values["scale"], 0.01, rtol=1e-6)
