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

from ..dialects.bindings import Operation, ir
from ..dialects.interpreter import interpret
from ..dialects.qcc import logical_type
from .artifact import ArtifactWriter
from .layers import entry_function
from .manifest import Signature, Value
from .pack import decoded_parameter
from .precisions import Program
from .replay import TOLERANCE, output_errors
from .running import RunningCode
from .tensor_layout import pack_tensors

CHECKED_LIMIT = 1 << 30  # stored weight bytes; the code to check needs all of them in memory
DRAWN_LIMIT = 1 << 26  # stored weight bytes, up to which executing a program again is cheap
DRAWS = 8
ERROR_FACTOR = -8  # to the other side of the exact sums, and further than errors go
MARGIN = 4
_SMALL = {0: 2}
_SEQUENCE = 6


def golden_inputs(
    signature: Signature, module: ir.Module, seed: int | Sequence[int]
) -> list[np.ndarray]:
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
    """Inputs, what the reference interpreter makes of them, and the error a replay may show."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    tolerance: float


def add_golden(
    writer: ArtifactWriter, programs: Sequence[Program], signature: Signature, seed: int
) -> list[Golden]:
    """
    Store golden inputs, and the interpreter's outputs of each program.

    Weights are decoded from the file being written, each where the program needs it. Of a few
    draws of inputs of a model of moderate size, those are taken on which the least depends on the
    order of sums.
    """
    whole = programs[0]
    size = sum(spec.nbytes for parameter in whole.parameters for spec in parameter.specs())
    best: list[Golden] = []
    for draw in range(DRAWS if size < DRAWN_LIMIT else 1):
        inputs = golden_inputs(signature, whole.module, (seed, draw))
        found = [_golden(writer, program, inputs) for program in programs]
        if not best or _worst(found) < _worst(best):
            best = found
        if _worst(best) == TOLERANCE:
            break
    writer.add("golden/inputs.safetensors", pack_tensors(_numbered(best[0].inputs)))
    for program, golden in zip(programs, best, strict=True):
        assert program.precision.outputs is not None
        writer.add(program.precision.outputs, pack_tensors(_numbered(golden.outputs)))
    return best


def _worst(goldens: Sequence[Golden]) -> float:
    return max(golden.tolerance for golden in goldens)


def _golden(writer: ArtifactWriter, program: Program, inputs: list[np.ndarray]) -> Golden:
    """
    The outputs on `inputs`, and the tolerance.

    Without rounded activations two correct executions differ by the order of fp32 sums. Where
    activations are rounded, such a difference can carry a value across a boundary of its format
    and so change it by a whole step: whether it does here is seen with other errors of sums.
    """
    by_symbol = {parameter.symbol: parameter for parameter in program.parameters}

    def outputs(error_factor: float) -> list[np.ndarray]:
        return interpret(
            program.module,
            inputs,
            lambda symbol: decoded_parameter(by_symbol[symbol], writer.tensor),
            error_factor=error_factor,
        )

    plain = outputs(1)
    if not _rounds(program.module.operation):
        return Golden(inputs, plain, TOLERANCE)
    errors = output_errors([""] * len(plain), plain, outputs(ERROR_FACTOR))
    moved = max((error["max_rel_error"] for error in errors), default=0.0)
    return Golden(inputs, plain, TOLERANCE if moved <= TOLERANCE else MARGIN * moved)


def _rounds(op: Operation) -> bool:
    """Whether activations are rounded to a format inside `op`."""
    return any(
        child.operation.name == "qcc.quantize" or _rounds(child.operation)
        for region in op.regions
        for block in region.blocks
        for child in block.operations
    )


def check_programs(
    writer: ArtifactWriter,
    programs: Sequence[Program],
    goldens: Sequence[Golden],
    signature: Signature,
) -> tuple[dict[str, Any], bool]:
    """
    Run each program's code on golden inputs and the weights of the file being written.

    Returns the errors for the report and, for a model with a step function, whether computing
    token by token gives what the whole sequence gives, within the tolerance, in every precision.
    """
    rows: list[dict[str, Any]] = []
    agreed = True
    for program, golden in zip(programs, goldens, strict=True):
        with closing(RunningCode(program.code, writer.tensor)) as running:
            errors, agrees = check_code(running, golden, signature)
        rows += [{"precision": program.precision.name, **error} for error in errors]
        agreed = agreed and agrees
    return {"outputs": rows}, agreed


def check_code(
    running: RunningCode, golden: Golden, signature: Signature
) -> tuple[list[dict[str, Any]], bool]:
    """See `check_programs`, for one program."""
    names = [value.name for value in signature.outputs]
    whole = running.call(golden.inputs)
    agrees = False
    if running.code.caches:
        pieces = running.in_two_steps(golden.inputs[0])
        agrees = all(
            error["max_rel_error"] <= golden.tolerance
            for error in output_errors(names, whole, pieces)
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
