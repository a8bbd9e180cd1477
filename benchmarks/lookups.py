"""
Products of weights of few bits with one row of x: by tables, and by byte products.

    python -m benchmarks.lookups [--shape 4096x4096] [--threads 1] [--rounds 15]

What codegen/cpu/lookups.py may choose is decided by these ratios. Both ways take turns on weights
from DRAM, as in benchmarks.cpu, and what counts is the median of their ratios within a round.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np

from benchmarks.console import say
from benchmarks.cpu import SPREAD, numbers, shapes
from benchmarks.cpu_probe import Probe, last_level_cache
from benchmarks.cpu_rounds import Cell, Contestant, kept, load, measure, ratio
from benchmarks.peers.peer import Copies, Variant
from benchmarks.peers.qcc_linear import QccLinear
from qcc.codegen.cpu import lookups
from qcc.dialects.formats import from_definition

BINARY = "element table values=[-1, 1]; block size=64; scale scale type=e4m3 rule=absmax;"
TERNARY = "element table values=[-1, 0, 1, 1]; block size=64; scale scale type=e4m3 rule=absmax;"
FORMATS = {
    "binary": from_definition(f"format binary {{ {BINARY} }}").spelling,
    "ternary": from_definition(f"format ternary {{ {TERNARY} }}").spelling,
    "int2 g32": "int2<group=32>",
    "int3 g32": "int3<group=32>",
}
WIDEST = 3


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    for threads in options.threads:
        probe = Probe(threads)
        for name in options.formats.split(","):
            for activations in (None, "int8"):
                say(row(name, activations, threads, probe, options))
        probe.close()
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--shape", type=shapes, default=[(4096, 4096)], help="N x K")
    parser.add_argument("--threads", type=numbers, default=[1])
    parser.add_argument("--formats", default=",".join(FORMATS), help="any of the default's")
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args(arguments)


def row(
    name: str, activations: str | None, threads: int, probe: Probe, options: argparse.Namespace
) -> str:
    ((n, k),) = options.shape
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((n, k), np.float32) * np.float32(SPREAD)
    x = generator.standard_normal((1, k), np.float32)
    contestants = [
        contestant(way, most, name, activations, weight, x)
        for way, most in {"tables": WIDEST, "products": 0}.items()
    ]
    tables, products = measure(Cell(n, k, 1, threads), contestants, x, probe, options.rounds)
    samples = kept([tables, products])
    faster = ratio(samples[0], samples[1])
    what = f"{name:10} {activations or 'fp32'} x, {n}x{k}, {threads} threads: "
    if faster is None:
        return f"{what}no round was undisturbed, load {load()[0]}; give more --rounds"
    taken = [float(np.median([s.seconds for s in samples[i]])) * 1e3 for i in range(2)]
    share = np.median([contestants[0].linear.weight_bytes / s.seconds / s.limits.bandwidth
                       for s in samples[0]])  # fmt: skip
    return (
        f"{what}tables {taken[0]:.3f} ms, products {taken[1]:.3f} ms, "
        f"products / tables {faster:.2f}, tables at {share:.0%} of the probe's bandwidth, "
        f"load {load()[0]}"
    )


def contestant(
    way: str, most: int, name: str, activations: str | None, weight: np.ndarray, x: np.ndarray
) -> Contestant:
    recipe = {"weights": FORMATS[name]}
    if activations:
        recipe |= {"activations": activations, "calibration": "dynamic"}
    with patch.object(lookups, "MOST_BITS", most):
        linear = QccLinear(weight, recipe, Copies(last_level_cache()), None)
    expected = linear.multiplied(x) @ linear.decoded().T
    return Contestant("qcc", Variant(way, 0, "fp32"), linear, expected)


if __name__ == "__main__":
    raise SystemExit(main())
