"""
Emitted convolutions, run by the emulator in all its modes against NumPy.

All kernels are one translation unit; images, channels and windows are no multiples of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qcc.codegen.cuda.emulator.launch import ALL_MODES, Mode
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import Format
from qcc.dialects.formats.stored import layout_refusal, stored_specs, to_layout
from qcc.dialects.formats.window_packets import from_window_packets, spelled_layout
from qcc.dialects.qcc.reference import conv2d
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import (
    ConvSchedule,
    default_convolution,
    illegal,
    single_warps,
)
from qcc.dialects.tile.conv_space import estimate
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.warp_reference import run_warps
from qcc.passes.conv_kernel import comment_of
from tests.codegen.cuda import convolution_cases
from tests.codegen.cuda.convolution_cases import Case, loaded, stored
from tests.codegen.cuda.own_formats import OWN
from tests.codegen.cuda.warp_kernels import Built

DTYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "i8": np.int8,
}  # fmt: skip
UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}
BYTES = "int8<group=tensor>"
X_SCALE, Y_SCALE = np.float32(0.02), np.float32(0.375)


SMALL = ConvSchedule(2, 1, 16, 16, 64, 2)
GROUPS = ConvSchedule(2, 4, 32, 16, 64, 3, warp_groups=True)
CASES = {
    # NCHW from fp32, stride and padding, an exact weight with a scale for each output.
    "nchw": Case(ConvProblem(Window(5, 20, (3, 3), (2, 1), (1, 2)), "int4", source="f32",
                             result="f32", bias="f32"), ConvSchedule(1, 2, 32, 16, 64, 3)),
    # NHWC, 16 bytes at a time, dilation, relu.
    "nhwc": Case(ConvProblem(Window(16, 24, (3, 2), dilation=(1, 2)), "fp8_e4m3", relu=True,
                             block=0, result_block=0), SMALL),
    # Groups of values that are no multiples of 16; groups of the convolution; bf16.
    "groups": Case(ConvProblem(Window(6, 10, (3, 2), padding=(1, 1), groups=2), "int8<group=20>",
                               activation="bf16", result="bf16", bias="bf16"), SMALL),
    "depthwise": Case(ConvProblem(Window(1, 2, (3, 3), padding=(1, 1), groups=5), "fp16"), SMALL),
    # Integers, requantised; images in blocks of channels.
    "bytes": Case(ConvProblem(Window(16, 34, (3, 3)), "int8", activation="i8", result="i8",
                              block=8, result_block=2, bias="f32", requantised=BYTES), SMALL),
    # Zero points, a table, 1 x 1 windows; codes padded as `qcc.quantize` stores them.
    "zeros": Case(ConvProblem(Window(24, 16, (1, 1), (2, 2)), "uint4<symmetric=false>",
                              activation="i8", row_multiple=8), SMALL),
    "table": Case(ConvProblem(Window(16, 16, (2, 2)), "nf4<group=32,scale=fp16>", block=0), SMALL),
    "half_scales": Case(ConvProblem(Window(16, 16, (2, 2)), "int8<scale=bf16>", block=0), SMALL),
    # Groups of warps (wgmma): NHWC, and NCHW that is gathered element by element.
    "groups of warps": Case(
        ConvProblem(Window(40, 70, (3, 3), (1, 2), (1, 0)), "int4", relu=True, bias="f32", block=0,
                    result_block=0), GROUPS, target="sm_90a"),
    "groups of warps, nchw": Case(
        ConvProblem(Window(5, 130, (2, 3), dilation=(2, 1)), "fp8_e4m3", activation="bf16",
                    source="f32", result="bf16"),
        replace(GROUPS, warps_m=1, warps_n=8, outputs=32, depth=128, stages=2), target="sm_90a"),
    "groups of warps, zeros": Case(
        ConvProblem(Window(64, 64, (1, 1)), "uint4<symmetric=false>", result="f32", block=0,
                    result_block=0), replace(GROUPS, pixels=128), 3, (5, 9), "sm_90a"),
    # A scale for each sign and row, of which there are no groups; a byte that scales it all.
    "signs": Case(ConvProblem(Window(6, 10, (3, 2), groups=2), OWN["signs_by_row_e8m0"]), SMALL),
    "signs of all": Case(ConvProblem(Window(8, 20, (3, 3)), OWN["signs_of_tensor_e4m3"]), SMALL),
    "no scale": Case(ConvProblem(Window(8, 20, (1, 1)), OWN["blocks_without_scales"]), SMALL),
    "byte of all": Case(ConvProblem(Window(8, 20, (3, 3)), OWN["tensor_e5m2"], block=0), SMALL),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    yield from convolution_cases.built(tmp_path_factory.mktemp("convolution"), CASES)


def weight_of(problem: ConvProblem, rng: np.random.Generator) -> tuple[Format, Any, np.ndarray]:
    window = problem.window
    shape = problem.outputs, window.channels, *window.taps
    values = rng.normal(size=(problem.outputs, window.k)).astype(np.float32)
    parts = problem.format.encode_rows(values)
    wide = problem.format.decode_rows(parts, window.k).astype(np.float64)
    return problem.format, parts, wide.reshape(shape)


def layout_of(problem: ConvProblem) -> str:
    return spelled_layout(problem.program.order.name, problem.by_tap, problem.window.groups)


@dataclass(frozen=True)
class Given:
    """Arguments by name; the exact result, how far sums may be from it, and its shape."""

    arguments: dict[str, Any]
    wanted: np.ndarray
    bound: np.ndarray


def given(name: str) -> Given:
    p = CASES[name].problem
    w, rng = p.window, np.random.default_rng(3)
    _, parts, weight = weight_of(p, rng)
    images, (height, width) = CASES[name].images, CASES[name].size
    shape = (images, p.channels, height, width)
    if p.activation == "i8":
        images = rng.integers(-128, 128, shape).astype(np.int8)
        wide = images * np.float64(X_SCALE)
    else:
        images = rng.normal(size=shape).astype(np.float32).astype(DTYPES[p.memory])
        wide = images.astype(np.float64)
    options = {"stride": w.stride, "padding": w.padding, "dilation": w.dilation,
               "groups": w.groups}  # fmt: skip
    wanted, size = conv2d(wide, weight, **options), conv2d(abs(wide), abs(weight), **options)
    out_height, out_width = wanted.shape[2:]
    arguments = dict(to_layout(p.format, layout_of(p), parts, (p.outputs, w.channels, *w.taps)))
    arguments |= {
        "x": stored(images, p.block, 1, p.activation, p.row_multiple),
        "x_scale": np.array([X_SCALE]), "y_scale": np.array([Y_SCALE]),
        "table": np.array(p.program.table, np.uint32),
        "images": len(images), "height": height, "width": width, "out_height": out_height,
        "out_width": out_width, "y": np.zeros(wanted.size, DTYPES[p.result]),
    }  # fmt: skip
    if p.bias is not None:
        bias = arguments["bias"] = rng.normal(size=p.outputs).astype(DTYPES[p.bias])
        wanted = wanted + bias.astype(np.float64)[:, None, None]
    inputs = UNIT[p.activation] if p.source == "f32" else 0
    bound = ((w.k + 8) * UNIT["f32"] + p.program.error + inputs) * size + 2.0**-24
    if p.relu:
        wanted = np.maximum(wanted, 0)
    if p.result == "i8":
        bound = bound / Y_SCALE + 0.5
        wanted = np.clip(wanted / Y_SCALE, -127, 127)
    else:
        bound = bound + UNIT[p.result] * abs(wanted)
    return Given(arguments, wanted, bound)


def result_of(name: str, found: Given) -> np.ndarray:
    p = CASES[name].problem
    return loaded(found.arguments["y"], found.wanted.shape, p.result_block, 1, p.result)


@pytest.mark.parametrize("name", CASES)
def test_convolution(built: Built, name: str) -> None:
    found, first = given(name), None
    for mode in ALL_MODES:
        found.arguments["y"][:] = 0
        built.launch(name, CASES[name].grid(found.wanted), found.arguments, mode)
        result = result_of(name, found)
        assert (abs(result - found.wanted) <= found.bound).all(), mode
        first = result if first is None else first
        np.testing.assert_array_equal(result, first)


@pytest.mark.parametrize("name", ["nchw", "groups", "bytes"])
def test_reference(built: Built, name: str) -> None:
    """The NumPy meaning of the same kernels keeps the same bound."""
    found = given(name)
    run_warps(built.kernels[name], found.arguments, CASES[name].grid(found.wanted))
    assert (abs(result_of(name, found) - found.wanted) <= found.bound).all()


def test_integers_are_exact(built: Built) -> None:
    """One exact sum of integers, then the epilogue's roundings in its order."""
    p, found = CASES["bytes"].problem, given("bytes")
    rng = np.random.default_rng(3)
    fmt, parts, weight = weight_of(p, rng)
    codes = np.rint(weight / parts["scale"].reshape(-1, 1, 1, 1))
    images = rng.integers(-128, 128, (CASES["bytes"].images, p.channels, *CASES["bytes"].size))
    sums = conv2d(images.astype(np.float64), codes).astype(np.float32)
    value = sums * parts["scale"].astype(np.float32).reshape(-1, 1, 1) * X_SCALE
    value = value + found.arguments["bias"].reshape(-1, 1, 1)
    wanted = np.clip(np.rint(value / Y_SCALE), -127, 127)
    built.launch("bytes", CASES["bytes"].grid(wanted), found.arguments, Mode())
    np.testing.assert_array_equal(result_of("bytes", found), wanted)
    assert fmt.name == "int8"


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_from_their_layout(name: str) -> None:
    p = CASES[name].problem
    fmt, parts, weight = weight_of(p, np.random.default_rng(0))
    layout, shape = layout_of(p), weight.shape
    assert layout_refusal(fmt, layout, shape) is None
    stored = to_layout(fmt, layout, parts, shape)
    assert {role: (part.shape, part.dtype) for role, part in stored.items()} == stored_specs(
        fmt, layout, shape
    )
    for role, part in from_window_packets(fmt, layout, stored, shape).items():
        np.testing.assert_array_equal(part, parts[role])


def test_blocks_are_not_torn_apart() -> None:
    fmt = CASES["groups"].problem.format
    assert "tear the blocks" in str(layout_refusal(fmt, "mma16-taps1", (8, 4, 3, 3)))
    assert "no layout" in str(layout_refusal(fmt, "mma17-taps1", (8, 4, 3, 3)))
    assert "rank 4" in str(layout_refusal(fmt, "mma16-whole2", (8, 4)))


@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_90a"])
def test_every_shape_has_a_legal_schedule(target: str) -> None:
    windows = (Window(1, 1, (1, 1)), Window(3, 64, (7, 7), (2, 2)), Window(512, 2048, (1, 1)),
               Window(1, 1, (5, 5), groups=97), Window(256, 17, (3, 3)))  # fmt: skip
    for window in windows:
        for weight in ("int4", "fp16", "int3<group=64>", "nf4", "mxfp6_e2m3"):
            for pixels in (1, 49, 12544):
                problem = ConvProblem(window, weight, pixels)
                schedule = default_convolution(problem, target)
                assert not list(illegal(problem, schedule, machine(target)))


def test_images_lie_in_blocks_where_windows_ask_for_parts_of_sectors() -> None:
    """16 bytes of every second pixel, or 128 bytes of eight images."""
    near = ConvProblem(Window(16, 32, (3, 3)), "int8", 8192, "i8", block=0, blocks=(8, 16))
    apart = replace(near, window=replace(near.window, stride=(2, 2)))
    assert (near.sectors, apart.sectors, apart.in_blocks().sectors) == (1, 2, 1)
    assert not default_convolution(near).image_blocks
    schedule = default_convolution(apart)
    assert schedule.image_blocks
    costs = [estimate(apart, replace(schedule, image_blocks=blocks), machine("sm_80"))
             for blocks in (False, True)]  # fmt: skip
    assert costs[1].l2 < costs[0].l2
    assert "no codes in whole blocks" in "; ".join(
        illegal(replace(apart, blocks=None), schedule, machine("sm_80"))
    )


NHWC = ConvProblem(Window(128, 128, (3, 3), padding=(1, 1)), "int4", block=0, result_block=0)


def test_groups_of_warps_multiply_where_it_pays() -> None:
    for problem in (NHWC, replace(NHWC, activation="i8"), replace(NHWC, weight="fp16")):
        assert single_warps(problem, "sm_90a") == ""
        assert default_convolution(problem, "sm_90a").warp_groups
        assert not default_convolution(problem, "sm_80").warp_groups


@pytest.mark.parametrize(
    ("problem", "target", "reason"),
    [
        (NHWC, "sm_100a", "sm_100a has no wgmma.f16"),
        (replace(NHWC, pixels=196), "sm_90a", "196 output pixels are too few"),
        (replace(NHWC, block=1), "sm_90a", "copied 2 bytes at a time"),
        (replace(NHWC, weight="int4<group=64>"), "sm_90a", "scale the sums of each"),
        (replace(NHWC, window=Window(8, 8, (3, 3), groups=16)), "sm_90a", "8 channels of a group"),
    ],
)
def test_single_warps_have_reasons(problem: ConvProblem, target: str, reason: str) -> None:
    assert reason in single_warps(problem, target)
    assert not default_convolution(problem, target).warp_groups
    comment = comment_of(problem, default_convolution(problem, target), target)
    assert (reason in comment) == (target == "sm_90a")


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (replace(GROUPS, warps_n=2), "no groups of four"),
        (replace(GROUPS, pixels=48), "no wgmma has 48 columns"),
        (replace(GROUPS, outputs=32, pixels=256), "more than 128 sums"),
        (replace(GROUPS, width=8, taps_inner=True), "not where they share pixels"),
        (replace(GROUPS, depth=192), ""),
    ],
)
def test_illegal_groups_have_reasons(schedule: ConvSchedule, reason: str) -> None:
    found = "; ".join(illegal(NHWC, schedule, machine("sm_90a")))
    assert reason in found
    assert bool(found) == bool(reason)
    assert "no rows of 128 bytes" in "; ".join(
        illegal(replace(NHWC, activation="i8"), GROUPS, machine("sm_90a"))
    )


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (ConvProblem(Window(8, 8, (1, 1)), "nf4", activation="i8"), "no exact form in i8"),
        (ConvProblem(Window(8, 8, (1, 1)), "amxfp4", activation="i8"), "16-bit images"),
        (ConvProblem(Window(8, 8, (1, 1)), "int4", source="bf16"), "images of bf16"),
        (ConvProblem(Window(300_000, 8, (1, 1)), "int8", activation="i8"), "may leave 32 bits"),
    ],
)
def test_refusals_name_a_reason(problem: ConvProblem, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        default_convolution(problem)
    assert default_convolution(replace(problem, activation="f16", source=None))


def test_nested_halves_are_refused_with_what_has_their_values() -> None:
    problem = ConvProblem(Window(8, 8, (1, 1)), "nestedfp16")
    with pytest.raises(UnsupportedError, match="fp16 has its values"):
        default_convolution(problem)
    assert default_convolution(replace(problem, weight="fp16"))
