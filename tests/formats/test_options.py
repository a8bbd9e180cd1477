"""Names, options, spellings, and what a compiler asks of a format."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from qcc.dialects.errors import UnsupportedError, UsageError
from qcc.dialects.formats import available, format, parse_spelling

PROMISED = [f"{kind}{bits}" for kind in ("int", "uint") for bits in range(2, 9)]
PROMISED += ["fp8_e4m3", "fp8_e5m2", "fp8_152", "fp16_169", "mxfp8_e4m3", "mxfp8_e5m2"]
PROMISED += ["mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "amxfp4", "dint3", "dint4"]
PROMISED += ["nestedfp16", "nf4", "lut4", "fp16", "bf16", "fp32"]
SPELLINGS = [
    ("int4", {"group": 32, "symmetric": False}, "int4<group=32,symmetric=false>"),
    ("int4", {"group": "channel"}, "int4"),
    ("amxfp4", {"scale": "e5m2"}, "amxfp4"),
    ("amxfp4", {"scale": "pot"}, "amxfp4<scale=pot>"),
    ("nvfp4", {"two_level": True, "tensor_scale": 0.1}, None),
    ("lut4", {"table": np.linspace(-1, 1e-6, 16), "group": 8}, None),
    ("nestedfp16", {"threshold": 1.8192}, None),
    ("nestedfp16", {"threshold": 1.5, "view": "fp8_e4m3"}, None),
    ("nestedfp16<view=fp8_e4m3>", {"view": "none"}, "nestedfp16"),
    ("sawb4", {"alpha": 3}, "sawb4<alpha=3.0>"),
]


def test_promised_names_exist_and_are_described() -> None:
    assert set(PROMISED) <= set(available())
    assert all(20 < len(title) < 100 for title in available().values())


@pytest.mark.parametrize(("name", "options", "spelling"), SPELLINGS)
def test_spelling_round_trip(name: str, options: dict[str, Any], spelling: str | None) -> None:
    fmt = format(name, **options)
    assert spelling in (None, fmt.spelling)
    assert parse_spelling(fmt.spelling) == fmt
    assert format(fmt.spelling) == fmt


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("mxfp5", {}, "mxfp4"),
        ("int4", {"grop": 32}, "group"),
        ("int4", {"group": 0}, "channel"),
        ("int4", {"group": "row"}, "channel"),
        ("int4", {"group": True}, "channel"),
        ("int4", {"group": 10**400}, "channel"),
        ("int4", {"symmetric": 1}, "true, false"),
        ("mxfp4", {"scale": "e5m2"}, "rceil"),
        ("amxfp4", {"scale": "floor"}, "potr"),
        ("lut4", {}, "was not given"),
        ("lut4", {"table": [1.0] * 15}, "16"),
        ("lut4", {"table": [float("nan")] * 16}, "finite"),
        ("lut4", {"table": [0.0] * 16}, "two different"),
        ("nvfp4", {"tensor_scale": -1.0}, "positive"),
        ("nestedfp16", {"threshold": 1.9}, "1.875"),
        ("nestedfp16", {"view": "int4"}, "none, fp8_e4m3"),
        ("int8", {"view": "fp8_e4m3"}, "no option 'view'"),
        ("int4<group=32", {}, "expected"),
        ("int4<group=32,group=64>", {}, "twice"),
        ("mine@0123456789ab", {}, "not loaded"),
        ("no/such/file.fmt", {}, "cannot read"),
        ("bad\0name.fmt", {}, "cannot read"),
        (3, {}, "named by a text"),
    ],
)
def test_wrong_use_names_the_way_out(name: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        format(name, **options)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2


def test_derived_facts() -> None:
    assert (format("mxfp4").bits, format("mxfp4").block_size) == (4, 32)
    assert format("int8").block_size is None
    assert format("int8", group="tensor").block_size == "tensor"
    bits = {
        name: format(name).bits_per_value for name in ("mxfp4", "nvfp4", "amxfp4", "mxfp8_e5m2")
    }
    assert bits == {"mxfp4": 4.25, "nvfp4": 4.5, "amxfp4": 4.5, "mxfp8_e5m2": 8.25}
    assert format("uint4", group=32).bits_per_value == 4 + 5 * 8 / 32
    with pytest.raises(UnsupportedError):
        format("fp32").element_values()


def test_scale_decoding() -> None:
    assert format("mxfp4").scale_decoding("scale").kind == "e8m0"
    positive = format("amxfp4").scale_decoding("scale_pos")
    assert (positive.kind, positive.of, positive.divide) == ("e5m2", "positive", False)
    assert format("nvfp4", two_level=True).scale_decoding("tensor_scale").tensor
    assert format("pact4").scale_decoding("inverse_scale").divide
    with pytest.raises(UsageError, match="scale_pos"):
        format("amxfp4").scale_decoding("scale")


def test_zero_point_codes() -> None:
    assert not format("int4").zero_point_codes().any()
    assert format("uint4").zero_point_codes().all()
    assert np.flatnonzero(~format("dint4").zero_point_codes()).tolist() == [14, 15]
    assert not format("dint4", symmetric=True).zero_point_codes().any()


@pytest.mark.parametrize(
    ("spelling", "k", "largest", "refused"),
    [
        ("int4<group=32>", 100, 1.0, "groups of 32"),
        ("nf4", 100, 1.0, "groups of 64"),
        ("dint4<group=32>", 96, 1.0, None),
        ("mxfp4", 100, 1.0, None),
        ("amxfp4", 100, 1e30, None),
        ("nestedfp16", 100, 1.75, None),
        ("nestedfp16", 100, 1.76, "threshold 1.75"),
        ("nestedfp16<threshold=1.8>", 100, 1.76, None),
        ("nestedfp16<threshold=1.875>", 100, 1.8749999, "threshold"),
        ("nvfp4", 100, 0.005, "underflows"),
        ("nvfp4<two_level=true>", 100, 0.005, None),
        ("amxfp4<scale=e4m3>", 100, 0.005, None),
        ("amxfp4<scale=e4m3,two_level=false>", 100, 0.005, "underflows"),
        ("mxfp4", 100, float("nan"), "non-finite"),
        ("int4<scale=fp16>", 100, 458500.0, None),
        ("int4<scale=fp16>", 100, 458600.0, "no fp16 scale reaches"),
        ("int4<scale=fp16>", 100, 4.2e-4, "underflows"),
        ("int4<scale=bf16>", 100, 1e-30, None),
        ("uint4<scale=fp16>", 100, 491300.0, "no fp16 scale reaches"),
    ],
)
def test_inadmissible(spelling: str, k: int, largest: float, refused: str | None) -> None:
    reason = format(spelling).inadmissible((8, k), k, {"min": -largest, "max": largest / 2})
    assert (reason is None) == (refused is None)
    assert refused is None or (reason is not None and refused in reason)


def test_nested_refuses_what_it_cannot_hold() -> None:
    fmt = format("nestedfp16")
    assert fmt.needs_stats
    with pytest.raises(UsageError, match="cannot hold"):
        fmt.quantize(np.array([0.1, -1.875]))
    with pytest.raises(UsageError, match="cannot be viewed"):
        fmt.quantize(np.ones(8)).view("int8")


def test_import_is_cheap_and_brings_no_lark_or_torch() -> None:
    script = (
        "import sys, qcc.dialects.formats;"
        "print([name for name in ('lark', 'torch', 'ml_dtypes') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert shown.stdout.strip() == "[]"
