"""
Golden inputs and outputs: made by the reference interpreter, replayed by `qcc verify`.

Inputs come from a seeded generator and the signature; outputs from executing the stored IR in
NumPy on the stored, decoded weights. What they check is the code that runs, not the formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..codegen.cpu.program import Code
from ..dialects.bindings import ir
from ..dialects.interpreter import interpret
from ..dialects.qcc import logical_type
from .artifact import ArtifactWriter
from .frontend.weights import WeightSource
from .layers import entry_function
from .manifest import Signature, Value
from .pack import Parameter, decoded_parameter, encode
from .replay import output_errors
from .running import KeyValueCaches, RunningCode
from .tensor_layout import pack_tensors

GOLDEN_LIMIT = 1 << 30  # weight bytes; the interpreter decodes all of them
STEP_TOLERANCE = 5e-2
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


def add_golden(
    writer: ArtifactWriter,
    source: WeightSource,
    module: ir.Module,
    signature: Signature,
    parameters: Sequence[Parameter],
    code: Code,
    seed: int,
) -> tuple[dict[str, Any], bool]:
    """
    Store golden inputs and the interpreter's outputs, and run the compiled code on them.

    Returns the errors for the report and, for a model with a step function, whether computing
    token by token agrees. Weights are encoded again, one at a time.
    """
    by_symbol = {parameter.symbol: parameter for parameter in parameters}
    stored: dict[str, np.ndarray] = {}
    for parameter in parameters:
        stored |= encode(parameter, source.read(parameter.symbol))
    inputs = golden_inputs(signature, module, seed)
    expected = interpret(
        module, inputs, lambda symbol: decoded_parameter(by_symbol[symbol], stored)
    )
    writer.add("golden/inputs.safetensors", pack_tensors(_numbered(inputs)))
    writer.add("golden/outputs.safetensors", pack_tensors(_numbered(expected)))
    running = RunningCode(code, stored.__getitem__)
    actual = running.call(inputs)
    agrees = step_agrees(running, inputs[0]) if code.caches else False
    running.close()
    names = [value.name for value in signature.outputs]
    return {"outputs": output_errors(names, expected, actual)}, agrees


def step_agrees(running: RunningCode, tokens: np.ndarray) -> bool:
    """Whether `tokens` [batch, T] in two steps give what they give at once."""
    whole = running.call([tokens])
    caches = KeyValueCaches(running.code, len(tokens))
    first = tokens.shape[1] - 1
    pieces = [running.step(part, caches) for part in (tokens[:, :first], tokens[:, first:])]
    for index, expected in enumerate(whole):
        got = np.concatenate([piece[index] for piece in pieces], 1)
        error = output_errors([""], [expected], [got])[0]["max_rel_error"]
        if got.shape != expected.shape or error > STEP_TOLERANCE:
            return False
    return True


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
