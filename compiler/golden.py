"""
Golden inputs and outputs: made by the reference interpreter, replayed by `qcc verify`.

Inputs come from a seeded generator and the signature; outputs from executing the stored IR in
NumPy on the stored, decoded weights. What they check is the code that runs, not the formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dialects.bindings import ir
from ..dialects.interpreter import interpret
from ..dialects.qcc import logical_type
from .artifact import ArtifactWriter
from .layers import entry_function
from .manifest import Signature, Value
from .pack import decoded_parameter
from .precisions import Program
from .replay import output_errors
from .running import RunningCode
from .tensor_layout import pack_tensors

CHECKED_LIMIT = 1 << 30  # stored weight bytes; the code to check needs all of them in memory
_SMALL = {0: 2}
_SEQUENCE = 6


def golden_inputs(signature: Signature, module: ir.Module, seed: int) -> list[np.ndarray]:
    """Normal floats, tokens inside their tables, true masks; symbolic sizes small but not equal."""
    rng = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    for index, (name, extent) in enumerate(sorted(signature.dims.items())):
        wanted = _SMALL.get(index, _SEQUENCE + index)
        sizes[name] = min(max(wanted, extent.min), extent.max or wanted)
    arguments = entry_function(module).regions[0].blocks[0].arguments
    return [
        _array(value, sizes, _limit(argument), rng)
        for value, argument in zip(signature.inputs, arguments, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs, and what the reference interpreter makes of them."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def add_golden(
    writer: ArtifactWriter, programs: Sequence[Program], signature: Signature, seed: int
) -> list[Golden]:
    """
    Store golden inputs, and the interpreter's outputs of each program.

    Weights are decoded from the file being written, each where the program needs it.
    """
    inputs = golden_inputs(signature, programs[0].module, seed)
    writer.add("golden/inputs.safetensors", pack_tensors(_numbered(inputs)))
    return [Golden(inputs, _add_outputs(writer, program, inputs)) for program in programs]


def _add_outputs(
    writer: ArtifactWriter, program: Program, inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    by_symbol = {parameter.symbol: parameter for parameter in program.parameters}
    outputs = interpret(
        program.module, inputs, lambda symbol: decoded_parameter(by_symbol[symbol], writer.tensor)
    )
    assert program.precision.outputs is not None
    writer.add(program.precision.outputs, pack_tensors(_numbered(outputs)))
    return outputs


def check_programs(
    writer: ArtifactWriter,
    programs: Sequence[Program],
    goldens: Sequence[Golden],
    signature: Signature,
    tolerance: float,
) -> tuple[dict[str, Any], bool]:
    """
    Run each program's code on golden inputs and the weights of the file being written.

    Returns the errors for the report and, for a model with a step function, whether computing
    token by token gives what the whole sequence gives, within `tolerance`, in every precision.
    """
    rows: list[dict[str, Any]] = []
    agreed = True
    for program, golden in zip(programs, goldens, strict=True):
        with closing(RunningCode(program.code, writer.tensor)) as running:
            errors, agrees = check_code(running, golden, signature, tolerance)
        rows += [{"precision": program.precision.name, **error} for error in errors]
        agreed = agreed and agrees
    return {"outputs": rows}, agreed


def check_code(
    running: RunningCode, golden: Golden, signature: Signature, tolerance: float
) -> tuple[list[dict[str, Any]], bool]:
    """See `check_programs`, for one program."""
    names = [value.name for value in signature.outputs]
    whole = running.call(golden.inputs)
    agrees = False
    if running.code.caches:
        pieces = running.in_two_steps(golden.inputs[0])
        agrees = all(
            error["max_rel_error"] <= tolerance for error in output_errors(names, whole, pieces)
        )
    return output_errors(names, golden.outputs, whole), agrees


def _numbered(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(index): array for index, array in enumerate(arrays)}


def _array(value: Value, sizes: dict[str, int], limit: int, rng: np.random.Generator) -> np.ndarray:
    shape = [sizes.get(size, 2) if isinstance(size, str) else size for size in value.shape]
    dtype = np.dtype(value.dtype)
    if dtype == np.bool_:
        return np.ones(shape, dtype)
    if dtype.kind in "iu":
        return rng.integers(0, limit, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _limit(argument: ir.Value) -> int:
    """How many rows the tables have that this argument indexes; 2 when it indexes none."""
    readers = [use.owner for use in argument.uses]
    return min(
        (
            logical_type(reader.operation.operands[0].type).shape[0]
            for reader in readers
            if reader.operation.name == "qcc.embedding"
        ),
        default=2,
    )
