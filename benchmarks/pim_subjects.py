"""
The loops behind the measured tables, as qcc's own C (pim_loops/), with inputs like those measured.

Each run is checked against NumPy before its time counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from qcc.codegen.upmem.build_dpu import build_rv32
from qcc.codegen.upmem.dpu_program import DpuProgram
from qcc.codegen.upmem.launch import Launch
from qcc.codegen.upmem.rv32 import Dpu
from qcc.codegen.upmem.sources import DEVICE
from qcc.dialects.pim.device import Device
from qcc.dialects.pim.timing import Timing, simulate

LOOPS = Path(__file__).parent / "pim_loops"
TASKLETS = 16
SPARSE = 50  # in MLP's inputs one number of so many is not zero


@dataclass(frozen=True)
class Ran:
    """One kernel on one DPU: what the model says, and what was executed for it."""

    timing: Timing
    instructions: int
    seconds: float  # of the interpreter
    launches: int = 1


Values = np.ndarray
Subject = Callable[["Bench", int, int], Ran]


@dataclass(frozen=True)
class Bench:
    """Where programs are kept, and the device whose time is asked for."""

    device: Device
    folder: Path
    pairs: bool = False  # 64-bit loads, stores and additions count once

    def dpu(self, name: str, defines: dict[str, object], optimisation: str = "-O2") -> Dpu:
        source = with_headers(name)
        given = tuple(f"{key}={value}" for key, value in defines.items())
        program = DpuProgram(name, source, TASKLETS, optimisation=optimisation, defines=given)
        return Dpu(program, build_rv32(program, self.folder), self.folder, pairs=self.pairs)

    def time(self, launch: Launch, launches: int = 1) -> Ran:
        timing = simulate(launch.traces, self.device)
        return Ran(timing, launch.instructions, launch.seconds, launches)


@cache
def with_headers(name: str) -> str:
    """The text of a loop with the headers of its folder written in: programs are one text."""
    lines = []
    for line in (LOOPS / f"{name}.c").read_text().splitlines():
        header = line.removeprefix('#include "').rstrip('"')
        own = line.startswith('#include "') and not (DEVICE / header).exists()
        lines.append(with_headers_of(header) if own else line)
    return "\n".join(lines) + "\n"


def with_headers_of(header: str) -> str:
    text = (LOOPS / header).read_text()
    return text.replace('#include "stream.h"', (LOOPS / "stream.h").read_text())


def array_of(dpu: Dpu, symbol: str, type_: str, count: int) -> Values:
    return np.frombuffer(dpu.read(symbol, count * np.dtype(type_).itemsize), type_)


def expect(name: str, got: Values, want: Values) -> None:
    if not np.array_equal(got, want):
        raise ValueError(f"{name}: the emulated DPU computes something else than NumPy")


def word(value: int) -> Values:
    return np.array([value], np.uint32)


# ---- streams


def va(bench: Bench, dpus: int, size: int) -> Ran:
    count = size // dpus
    dpu = bench.dpu("va", {"INPUT_BYTES": 4 * count})
    left, right = np.arange(count, dtype="<i4"), np.arange(count, dtype="<i4")[::-1] * 3
    dpu.write("input", left)
    dpu.write("other", right)
    dpu.write("bytes", word(4 * count))
    launch = dpu.launch()
    expect("va", array_of(dpu, "other", "<i4", count), left + right)
    return bench.time(launch)


def red(bench: Bench, dpus: int, size: int) -> Ran:
    count = size // dpus
    dpu = bench.dpu("red", {"INPUT_BYTES": 8 * count})
    values = np.arange(count, dtype="<u8")
    dpu.write("input", values)
    dpu.write("bytes", word(8 * count))
    launch = dpu.launch()
    expect("red", array_of(dpu, "result", "<u8", 1), values.sum(keepdims=True))
    return bench.time(launch)


def histogram(bench: Bench, dpus: int, size: int, name: str) -> Ran:
    count = size // dpus
    dpu = bench.dpu(name, {"INPUT_BYTES": 4 * count})
    values = np.random.default_rng(1).integers(0, 4096, count).astype("<u4")
    dpu.write("input", values)
    dpu.write("bytes", word(4 * count))
    dpu.write("bins", word(256))
    launch = dpu.launch()
    want = np.bincount(values * 256 >> 12, minlength=256)
    expect(name, array_of(dpu, "result", "<u4", 256), want)
    return bench.time(launch)


def hst_s(bench: Bench, dpus: int, size: int) -> Ran:
    return histogram(bench, dpus, size, "hst_s")


def hst_l(bench: Bench, dpus: int, size: int) -> Ran:
    return histogram(bench, dpus, size, "hst_l")


def compaction(bench: Bench, dpu: Dpu, values: Values, kept: Values, symbol: str) -> Ran:
    dpu.write("input", values)
    dpu.write("bytes", word(values.nbytes))
    launch = dpu.launch()
    expect(symbol, array_of(dpu, "result", "<u4", 1), word(len(kept)))
    expect(symbol, array_of(dpu, symbol, "<u8", len(kept)), kept)
    return bench.time(launch)


def sel(bench: Bench, dpus: int, size: int) -> Ran:
    values = np.arange(1, size // dpus + 1, dtype="<u8")
    dpu = bench.dpu("sel", {"INPUT_BYTES": values.nbytes})
    return compaction(bench, dpu, values, values[values % 2 == 1], "selected")


def uni(bench: Bench, dpus: int, size: int) -> Ran:
    values = np.arange(size // dpus, dtype="<u8") // 2
    dpu = bench.dpu("uni", {"INPUT_BYTES": values.nbytes})
    return compaction(bench, dpu, values, np.unique(values), "unique")


def scan(bench: Bench, dpus: int, size: int, defines: dict[str, object]) -> Ran:
    """Both passes as one run: their traces follow one another, which the launch between hides."""
    count = size // dpus
    dpu = bench.dpu("scan", {"INPUT_BYTES": 8 * count, **defines})
    values = np.arange(count, dtype="<u8") % 100
    dpu.write("input", values)
    dpu.write("bytes", word(8 * count))
    first = dpu.launch()
    expect("scan", array_of(dpu, "result", "<u8", 1), values.sum(keepdims=True))
    dpu.write("second_pass", word(1))
    dpu.write("before_dpu", np.array([7], "<u8"))
    second = dpu.launch()
    expect("scan", array_of(dpu, "scanned", "<u8", count), np.cumsum(values) + 7)
    both = [[*a, ("barrier", -1.0), *b] for a, b in zip(first.traces, second.traces, strict=True)]
    executed, seconds = first.instructions + second.instructions, first.seconds + second.seconds
    return bench.time(Launch(0, 0, executed, both, seconds), 2)


def scan_rss(bench: Bench, dpus: int, size: int) -> Ran:
    return scan(bench, dpus, size, {})


def scan_ssa(bench: Bench, dpus: int, size: int) -> Ran:
    return scan(bench, dpus, size, {"SCAN_FIRST": 1})


# ---- products


def product(bench: Bench, matrix: Values, vector: Values, launches: int) -> Ran:
    rows, columns = matrix.shape
    block = 1024
    sizes: dict[str, object] = {
        "INPUT_BYTES": matrix.nbytes + block,
        "VECTOR_BYTES": vector.nbytes + block,
        "PRODUCT_BYTES": 4 * rows,
    }
    dpu = bench.dpu("gemv", sizes)
    dpu.write("input", matrix)
    dpu.write("vector", vector)
    dpu.write("rows", word(rows))
    dpu.write("columns", word(columns))
    launch = dpu.launch()
    expect("gemv", array_of(dpu, "products", "<u4", rows), matrix @ vector)
    return bench.time(launch, launches)


def gemv(bench: Bench, dpus: int, size: int) -> Ran:
    draw = np.random.default_rng(2)
    matrix = draw.integers(0, 50, (size // dpus, 64)).astype("<u4")
    return product(bench, matrix, draw.integers(0, 50, 64).astype("<u4"), 1)


def mlp(bench: Bench, dpus: int, size: int) -> Ran:
    """Three layers of one width, a launch each; one is run, for they cost the same."""
    draw = np.random.default_rng(3)
    matrix = (draw.integers(0, SPARSE, (size // dpus, size)) == 0).astype("<u4")
    return product(bench, matrix, (draw.integers(0, SPARSE, size) == 0).astype("<u4"), 3)


# ---- table B, the DMA fit, arithmetic


def lut(bench: Bench, codebooks: int, features: int) -> Ran:
    """Rows of a tile; the time of one row of one tasklet is that of all over rows per tasklet."""
    rows = 4 * TASKLETS
    sizes: dict[str, object] = {"CB": codebooks, "F": features, "ROWS": rows}
    dpu = bench.dpu("lut", sizes, "-O3")
    draw = np.random.default_rng(4)
    table = draw.integers(-128, 128, (codebooks, 16, features)).astype("i1")
    padded = -(-codebooks // 4) * 4
    indices = draw.integers(0, 16, (rows, padded)).astype("<u2")
    start = draw.integers(-1000, 1000, (rows, features)).astype("<i4")
    dpu.write("table", table)
    dpu.write("indices", indices)
    dpu.write("rows", word(rows))
    if features % 2 == 0:
        dpu.write("sums", start)
    launch = dpu.launch()
    if features % 2 == 0:
        added = table[np.arange(codebooks), indices[:, :codebooks]].sum(axis=1, dtype="<i4")
        got = array_of(dpu, "sums", "<i4", rows * features).reshape(rows, features)
        expect("lut", got, start + added)
    return bench.time(launch, rows // TASKLETS)


def dma(bench: Bench, block: int, rounds: int = 32) -> Ran:
    dpu = bench.dpu("dma", {"B": block})
    dpu.write("rounds", word(rounds))
    return bench.time(dpu.launch(), rounds)


def arithmetic(bench: Bench, type_: str, operation: str, operand: int, rounds: int = 8) -> Ran:
    """`rounds` times each of the 128 numbers of each tasklet."""
    dpu = bench.dpu("arithmetic", {"TYPE": type_, "OP": operation})
    dpu.write("rounds", word(rounds))
    dpu.write("operand", np.array([operand], np.dtype(type_.removesuffix("_t"))))
    return bench.time(dpu.launch(), rounds)


PRIM: dict[str, Subject] = {
    "GEMV": gemv,
    "MLP": mlp,
    "HST-S": hst_s,
    "HST-L": hst_l,
    "SEL": sel,
    "UNI": uni,
    "RED": red,
    "VA": va,
    "SCAN-RSS": scan_rss,
    "SCAN-SSA": scan_ssa,
}
