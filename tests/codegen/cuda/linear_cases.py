"""Linear layers for the emulator: emitted and built together, random numbers, exact results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import (
    ALL_MODES,
    EmulatedModule,
    KernelViolation,
    Mode,
    device_array,
    tensor_map,
)
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import Format
from qcc.dialects.formats.packets import ORDERS, to_packets
from qcc.dialects.tile.launch import Launch
from qcc.dialects.tile.operand_types import OPERAND_TYPES
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.schedule import Schedule
from qcc.dialects.tile.schedule_memory import shared_bytes
from qcc.passes.linear_kernel import linear_kernel

TOKENS = (1, 7, 16, 33, 65)
DTYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "i8": np.int8,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn, "i4": np.int8, "ui4": np.int8,
}  # fmt: skip
UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}


def target_of(activation: str) -> str:
    return "sm_89" if activation == "f8E4M3FN" else "sm_80"


@dataclass(frozen=True)
class Built:
    problems: dict[str, LinearProblem]
    launches: dict[str, Launch]
    module: EmulatedModule


def built(
    cases: list[tuple[LinearProblem, Schedule]], folder: Path, target: str | None = None
) -> Built:
    """Kernels of problems whose weights differ, on `target` or the first that has them."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launches = [
                linear_kernel(
                    problem, schedule, f"linear_{index}", target or target_of(problem.activation)
                )
                for index, (problem, schedule) in enumerate(cases)
            ]
        assert module.operation.verify()
        source = emit_source(list(module.body.operations))
    for launch, (problem, schedule) in zip(launches, cases, strict=True):
        assert launch.shared_bytes == shared_bytes(problem, schedule)
    given = {problem.weight: problem for problem, _ in cases}
    return Built(given, dict(zip(given, launches, strict=True)), build_emulated(source, folder))


@dataclass(frozen=True)
class Case:
    """
    Arguments by role, the exact result, and how far sums of fp32 may be from it.

    `parts` are those of the weight, row by row.
    """

    arguments: dict[str, Any]
    parts: dict[str, np.ndarray]
    wanted: np.ndarray
    bound: np.ndarray


def case(
    problem: LinearProblem, launch: Launch, tokens: int, processors: int | None = None
) -> Case:
    """`processors` are the multiprocessors that persistent blocks run on."""
    rng = np.random.default_rng(tokens)
    fmt, result = problem.format, problem.result
    values = rng.normal(size=(problem.n, problem.k)).astype(np.float32)
    parts = fmt.encode_rows(np.clip(values, -1.7, 1.7))
    weight = fmt.decode_rows(parts, problem.k).astype(np.float64)
    given = dict(to_packets(fmt, ORDERS[problem.layout], parts, problem.k))
    if problem.x_format is not None:
        x, scales, wide = block_activations(rng, problem.x_format, (tokens, problem.k))
        given |= {f"x_{role}": scale for role, scale in scales.items()}
    else:
        x = _activations(rng, problem, (tokens, problem.k))
        wide = x.astype(DTYPES[problem.activation]).astype(np.float64)
        x = paired(x) if problem.x_per_element == 2 else x
    if problem.token_scale is not None:
        scale = rng.uniform(0.01, 2, 1 if problem.token_scale.tensor else tokens).astype(np.float32)
        given["x_scale"], by = scale, scale[:, None].astype(np.float64)
        wide = wide / by if problem.token_scale.divide else wide * by
    wanted, magnitude = wide @ weight.T, np.abs(wide) @ np.abs(weight).T
    if problem.bias is not None:
        given["bias"] = rng.normal(size=problem.n).astype(DTYPES[problem.bias])
        wanted = wanted + given["bias"].astype(np.float64)
    # Sums of k terms, each rounded; a few more roundings of scales and the epilogue.
    sums = (problem.k + 8) * 2.0**-24 + problem.program.error
    bound = sums * magnitude + UNIT[result] * np.abs(wanted) + 2.0**-24
    given = {role: device_array(part) for role, part in given.items()}
    given |= {
        "x": device_array(x),
        "table": np.array(problem.program.table, np.uint32),
        "y": np.zeros((tokens, problem.n), DTYPES[result]),
        "workspace": np.full(
            max(1, launch.workspace_words(tokens, processors)), 0x7FC00000, np.uint32
        ),
        "arrivals": np.zeros(max(1, launch.arrival_words(tokens)), np.uint32),
    }
    return Case(given, parts, wanted, bound)


def block_activations(
    rng: np.random.Generator, fmt: Format, shape: tuple[int, int]
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Codes as kernels read them, scales by role, and what they mean."""
    tokens, k = shape
    parts = dict(fmt.encode_rows(rng.normal(size=shape).astype(np.float32)))
    wide = fmt.decode_rows(parts, k).astype(np.float64)
    codes = parts.pop(fmt.code_part).reshape(tokens, -1)[:, : -(-k * fmt.bits // 8)]
    if fmt.bits == 8:
        codes = codes.view(ml_dtypes.float8_e4m3fn)
    return np.ascontiguousarray(codes), parts, wide


def _activations(
    rng: np.random.Generator, problem: LinearProblem, shape: tuple[int, int]
) -> np.ndarray:
    if problem.integer:
        least, most = OPERAND_TYPES[problem.activation].extremes
        return rng.integers(least, most + 1, shape).astype(np.int8)
    return rng.normal(size=shape).astype(np.float32).astype(DTYPES[problem.memory])


def paired(codes: np.ndarray) -> np.ndarray:
    """Two integers of 4 bits in a byte, the first one lower."""
    nibbles = np.pad(codes, [(0, 0), (0, codes.shape[1] % 2)]).view(np.uint8) & 15
    return nibbles[:, ::2] | nibbles[:, 1::2] << 4


def launched(
    built_: Built, launch: Launch, given: Case, mode: Mode, processors: int | None = None
) -> np.ndarray:
    tokens = len(given.arguments["y"])
    given.arguments["y"][:] = 0
    maps = {
        each.argument: tensor_map(given.arguments[each.argument], each.box, each.swizzle)
        for each in launch.maps
    }
    roles: dict[str, Any] = given.arguments | maps | {"tokens": tokens}
    arguments = [roles[role] for role in launch.arguments]
    built_.module.launch(
        launch.kernel, launch.grid(tokens, processors), launch.threads, launch.shared_bytes,
        arguments, mode,
    )  # fmt: skip
    assert not given.arguments["arrivals"].any()
    return given.arguments["y"]


def check(built_: Built, spelling: str, tokens_: tuple[int, ...] = TOKENS) -> None:
    """The kernel's result is right, and the same in every mode of the emulator."""
    problem, launch = built_.problems[spelling], built_.launches[spelling]
    for tokens in tokens_:
        given = case(problem, launch, tokens)
        first = None
        for mode in ALL_MODES:
            result = launched(built_, launch, given, mode)
            error = np.abs(result.astype(np.float64) - given.wanted)
            assert (error <= given.bound).all(), (problem, tokens, mode)
            first = result.copy() if first is None else first
            np.testing.assert_array_equal(result, first)


def fails(faulty: Built, launch: Launch, given: Case, processors: int | None = None) -> bool:
    """Whether some mode of the emulator finds a fault, or a wrong result."""
    for mode in ALL_MODES:
        try:
            result = launched(faulty, launch, given, mode, processors).astype(np.float64)
        except KernelViolation:
            return True
        if not (np.abs(result - given.wanted) <= given.bound).all():
            return True
    return False
