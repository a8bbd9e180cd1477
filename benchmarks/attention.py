"""
Seconds of attention over KV caches in several formats, one token at a time or more.

    python -m benchmarks.attention [--lengths N …] [--formats F …] [--tokens N] [--threads N]

The heads are SmolLM2-135M's. A step runs the attention of all layers, each with its own cache, as
decoding does; nothing else. All formats take turns within one process, and what counts is the
ratio to fp32.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from qcc.codegen.cpu.code import build_code
from qcc.compiler.running import KeyValueCaches, RunningCode, default_threads
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import parse_spelling

HEADS, KEY_HEADS, DEPTH, LAYERS = 9, 3, 64, 30
PLAIN = "fp32"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    say(
        f"{options.layers} layers, {HEADS} heads on {KEY_HEADS}, {options.threads} threads, "
        f"{options.tokens} tokens a step"
    )
    runs = {name: compiled(name, options) for name in (PLAIN, *options.formats)}
    caches = {name: KeyValueCaches(running.code, 1) for name, running in runs.items()}
    for length in sorted(options.lengths):
        for name in runs:
            fill(caches[name], length + options.tokens)
        query = random_query(options.tokens)
        times = interleaved(runs, caches, query, length, options.rounds)
        say(f"{length} positions before")
        for name, seconds in times.items():
            best, median = min(seconds) * 1e3, float(np.median(seconds)) * 1e3
            per_token = sum(cache.position_bytes for cache in runs[name].code.caches)
            say(
                f"  {name:10} {median:8.3f} ms median, {best:8.3f} best   "
                f"fp32 / this {ratio(times[PLAIN], seconds):5.2f}   {per_token} bytes a token"
            )
    for running in runs.values():
        running.close()
    return 0


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


def interleaved(
    runs: dict[str, RunningCode],
    caches: dict[str, KeyValueCaches],
    query: np.ndarray,
    length: int,
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of each step that follows `length` positions; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, running in runs.items():
            seconds = step(running, caches[name], query, length)
            if number:
                times[name].append(seconds)
    return times


def step(running: RunningCode, caches: KeyValueCaches, query: np.ndarray, length: int) -> float:
    caches.length = length
    start = time.perf_counter()
    running.step(query, caches)
    return time.perf_counter() - start


def ratio(plain: Sequence[float], other: Sequence[float]) -> float:
    """
    >>> ratio([2.0, 3.0, 9.0], [1.0, 1.5, 2.0])
    2.0
    """
    return float(np.median(plain) / np.median(other))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
