"""Linear layers to be checked and timed on a GPU: problems, numbers, right results and bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.gpu_launches import worst
from qcc.codegen.cuda.emit import emit_source
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.packets import ORDERS, to_packets
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.launch import Launch
from qcc.dialects.tile.problem import LinearProblem, refusal
from qcc.passes.linear_kernel import linear_kernel

DTYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "i8": np.int8,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
}  # fmt: skip
UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}
LARGEST = 1.7  # of normal weights: NestedFP holds no more
DISTINCT_ROWS = 256  # of a weight; more are repetitions, whose encoding would only take time

WEIGHTS = {
    "f16": ("fp16", "nestedfp16", "int2<group=128>", "int3<group=128>", "int4<group=128>", "int8",
            "dint4<group=128>", "nf4<group=64>", "mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "nvfp4",
            "amxfp4"),
    "i8": ("int8", "int4<group=128>", "dint4<group=128>", "dint4"),
    "f8E4M3FN": ("fp8_e4m3", "nestedfp16<view=fp8_e4m3>", "mxfp4"),
}  # fmt: skip
"""Formats that are timed, by the type of activations."""
SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (8192, 8192), (28672, 8192))
"""N x K of Llama-7B and 70B."""
TOKENS = (1, 2, 4, 8, 16, 64, 512, 2048)
CHECKED_SHAPES = ((1, 64), (49, 391), (160, 1040), (1024, 1152))
CHECKED_TOKENS = (1, 3, 17, 130)


@dataclass(frozen=True)
class Case:
    """Arguments by role; the right result of `channels`, and how far from it sums may be."""

    arguments: dict[str, Any]
    channels: np.ndarray
    wanted: np.ndarray
    bound: np.ndarray

    def error(self, result: np.ndarray) -> float:
        """The largest error, in units of its bound: at most 1 is right."""
        return worst(result[:, self.channels], self.wanted, self.bound)


def weight_parts(problem: LinearProblem, rng: np.random.Generator) -> tuple[dict[str, Any], Any]:
    """Packets of a random weight, and its values as float64 [distinct rows, k]."""
    fmt, rows = problem.format, min(problem.n, DISTINCT_ROWS)
    values = np.clip(rng.normal(size=(rows, problem.k)), -LARGEST, LARGEST).astype(np.float32)
    parts = fmt.encode_rows(values)
    decoded = fmt.decode_rows(parts, problem.k).astype(np.float64)
    many = {
        role: part if role in fmt.tensor_roles else np.resize(part, (problem.n, *part.shape[1:]))
        for role, part in parts.items()
    }
    return dict(to_packets(fmt, ORDERS[problem.layout], many, problem.k)), decoded


def random_case(problem: LinearProblem, launch: Launch, tokens: int, channels: int = 64) -> Case:
    """Numbers for a launch, and the result of at most so many channels, the last ones included."""
    rng = np.random.default_rng(tokens)
    given, decoded = weight_parts(problem, rng)
    x = activations(rng, problem.memory, (tokens, problem.k))
    wide = x.astype(DTYPES[problem.activation]).astype(np.float64)
    if problem.activation == "i8":
        given["x_scale"] = rng.uniform(0.01, 2, tokens).astype(np.float32)
        wide = wide * given["x_scale"][:, None].astype(np.float64)
    picked = np.unique(np.linspace(0, problem.n - 1, min(channels, problem.n)).astype(int))
    weight = decoded[picked % len(decoded)]
    wanted, magnitude = wide @ weight.T, np.abs(wide) @ np.abs(weight).T
    if problem.bias is not None:
        given["bias"] = rng.normal(size=problem.n).astype(DTYPES[problem.bias])
        wanted = wanted + given["bias"][picked].astype(np.float64)
    # Sums of k terms, each rounded; a few more roundings of scales and the epilogue.
    sums = (problem.k + 8) * 2.0**-24 + problem.program.error
    bound = sums * magnitude + UNIT[problem.result] * np.abs(wanted) + 2.0**-24
    given |= {
        "x": x,
        "table": np.array(problem.program.table, np.uint32),
        "y": np.zeros((tokens, problem.n), DTYPES[problem.result]),
        "workspace": np.full(max(1, launch.workspace_words(tokens)), 0x7FC00000, np.uint32),
        "arrivals": np.zeros(max(1, launch.arrival_words(tokens)), np.uint32),
        "tokens": tokens,
    }
    return Case(given, picked, wanted, bound)


def activations(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    if kind == "i8":
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.normal(size=shape).astype(np.float32).astype(DTYPES[kind])


def problems(
    target: str, shapes: tuple[tuple[int, int], ...], tokens: tuple[int, ...], weights: str = ""
) -> Iterator[LinearProblem]:
    """What `target` computes of all formats, shapes and numbers of tokens; small ones first."""
    for n, k in shapes:
        for count in tokens:
            for activation, spellings in WEIGHTS.items():
                for spelling in spellings:
                    problem = LinearProblem(n, columns(spelling, k), count, spelling, activation)
                    if spelling.startswith(weights) and computes(problem, target):
                        yield problem


def columns(spelling: str, k: int) -> int:
    """
    At least k, in whole groups where a format has no others.

    >>> columns("int4<group=128>", 391), columns("int8", 391)
    (512, 391)
    """
    fmt = parse_spelling(spelling)
    if fmt.block.ragged or not isinstance(fmt.block_size, int):
        return k
    return -(-k // fmt.block_size) * fmt.block_size


def computes(problem: LinearProblem, target: str) -> bool:
    """Whether there is a kernel: fp8 products are not on every machine."""
    try:
        if refusal(problem):
            return False
        default_schedule(problem, target)
    except UnsupportedError:
        return False
    return True


def emitted(problem: LinearProblem, target: str) -> tuple[str, Launch]:
    """The source of the layer's default kernel, and how it is launched."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, default_schedule(problem, target), "linear", target)
        return emit_source(list(module.body.operations)), launch


def key(problem: LinearProblem) -> str:
    return f"{problem.weight} x {problem.activation} {problem.n}x{problem.k} M={problem.tokens}"
