"""
The cycle model of DPUs against times measured on hardware, and the speed of the emulator.

    python -m benchmarks.pim --validate [--device PROFILE.toml] [--cache FOLDER]
    python -m benchmarks.pim --kernels
    python -m benchmarks.pim --models [--only minilm:w4a4,…] [--tokens 8] [--json PATH]
    python -m benchmarks.pim --speed

--validate runs qcc's own expressions of the measured kernels in the RV32 emulator, checks their
results against NumPy, and prints each row of the tables with its error. docs/pim.md says what to
expect. --kernels compares emitted kernels in the emulator with what the search takes them for.
--models runs whole models on emulated DPUs and compares every sum (pim_models.py; minutes).
It needs a clang for RV32 (`pip install 'qcc[pim-emu]'`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from benchmarks import pim_kernels, pim_models
from benchmarks.pim_subjects import PRIM, TASKLETS, Bench, arithmetic, dma, lut
from benchmarks.pim_tables import Row, lines, mean_error, read, summary
from qcc.dialects.errors import QccError
from qcc.dialects.pim.cost import transfer_ms
from qcc.dialects.pim.device import device
from qcc.dialects.pim.profile import read_profile

SETTLED_CYCLES = 8000  # below, a row of the LUT table is mostly fixed cost
SETTLED_MS = 2.0  # below, a kernel's time is mostly that of its launch
LIMIT = 10.0  # per cent of mean error, LUT and GEMM loops
WIDE = ("SEL", "UNI", "RED", "SCAN-RSS", "SCAN-SSA")  # 64-bit numbers
# Spec pim.md §2.7: only in these were all DPUs' transfers done at once, and of their own data.
PARALLEL_IN = ("VA", "RED", "GEMV", "HST-S", "HST-L", "SEL", "UNI", "SCAN-RSS", "SCAN-SSA")
PARALLEL_OUT = ("VA", "SCAN-RSS", "SCAN-SSA")
# PIM-DL's fit of 16 tasklets that read B bytes each, and PrIM's throughputs (§2.6, §3 table C).
DMA_FIT = {block: 8.9985 * block + 537.81 for block in (64, 128, 256, 512, 1024, 2048)}
THROUGHPUT = (  # type, operation, operand: products and quotients cost what their operands do
    ("int32_t", "+", 37, 58.56),
    ("int64_t", "+", 37, 50.16),
    ("int32_t", "*", 30011, 10.27),
    ("int64_t", "*", 30011, 2.56),
    ("int32_t", "/", 37, 11.27),
    ("int64_t", "/", 37, 1.40),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    target = read_profile(options.device) if options.device else device("v1A")
    bench = Bench(target, options.cache)
    try:
        if options.speed:
            print_speed(bench)
            return 0
        if options.models:
            return run_models(options)
        if options.kernels:
            say(*pim_kernels.lines(list(pim_kernels.compared(bench))))
            return 0
        return validate(bench)
    except QccError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    name = "python -m benchmarks.pim"
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=raw)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--validate", action="store_true", help="the model against hardware")
    what.add_argument("--kernels", action="store_true", help="emitted kernels against the search")
    what.add_argument("--speed", action="store_true", help="instructions a second, emulated")
    what.add_argument("--models", action="store_true", help="real models on emulated DPUs")
    parser.add_argument("--only", default=",".join(pim_models.CASES), help="of --models")
    parser.add_argument("--tokens", type=int, default=8, help="of --models: chosen for so many")
    parser.add_argument("--json", type=Path, help="of --models: every layer's row")
    parser.add_argument("--device", type=Path, help="a profile other than v1A")
    parser.add_argument("--cache", type=Path, default=Path("build/pim"), help="built programs")
    return parser.parse_args(arguments)


def say(*texts: str) -> None:
    for text in texts:
        print(text, flush=True)  # noqa: T201


def run_models(options: argparse.Namespace) -> int:
    """Print a table for each model; 1 where an output differs."""
    reports = []
    for each in pim_models.run_models(options.only.split(","), options.tokens, options.cache):
        say(*pim_models.lines(each), "")
        reports.append(each)
    if options.json:
        pim_models.write_reports(reports, options.json)
    return int(not all(each["equal"] for each in reports))


def validate(bench: Bench) -> int:
    """Print all tables; 1 where LUT or GEMM loops are off by more than 10 % in the mean."""
    say("Kernels of PrIM, one DPU's share emulated for each row", "")
    prim = list(prim_rows(bench))
    say(*lines(prim, "ms"), "")
    loops = list(lut_rows(bench))
    say("LUT loops of PIM-DL, one row of one tasklet of 16", "", *lines(loops, "cycles"), "")
    rows = list(dma_rows(bench))
    say("DMA, 16 tasklets reading blocks, against PIM-DL's fit", "", *lines(rows, "cycles"), "")
    rates = list(rate_rows(bench))
    say("Arithmetic, millions a second, against PrIM's", "", *lines(rates, "MOPS"), "")
    say("Host transfers of one rank", "", *transfer_summaries(bench), "")
    settled = [row for row in loops if row.counted]
    say(f"Summary, rows above {SETTLED_MS:g} ms or {SETTLED_CYCLES} cycles", "")
    say(*(summary(name, rows) for name, rows in by_name(prim).items()))
    say(*(summary(name, rows) for name, rows in by_name(list(wide_rows(bench))).items()))
    say(summary("LUT table B", [row for row in settled if row.name == "table B"]))
    say(summary("LUT others", [row for row in settled if row.name == "others"]))
    say(summary("LUT all", settled), summary("DMA", rows), summary("arithmetic", rates), "")
    return verdict(prim, settled)


def verdict(prim: Sequence[Row], loops: Sequence[Row]) -> int:
    gemm = [row for row in prim if row.name in ("GEMV", "MLP")]
    off = {"LUT": mean_error(loops)[1], "GEMM": mean_error(gemm)[1]}
    for name, error in off.items():
        say(f"{name} loops: mean error {error:.1f} %, allowed {LIMIT:g} %")
    return int(max(off.values()) > LIMIT)


def by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return groups


def prim_rows(bench: Bench) -> Iterator[Row]:
    known = cache(lambda *shape: modelled_ms(bench, *shape))
    for given in read("pim_prim_hw.csv"):
        kernel, dpus, size = given["kernel"], int(given["dpus"]), int(given["size"])
        measured = float(given["hw_ms"])
        ms, trusted = known(kernel, dpus, size) if kernel in PRIM else (None, True)
        yield Row(kernel, f"{size}/{dpus}", measured, ms, trusted, measured >= SETTLED_MS)


def modelled_ms(bench: Bench, kernel: str, dpus: int, size: int) -> tuple[float, bool]:
    """Milliseconds of a kernel with its launches, and whether the model is to be trusted."""
    ran = PRIM[kernel](bench, dpus, size)
    kernels = ran.launches if kernel == "MLP" else 1  # of SCAN both passes were simulated
    launches = ran.launches * bench.device.host.launch_ms
    return kernels * ran.timing.milliseconds(bench.device) + launches, ran.timing.trusted


def lut_rows(bench: Bench) -> Iterator[Row]:
    for given in read("pim_lut_loops.csv"):
        codebooks, features = int(given["cb"]), int(given["f"])
        measured = float(given["hw_cycles"])
        ran = lut(bench, codebooks, features)
        name = "table B" if given["in_table_b"] == "1" else "others"
        cycles = ran.timing.cycles / ran.launches
        yield Row(name, f"{codebooks}x{features}", measured, cycles,
                  counted=measured >= SETTLED_CYCLES)  # fmt: skip


def dma_rows(bench: Bench) -> Iterator[Row]:
    for block, measured in DMA_FIT.items():
        ran = dma(bench, block)
        yield Row("read", f"{block} B", measured, ran.timing.cycles / ran.launches)


def rate_rows(bench: Bench) -> Iterator[Row]:
    for type_, operation, operand, measured in THROUGHPUT:
        ran = arithmetic(bench, type_, operation, operand)
        operations = ran.launches * 128 * TASKLETS
        rate = operations / (ran.timing.cycles / bench.device.clock_mhz)
        yield Row(f"{type_[:5]} {operation}", str(operand), measured, rate)


def wide_rows(bench: Bench) -> Iterator[Row]:
    """The kernels of 64-bit numbers again, what a DPU does on pairs of registers counted once."""
    paired = replace(bench, pairs=True)
    for given in read("pim_prim_hw.csv"):
        kernel, measured = given["kernel"], float(given["hw_ms"])
        if kernel in WIDE and given["dpus"] == "16" and measured >= SETTLED_MS:
            ms, trusted = modelled_ms(paired, kernel, 16, int(given["size"]))
            yield Row(f"{kernel}, pairs", given["size"], measured, ms, trusted)


def transfer_summaries(bench: Bench) -> Iterator[str]:
    """Parallel transfers of each kernel's rows; the others were made one DPU after another."""
    table = read("pim_prim_hw.csv")
    for way, kernels in (("h2d", PARALLEL_IN), ("d2h", PARALLEL_OUT)):
        for kernel in kernels:
            rows = []
            for given in (each for each in table if each["kernel"] == kernel):
                dpus, size = int(given["dpus"]), int(given[f"{way}_bytes_per_dpu"])
                ms = transfer_ms(bench.device, dpus, size, inward=way == "h2d")
                measured = float(given[f"hw_{way}_ms"])
                rows.append(Row(kernel, "", measured, ms, counted=measured >= SETTLED_MS))
            yield summary(f"{way} {kernel}"[:12], rows)


def print_speed(bench: Bench) -> None:
    """Instructions of RV32 a second on one core of this machine."""
    speeds = []
    for name, size in (("VA", 1 << 21), ("HST-S", 1 << 21), ("GEMV", 1 << 15), ("MLP", 1 << 10)):
        ran = PRIM[name](bench, 1, size)
        speeds.append(ran.instructions / ran.seconds / 1e6)
        say(f"{name:8}{ran.instructions / 1e6:8.1f} million instructions in {ran.seconds:6.3f} s: "
            f"{speeds[-1]:5.0f} million a second")  # fmt: skip
    say(f"slowest: {min(speeds):.0f} million a second; wanted: 100")


if __name__ == "__main__":
    sys.exit(main())
