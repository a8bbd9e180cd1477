"""
Seconds of attention over KV caches in several formats, one token at a time or more.

    python -m benchmarks.attention [--lengths N …] [--formats F …] [--tokens N] [--threads N]

The heads are SmolLM2-135M's. A step runs the attention of all layers, each with its own cache, as
decoding does; nothing else. All formats and torch's attention over fp32 take turns within one
process, with a probe of the processor between the rounds; what counts is ratios: to fp32, and of
the bytes and the multiply-adds of a step to what the probe found.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.console import say
from benchmarks.cpu_probe import Limits, Probe
from qcc.codegen.cpu.code import build_code
from qcc.compiler.running import KeyValueCaches, RunningCode, default_threads
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import parse_spelling

HEADS, KEY_HEADS, DEPTH, LAYERS = 9, 3, 64, 30
PLAIN, PEER = "fp32", "torch"

Step = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    say(
        f"{options.layers} layers, {HEADS} heads on {KEY_HEADS}, {options.threads} threads, "
        f"{options.tokens} tokens a step"
    )
    torch.set_num_threads(options.threads)
    runs = {name: compiled(name, options) for name in (PLAIN, *options.formats)}
    caches = {name: KeyValueCaches(running.code, 1) for name, running in runs.items()}
    probe = Probe(options.threads)
    query = random_query(options.tokens)
    for length in sorted(options.lengths):
        for name in runs:
            fill(caches[name], length + options.tokens)
        steps = {name: stepper(runs[name], caches[name], query, length) for name in runs}
        steps[PEER] = torch_stepper(query, length, options.layers)
        times, limits = interleaved(steps, probe, options.rounds)
        say(
            f"{length} positions before; the probe reads {limits.bandwidth / 1e9:.1f} GB/s and "
            f"does {limits.float_rate / 1e9:.0f} GFLOP/s"
        )
        work = operations(options, length) / limits.float_rate
        for name, seconds in times.items():
            running = runs[PLAIN if name == PEER else name]
            per_token = sum(cache.position_bytes for cache in running.code.caches)
            read = per_token * (length + options.tokens) / limits.bandwidth
            say(row(name, seconds, times[PLAIN], (read, work)) + f"   {per_token} bytes a token")
    for running in runs.values():
        running.close()
    probe.close()
    return 0


def row(
    name: str, seconds: Sequence[float], plain: Sequence[float], least: tuple[float, float]
) -> str:
    """`least` are the seconds that the probe would take to read and to multiply as much."""
    best, median = min(seconds), float(np.median(seconds))
    return (
        f"  {name:10} {median * 1e3:8.3f} ms median, {best * 1e3:8.3f} best   "
        f"fp32 / this {ratio(plain, seconds):5.2f}   "
        f"of reading {least[0] / median:4.0%}, of multiplying {least[1] / median:4.0%}"
    )


def operations(options: argparse.Namespace, length: int) -> int:
    """Multiplications and additions of the keys that are seen, and of their values."""
    pairs = options.tokens * length + options.tokens * (options.tokens + 1) // 2
    return 4 * pairs * HEADS * DEPTH * options.layers


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--formats", nargs="+", default=["int8", "int4", "fp8_e4m3", "mxfp4"])
    parser.add_argument("--tokens", type=int, default=1, help="tokens of a step")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int, default=30)
    return parser.parse_args(arguments)


def compiled(name: str, options: argparse.Namespace) -> RunningCode:
    with make_context(), ir.Location.unknown():
        code = build_code(ir.Module.parse(program(name, options.layers)))
    return RunningCode(code, lambda _: np.zeros(0), options.threads)


def program(name: str, layers: int) -> str:
    """`step` adds up the attention of all layers; its query, keys and values are the tokens'."""
    formats = ""
    if name != PLAIN:
        spelling = parse_spelling(name).spelling
        formats = f', key_format = "{spelling}", value_format = "{spelling}"'
    query, key = (f"tensor<1x{heads}x?x{DEPTH}xf32>" for heads in (HEADS, KEY_HEADS))
    lines = [
        f"%k = tensor.extract_slice %q[0, 0, 0, 0] [1, {KEY_HEADS}, %t, {DEPTH}] [1, 1, 1, 1] "
        f": {query} to {key}"
    ]
    for layer in range(layers):
        before = "%q" if layer == 0 else f"%y{layer - 1}"
        lines.append(
            f'%y{layer} = "qcc.attention"({before}, %k, %k, %past) {{scale = 0.125 : f64, '
            f'causal = true, cache = "cache.{layer}"{formats}, '
            f"operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}} "
            f": ({query}, {key}, {key}, tensor<i64>) -> {query}"
        )
    body = "\n".join(lines)
    return f"""
    func.func @main(%q: {query}) -> {query} {{
      return %q : {query}
    }}
    func.func @step(%q: {query}, %past: tensor<i64>) -> {query} {{
      %two = arith.constant 2 : index
      %t = tensor.dim %q, %two : {query}
      {body}
      return %y{layers - 1} : {query}
    }}"""


def fill(caches: KeyValueCaches, length: int) -> None:
    """Random bytes as earlier positions: of finite values, so that nothing runs off its path."""
    caches.reserve(length)
    random = np.random.default_rng(0)
    for array in caches.arrays:
        if array.ndim == 2:
            continue
        if array.dtype == np.float32:
            array[...] = random.random(array.shape, np.float32)
        else:
            array[...] = random.integers(32, 96, array.shape, array.dtype)


def random_query(tokens: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, HEADS, tokens, DEPTH), np.float32)


def stepper(running: RunningCode, caches: KeyValueCaches, query: np.ndarray, length: int) -> Step:
    def step() -> None:
        caches.length = length
        running.step(query, caches)

    return step


def torch_stepper(query: np.ndarray, length: int, layers: int) -> Step:
    """torch's attention over as many keys, each layer with its own."""
    tokens = query.shape[2]
    rows = torch.randn(layers, 1, KEY_HEADS, length + tokens, DEPTH)
    seen = torch.ones(tokens, length + tokens, dtype=torch.bool).tril(length)
    hidden = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    given = torch.from_numpy(query)
    # Without a mask where it can do without: that is its faster way.
    causal, mask = length == 0 and tokens > 1, hidden if length and tokens > 1 else None

    def step() -> None:
        for layer in rows:
            F.scaled_dot_product_attention(
                given, layer, layer, mask, is_causal=causal, scale=0.125, enable_gqa=True
            )

    return step


def interleaved(
    steps: dict[str, Step], probe: Probe, rounds: int
) -> tuple[dict[str, list[float]], Limits]:
    """Seconds of each step, of which the first round does not count; the median of the probes."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    probes = []
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:
                times[name].append(time.perf_counter() - start)
        if number % max(1, rounds // 5) == 0:
            probes.append(probe())
    return times, sorted(probes, key=lambda limits: limits.bandwidth)[len(probes) // 2]


def ratio(plain: Sequence[float], other: Sequence[float]) -> float:
    """
    >>> ratio([2.0, 3.0, 9.0], [1.0, 1.5, 2.0])
    2.0
    """
    return float(np.median(plain) / np.median(other))


if __name__ == "__main__":
    raise SystemExit(main())
