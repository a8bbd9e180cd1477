"""
Linear layers of qcc and of other libraries on this CPU, in turns, beside what the machine can do.

    python -m benchmarks.cpu [--quick] [--shapes 4096x4096,11008x4096] [--batch 1,16,128]
                             [--threads 1,2] [--formats int4,mxfp4] [--peers qcc,torch]
                             [--rounds N] [--ggml FOLDER] [--json PATH [--resume]] [-o PATH]

Weights come from DRAM, every result is checked before it is timed, and rows are compared by the
median of their ratios in the same rounds. docs/benchmarks.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cpu_probe import Probe, description, last_level_cache
from benchmarks.cpu_rounds import Cell, Contestant, load, measure
from benchmarks.cpu_table import cell_rows, document
from benchmarks.peers.peer import Copies, Linear, Peer, Variant

PEERS = {
    "qcc": "qcc_linear.Qcc",
    "torch": "torch_linear.Torch",
    "torchao": "torchao_linear.TorchAo",
    "ggml": "ggml_linear.Ggml",
    "onnxruntime": "onnxruntime_linear.OnnxRuntime",
    "openvino": "openvino_linear.OpenVino",
    "iree": "iree_linear.Iree",
}
QUICK = {"shapes": [(4096, 4096)], "batch": [1], "threads": [1], "rounds": 3}
SMALLEST = 256
REST_SECONDS = 0.005
SPREAD = 0.05  # of normal weights: within the range of every format, NestedFP's included


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # Read by GNU OpenMP when it is loaded: threads that spin for long would slow the next row.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    peers, states = opened(options)
    result = resumed(options, states)
    if result is None:
        result = {
            "machine": description(),
            "rounds": options.rounds,
            "peers": states,
            "smallest_calls": list(smallest_calls(peers, options)),
            "cells": [],
        }
    done = {(cell["n"], cell["k"], cell["m"], cell["threads"]) for cell in result["cells"]}
    for cell in cells(peers, options, done):
        result["cells"].append(cell)
        result["load"] = load()
        written(result, options)
    if not options.output:
        sys.stdout.write(document(result))
    return 0


def resumed(options: argparse.Namespace, states: dict[str, str]) -> dict[str, Any] | None:
    """What a run that ended early has written; with other peers or rounds it would not compare."""
    if not options.resume or not options.json.exists():
        return None
    result = json.loads(options.json.read_text(encoding="utf-8"))
    if (result["rounds"], result["peers"]) != (options.rounds, states):
        raise SystemExit(f"{options.json} is of other rounds or peers: resume with the same ones")
    return result


def written(result: dict[str, Any], options: argparse.Namespace) -> None:
    """What is finished is in the files at any time."""
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.output:
        options.output.write_text(document(result), encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--shapes", type=shapes, help="N x K, default 4096x4096,11008x4096")
    parser.add_argument("--batch", type=numbers, help="rows of x, default 1,16,128")
    parser.add_argument("--threads", type=numbers, help="default 1,2")
    parser.add_argument("--formats", help="only rows of qcc whose name begins so")
    parser.add_argument("--peers", default=",".join(PEERS), help="any of the default's")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--ggml", type=Path, help="folder with another build of ggml's libraries")
    parser.add_argument("--quick", action="store_true", help="one shape, one row, one thread")
    parser.add_argument("--json", type=Path, help="write everything that was measured")
    parser.add_argument("-o", "--output", type=Path, help="the table, in place of standard output")
    parser.add_argument("--resume", action="store_true", help="go on where --json's file ends")
    options = parser.parse_args(arguments)
    if options.resume and not options.json:
        parser.error("--resume needs --json, the file to go on with")
    unknown = set(options.peers.split(",")) - set(PEERS)
    if unknown:
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    whole = {"shapes": [(4096, 4096), (11008, 4096)], "batch": [1, 16, 128], "threads": [1, 2]}
    for name, value in {**whole, "rounds": 9, **(QUICK if options.quick else {})}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def shapes(text: str) -> list[tuple[int, int]]:
    """
    >>> shapes("4096x4096,11008x4096")
    [(4096, 4096), (11008, 4096)]
    """
    pairs = [part.split("x") for part in text.split(",")]
    return [(int(n), int(k)) for n, k in pairs]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def opened(options: argparse.Namespace) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that can run, and what is known of each that was asked for."""
    peers: dict[str, Peer] = {}
    states: dict[str, str] = {}
    for name in options.peers.split(","):
        file, _, kind = PEERS[name].partition(".")
        try:
            made = getattr(importlib.import_module(f"benchmarks.peers.{file}"), kind)
            peers[name] = made(options.ggml) if name == "ggml" else made()
            states[name] = peers[name].version
        except ImportError:
            states[name] = "not installed"
        except OSError as error:
            states[name] = f"not usable: {error}"
    return peers, states


def cells(
    peers: dict[str, Peer], options: argparse.Namespace, done: set[tuple[int, int, int, int]]
) -> Iterator[dict[str, Any]]:
    """The cells that are not `done` (n, k, m, threads)."""
    for n, k in options.shapes:
        left = [(m, t) for t in options.threads for m in options.batch if (n, k, m, t) not in done]
        if not left:
            continue
        generator = np.random.default_rng(0)
        weight = generator.standard_normal((n, k), np.float32) * np.float32(SPREAD)
        x = generator.standard_normal((max(options.batch), k), np.float32)
        contestants, refused = prepared(peers, options.formats, weight, x)
        for threads in options.threads:
            probe = Probe(threads)
            for m in [m for m, count in left if count == threads]:
                say(f"{n}x{k}, M = {m}, {threads} threads, load {load()}")
                cell = Cell(n, k, m, threads)
                start = load()
                rows = cell_rows(cell, measure(cell, contestants, x, probe, options.rounds))
                yield {
                    "n": n, "k": k, "m": m, "threads": threads, "load": start, "rows": rows,
                    "refused": refused,
                }  # fmt: skip
            probe.close()
        contestants.clear()
        gc.collect()


def prepared(
    peers: dict[str, Peer], formats: str | None, weight: np.ndarray, x: np.ndarray
) -> tuple[list[Contestant], dict[str, str]]:
    """The rows that can be packed, with their right results, and why others cannot."""
    copies = Copies(last_level_cache())
    contestants: list[Contestant] = []
    refused: dict[str, str] = {}
    for name, peer in peers.items():
        for variant in chosen(name, peer, formats):
            start = time.perf_counter()
            try:
                linear, meaning = peer.linear(variant, weight, copies)
                expected = linear.multiplied(x) @ meaning.T
                del meaning
            except Exception as error:  # noqa: BLE001 - whatever a peer raises, the others go on
                refused[f"{name} {variant.name}"] = f"{type(error).__name__}: {error}"
                say(f"  {name} {variant.name}: {refused[f'{name} {variant.name}']}")
                continue
            contestants.append(Contestant(name, variant, linear, expected))
            say(f"  {name} {variant.name}: packed in {time.perf_counter() - start:.1f} s")
    return contestants, refused


def chosen(name: str, peer: Peer, formats: str | None) -> list[Variant]:
    """`formats` restricts the rows of qcc alone; the peers of each width remain."""
    variants = list(peer.variants())
    if name != "qcc" or formats is None:
        return variants
    return [v for v in variants if v.name.startswith(tuple(formats.split(",")))]


def smallest_calls(peers: dict[str, Peer], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What a call costs where there is next to nothing to compute."""
    weight = np.full((SMALLEST, SMALLEST), SPREAD, np.float32)
    x = np.ones((1, SMALLEST), np.float32)
    for name, peer in peers.items():
        for variant in chosen(name, peer, options.formats)[:1]:
            try:
                linear, _ = peer.linear(variant, weight, Copies(0, most=2))
                yield from call_costs(f"{name} {variant.name}", linear, x, options.threads)
            except Exception as error:  # noqa: BLE001 - whatever a peer raises, the others go on
                say(f"  {name} {variant.name}: no smallest call: {error}")


def call_costs(
    name: str, linear: Linear, x: np.ndarray, threads: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Median seconds of a call on each number of threads, again and again and after rests."""
    for count in threads:
        calls = {name: linear.ready(count, x)}
        if hasattr(linear, "whole_call"):
            calls[f"{name}, through the public call"] = linear.whole_call(x)  # pyright: ignore[reportAttributeAccessIssue]
        for call, step in calls.items():
            busy = median_seconds(lambda step=step: step(0), 200)
            rested = median_seconds(lambda step=step: step(0), 20, REST_SECONDS)
            yield {"call": call, "threads": count, "busy_seconds": busy, "rested_seconds": rested}
        linear.rest()


def median_seconds(action: Callable[[], object], times: int, rest: float = 0.0) -> float:
    seconds = []
    for _ in range(times):
        time.sleep(rest)
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def say(line: str) -> None:
    """Progress, beside the table on standard output."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
