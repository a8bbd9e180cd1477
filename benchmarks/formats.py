"""
Encoding and decoding speed of every format, and against torchao where it is installed.

    python -m benchmarks.formats [--rows N] [--columns K] [NAME …]

Rates are megabytes of float32 per second on one thread, best of several runs. torchao's `to_mx`
runs in the same process on one thread, alternating with ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from qcc.dialects.formats import Format, available, format

EXTRA = ("int4<group=32>", "uint4<group=32>", "dint4<group=32>", "nvfp4<two_level=true>")
REPEATS = 7


def seconds(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Shortest of several runs, after one that does not count."""
    action()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def named(name: str) -> Format:
    return format(name, table=np.linspace(-1, 1, 16)) if name == "lut4" else format(name)


def report(name: str, rows: np.ndarray) -> None:
    fmt = named(name)
    values = np.clip(rows, -1.7, 1.7) if name == "nestedfp16" else rows
    parts = fmt.encode_rows(values)
    encode = seconds(lambda: fmt.encode_rows(values))
    decode = seconds(lambda: fmt.decode_rows(parts, rows.shape[1]), repeats=3)
    rates = (rows.nbytes / 1e6 / encode, rows.nbytes / 1e6 / decode)
    line(f"{name:24} {fmt.bits_per_value:6.2f} {rates[0]:10.0f} {rates[1]:10.0f}")


def compare_with_torchao(rows: np.ndarray) -> None:
    try:
        import torch
        from torchao.prototype.mx_formats.mx_tensor import to_mx  # pyright: ignore[reportMissingImports]
    except ImportError:
        line("torchao is not installed: no comparison")
        return
    torch.set_num_threads(1)
    tensor = torch.from_numpy(rows)
    kinds = {
        "mxfp4": torch.float4_e2m1fn_x2,
        "mxfp8_e4m3": torch.float8_e4m3fn,
        "mxfp8_e5m2": torch.float8_e5m2,
    }
    line(f"\n{'against to_mx':24} {'qcc MB/s':>10} {'torchao':>10} {'ratio':>7}")
    for name, kind in kinds.items():
        fmt = format(name)
        ours = seconds(lambda fmt=fmt: fmt.encode_rows(rows))
        theirs = seconds(lambda kind=kind: to_mx(tensor, kind, 32))
        ours = min(ours, seconds(lambda fmt=fmt: fmt.encode_rows(rows)))
        size = rows.nbytes / 1e6
        line(f"{name:24} {size / ours:10.0f} {size / theirs:10.0f} {theirs / ours:7.1f}")


def line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    shape = arguments.rows, arguments.columns
    rows = np.random.default_rng(0).standard_normal(shape, np.float32)
    line(f"{'format':24} {'bits':>6} {'encode':>10} {'decode':>10}   MB/s of float32, one thread")
    for name in arguments.names or (*available(), *EXTRA):
        report(name, rows)
    compare_with_torchao(rows)


if __name__ == "__main__":
    main()
