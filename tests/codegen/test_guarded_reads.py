"""No kernel reads a byte outside its parameters and inputs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qcc.dialects.formats import available, parse_spelling
from qcc.dialects.formats.panels import panel_unit

TABLE = "table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]"
SPELLINGS = [f"lut4<{TABLE}>" if name == "lut4" else name for name in available()]
SPELLINGS += [
    "int2<group=5>",
    "int3<group=8>",
    "int3<group=32>",
    "nvfp4<two_level=true>",
    "int4<group=4,scale=fp16>",
    "nestedfp16<view=fp8_e4m3>",
]
N = 5
LENGTHS = (9, 16)
SCRIPT = Path(__file__).with_name("run_guarded.py")


def linear(k: int, weight: str) -> tuple[str, str, str]:
    return (
        f"tensor<?x{k}xf32>", f"tensor<?x{N}xf32>",
        '"qcc.linear"(%x, %w) {operandSegmentSizes = array<i32: 1, 1, 0>}'
        f" : (tensor<?x{k}xf32>, {weight}) -> tensor<?x{N}xf32>",
    )  # fmt: skip


def embedding(k: int, table: str) -> tuple[str, str, str]:
    return (
        "tensor<?xi64>", f"tensor<?x{k}xf32>",
        f'"qcc.embedding"(%w, %x) : ({table}, tensor<?xi64>) -> tensor<?x{k}xf32>',
    )  # fmt: skip


def conv2d(k: int, weight: str) -> tuple[str, str, str]:
    x, y = f"tensor<?x{k}x?x?xf32>", f"tensor<?x{N}x?x?xf32>"
    return x, y, (
        '"qcc.conv2d"(%x, %w) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0>, '
        "dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}"
        f" : ({x}, {weight}) -> {y}"
    )  # fmt: skip


@pytest.fixture(scope="module")
def calls(programs, floats):
    """(call, function, input, rank of the result) of every op, format and length."""
    every = []

    def add(
        op, i: int, k: int, shape: tuple[int, ...], inputs: list[np.ndarray], rank: int,
        panels: bool = False,
    ):  # fmt: skip
        name = f"{op.__name__}_{i}_{k}{'_panels' * panels}"
        values = floats(N, k, seed=i).reshape(shape) / 4
        weight = programs.parameter(name, values, SPELLINGS[i], panels)
        x, y, text = op(k, weight)
        layout = ', layout = "panel16"' if panels else ""
        param = f'%w = "qcc.param"() {{symbol = "{name}"{layout}}} : () -> {weight}'
        programs.function(name, f"(%x: {x}) -> {y}", f"{param}\n%y = {text}\nreturn %y : {y}")
        for x in inputs:
            title = f"{op.__name__} of {len(x)} rows, {SPELLINGS[i]}, K={k}, panels={panels}"
            every.append((title, name, x, rank))

    for i in range(len(SPELLINGS)):
        panels = panel_unit(parse_spelling(SPELLINGS[i])) is not None
        for k in LENGTHS:
            add(embedding, i, k, (N, k), [np.arange(N)], 2, panels and k == LENGTHS[0])
        # Others decode the same rows; one length a format saves seconds of building.
        k = LENGTHS[i % len(LENGTHS)]
        add(linear, i, k, (N, k), [floats(m, k) for m in (1, 5)], 2, panels)
        add(conv2d, i, k, (N, k, 1, 1), [floats(1, k, 3, 3)], 4)
    return every


def run_guarded(programs, calls, folder: Path, short: str = "") -> subprocess.CompletedProcess:
    code, parts = programs.code
    (folder / "code.o").write_bytes(code)
    arrays = {f"p{i}": programs.stored[part] for i, part in enumerate(parts)}
    np.savez(folder / "parts.npz", **arrays)
    np.savez(folder / "inputs.npz", **{title: x for title, _, x, _ in calls})
    plan = {
        "parts": parts,
        "short": short,
        "calls": [[t, name, rank] for t, name, _, rank in calls],
    }
    (folder / "calls.json").write_text(json.dumps(plan))
    command = [sys.executable, str(SCRIPT), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_every_read_ends_with_its_array(programs, calls, tmp_path: Path) -> None:
    done = run_guarded(programs, calls, tmp_path)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"in {last}: {done.stderr}"
    outputs = np.load(tmp_path / "outputs.npz")
    for title, name, x, rank in calls:
        np.testing.assert_array_equal(outputs[title], programs.run(name, x, rank=rank)[1], title)


@pytest.mark.parametrize("name", ["linear_0_9_panels/codes", "embedding_0_16/codes"])
def test_a_byte_too_far_is_noticed(programs, calls, tmp_path: Path, name: str) -> None:
    mine = [call for call in calls if call[1] == name.split("/")[0]]
    assert run_guarded(programs, mine, tmp_path, name).returncode == -signal.SIGSEGV
