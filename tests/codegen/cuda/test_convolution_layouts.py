"""
Convolutions of integers of four and eight bits in packed layouts: emulated, equal to whole numbers.

Windows that share pixels, taps before channels, images side by side (NHWCnc), words packed in
registers; layers that requantise, one after the other. Edges are no multiples of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcc.codegen.cuda.emulator.launch import ALL_MODES, Mode
from qcc.dialects.formats.stored import to_layout
from qcc.dialects.formats.window_packets import spelled_layout
from qcc.dialects.qcc.reference import conv2d
from qcc.dialects.tile.conv_problem import ConvProblem, Window, per_element, refusal
from qcc.dialects.tile.conv_schedule import ConvSchedule, default_convolution, illegal
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.integer_activations import IntegerScale
from qcc.dialects.tile.operand_types import OPERAND_TYPES
from qcc.dialects.tile.warp_reference import run_warps
from tests.codegen.cuda import convolution_cases
from tests.codegen.cuda.convolution_cases import Case, loaded, stored
from tests.codegen.cuda.warp_kernels import Built, fails, planted

X_SCALE, Y_SCALE = np.float32(0.125), np.float32(0.37)
PACT = IntegerScale("inverse_scale", tensor=True, divide=True)
SIGNED, UNSIGNED, BYTES = "int4<group=tensor>", "pact4", "int8<group=tensor>"
SMALL = ConvSchedule(2, 1, 16, 32, 64, 2)
SHARED = replace(SMALL, width=8, taps_inner=True)
GROUPS = ConvSchedule(2, 4, 32, 16, 128, 3, warp_groups=True)
ONE = Window(64, 40, (3, 3), padding=(1, 1))


def nibbles(window: Window, **fields: Any) -> ConvProblem:
    given = {"activation": "i4", "result": "f32", "block": 0, "result_block": 0} | fields
    return ConvProblem(window, "int4", **given)


CASES = {
    "gathered": Case(nibbles(Window(34, 18, (3, 2), (2, 1), (1, 0), (1, 2))), SMALL),
    "one pixel": Case(nibbles(Window(2, 1, (1, 1))), SMALL, 1, (1, 1)),
    "depthwise": Case(nibbles(Window(2, 2, (3, 3), padding=(1, 1), groups=3)), SMALL),
    "shared, stride": Case(nibbles(replace(ONE, stride=(2, 2), dilation=(1, 2)), relu=True),
                           replace(SHARED, warps_m=1, warps_n=2, pixels=32)),
    "shared, halves": Case(ConvProblem(replace(ONE, channels=128), "int4", block=0, result="f32",
                                       result_block=0), SHARED),
    "packed": Case(nibbles(replace(ONE, outputs=72), activation="ui4", x_scale=PACT, bias="f32",
                           requantised=UNSIGNED, result="ui4", relu=True),
                   replace(SMALL, packs=True, outputs=64, taps_inner=True)),
    "packed bytes": Case(nibbles(replace(ONE, outputs=40), requantised=BYTES, result="i8",
                                 bias="f32"), replace(SHARED, packs=True)),
    "packed, NHWCnc": Case(nibbles(replace(ONE, outputs=64), images=8, block=32, result_images=8,
                                   result_block=32, requantised=SIGNED, result="i4"),
                           replace(SMALL, packs=True), 11, (4, 3)),
    "shared, NHWCnc": Case(nibbles(ONE, images=8, block=32, result_images=8),
                           replace(SHARED, warps_m=4, width=2), 9, (4, 3)),
    "groups of warps": Case(
        ConvProblem(Window(80, 72, (3, 3), (2, 1), (1, 1)), "int8", activation="i8", bias="f32",
                    result="i8", block=0, result_block=0, requantised=BYTES, relu=True),
        replace(GROUPS, pixels=32, outputs=32, packs=True), 3, (9, 7), "sm_90a"),
    "groups of warps and channels": Case(
        ConvProblem(Window(3, 66, (3, 2), padding=(2, 0), dilation=(1, 2), groups=2), "int4",
                    activation="i8", result="f32", block=0),
        replace(GROUPS, warps_m=1, warps_n=8), 1, (7, 12), "sm_90a"),
    "packed, from NHWC to NHWCnc": Case(
        nibbles(replace(ONE, outputs=64), result_images=8, result_block=32, requantised=SIGNED,
                result="i4"), replace(SMALL, packs=True), 8, (4, 3)),
    "shared, from NHWCnc to NCHW": Case(
        nibbles(ONE, images=8, block=32, result_block=1), replace(SHARED, width=2), 16, (4, 3)),
    "groups of warps, NHWCnc": Case(
        ConvProblem(Window(64, 64, (2, 3)), "int4", activation="i8", images=8, block=32,
                    result="i8", result_images=8, result_block=32, requantised=BYTES),
        replace(GROUPS, pixels=128), 11, (4, 3), "sm_90a"),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    yield from convolution_cases.built(tmp_path_factory.mktemp("layouts"), CASES)


def given(name: str) -> tuple[dict[str, Any], np.ndarray]:
    """The arguments of a case, and what its result is; exact, but for halves."""
    case = CASES[name]
    p, w, rng = case.problem, case.problem.window, np.random.default_rng(5)
    shape = p.outputs, w.channels, *w.taps
    parts = p.format.encode_rows(rng.normal(size=(p.outputs, w.k)).astype(np.float32))
    scale = parts["scale"].reshape(-1, 1, 1)
    weight = p.format.decode_rows(parts | {"scale": np.ones_like(parts["scale"])}, w.k)
    least, most = OPERAND_TYPES[p.activation].extremes if p.integer else (-8, 8)
    images = rng.integers(least, most + 1, (case.images, p.channels, *case.size))
    options = {"stride": w.stride, "padding": w.padding, "dilation": w.dilation,
               "groups": w.groups}  # fmt: skip
    sums = conv2d(images.astype(np.float64), weight.reshape(shape).astype(np.float64), **options)
    value = sums.astype(np.float32) * scale
    if p.integer:
        value = value / X_SCALE if p.x_scale.divide else value * X_SCALE
    layout = spelled_layout(p.program.order.name, p.by_tap, w.groups)
    found: dict[str, Any] = dict(to_layout(p.format, layout, parts, shape))
    if p.bias is not None:
        found["bias"] = rng.normal(size=p.outputs).astype(np.float32)
        value = value + found["bias"].reshape(-1, 1, 1)
    value = np.maximum(value, 0) if p.relu else value
    if p.rounding is not None:
        value = value * Y_SCALE if p.rounding.multiplies else value / Y_SCALE
        value = np.clip(np.rint(value), p.rounding.low, p.rounding.high)
    pixels = images.astype(np.int8 if p.integer else np.float16)
    result = -(-case.images // p.result_images) * p.result_images * value[0].size
    found |= {
        "x": stored(pixels, p.block, p.images, p.activation), "x_scale": np.array([X_SCALE]),
        "y_scale": np.array([Y_SCALE]), "images": case.images, "height": case.size[0],
        "width": case.size[1], "out_height": value.shape[2], "out_width": value.shape[3],
        "y": np.zeros(result // (per_element(p.result) if p.requantised else 1),
                      np.int8 if p.requantised else np.float32),
    }  # fmt: skip
    return found, value.astype(np.float64)


def result_of(case: Case, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    p = case.problem
    return loaded(y, wanted.shape, p.result_block, p.result_images, p.result)


def check(case: Case, y: np.ndarray, wanted: np.ndarray) -> None:
    p, result = case.problem, result_of(case, y, wanted)
    if p.integer:
        np.testing.assert_array_equal(result, wanted)
    else:
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_layout(built: Built, name: str) -> None:
    case = CASES[name]
    arguments, wanted = given(name)
    for mode in ALL_MODES:
        arguments["y"][:] = 0
        built.launch(name, case.grid(wanted), arguments, mode)
        check(case, arguments["y"], wanted)


@pytest.mark.parametrize(
    "name", ["gathered", "shared, stride", "packed", "packed, NHWCnc", "shared, NHWCnc"]
)
def test_reference(built: Built, name: str) -> None:
    """The NumPy meaning of the same kernels gives the same."""
    arguments, wanted = given(name)
    run_warps(built.kernels[name], arguments, CASES[name].grid(wanted))
    check(CASES[name], arguments["y"], wanted)


FAULTS = {
    "no fence": ("fence_async_proxy();", ""),
    "no wait for products": ("wgmma_wait<0>();", ""),
    "no wait for bulk copies": ("mbarrier_wait(full.at(stage), phase);", ""),
    "no barrier": ("sync_threads();  // everybody's", "// everybody's"),
    "a stage that is still multiplied": ("stage == 0 ? 2 : stage - 1", "stage"),
    "another warp's channels": ("warp % 4", "warp % 2"),
}


def test_planted_faults_are_found(built: Built, tmp_path: Path) -> None:
    name = "groups of warps, NHWCnc"
    arguments, wanted = given(name)
    for fault, faulty in planted(built, [name], FAULTS, tmp_path).items():

        def holds(mode: Mode, faulty: Built = faulty) -> bool:
            arguments["y"][:] = 0
            faulty.launch(name, CASES[name].grid(wanted), arguments, mode)
            return bool((result_of(CASES[name], arguments["y"], wanted) == wanted).all())

        assert fails(holds), fault


def test_each_pixel_is_brought_once() -> None:
    """A rectangle of 8 x 16 under 3 x 3 taps: 10 x 18 pixels, not 8 x 16 windows of 9."""
    schedule = ConvSchedule(4, 1, 32, 64, 64, 2, width=8, taps_inner=True)
    assert schedule.held(nibbles(ONE)) == (18, 10)
    assert schedule.tiles(nibbles(ONE), 3, (17, 9)) == 3 * 2 * 2


@pytest.mark.parametrize(
    ("schedule", "problem", "reason"),
    [
        (replace(SHARED, width=5), nibbles(ONE), "no rectangle of 5"),
        (replace(SHARED, taps_inner=False), nibbles(ONE), "under all taps in turn"),
        (SHARED, nibbles(replace(ONE, taps=(1, 1))), "share none"),
        (SHARED, nibbles(replace(ONE, channels=96)), "no steps of 64"),
        (SHARED, ConvProblem(ONE, "int4", source="f32", block=1), ""),
        (SHARED, ConvProblem(ONE, "int8", activation="i8"), "lie apart"),
        (replace(SMALL, packs=True), nibbles(ONE), "wider than bytes"),
        (replace(SMALL, packs=True), nibbles(replace(ONE, outputs=36), requantised=SIGNED,
                                             result="i4"), "no words of 8"),
        (replace(SHARED, width=32, warps_m=4, pixels=32, outputs=64, stages=8), nibbles(ONE),
         "bytes of shared memory"),
    ],
)  # fmt: skip
def test_illegal_schedules_have_reasons(
    schedule: ConvSchedule, problem: ConvProblem, reason: str
) -> None:
    found = "; ".join(illegal(problem, schedule, machine("sm_80")))
    assert reason in found
    assert bool(found) == bool(reason)


def test_odd_channels_are_no_pairs() -> None:
    assert "no pairs" in str(refusal(nibbles(Window(3, 8, (3, 3))), "sm_80"))
    odd = nibbles(Window(4, 7, (3, 3)), requantised=SIGNED, result="i4")
    assert "no pairs" in str(refusal(odd, "sm_80"))
    assert "no mma.m16n8k64.s4" in str(refusal(nibbles(ONE), "sm_90a"))
    grouped = replace(nibbles(ONE), weight="int4<group=64>")
    assert "meet no groups" in str(refusal(grouped, "sm_80"))


@pytest.mark.parametrize("target", ["sm_80", "sm_89"])
def test_every_shape_of_nibbles_has_a_legal_schedule(target: str) -> None:
    windows = (Window(2, 1, (1, 1)), Window(64, 64, (7, 7), (2, 2)), Window(512, 2048, (1, 1)),
               Window(2, 2, (5, 5), groups=97), Window(256, 18, (3, 3)))  # fmt: skip
    for window in windows:
        for result in ("f16", "i4"):
            requantised = SIGNED if result == "i4" and window.outputs % 2 == 0 else None
            given_ = {"result": result if requantised else "f16", "requantised": requantised}
            problem = replace(nibbles(window), **given_)
            schedule = default_convolution(problem, target)
            assert not list(illegal(problem, schedule, machine(target)))
