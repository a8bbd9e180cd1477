"""
Golden inputs and outputs: made by the reference interpreter, replayed by `qcc verify`.

Inputs come from a seeded generator and the signature; outputs from executing the stored IR in
NumPy on the stored, decoded weights. What they check is the code that runs, not the formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..codegen.cpu.code import Code
from ..dialects.bindings import ir
from ..dialects.interpreter import interpret
from ..dialects.qcc import logical_type
from .artifact import ArtifactWriter
from .frontend.weights import WeightSource
from .manifest import Signature, Value
from .pack import Parameter, decoded_parameter, encode
from .plan import Plan
from .running import RunningCode
from .tensor_layout import pack_tensors

GOLDEN_LIMIT = 1 << 30  # weight bytes; the interpreter decodes all of them
TOLERANCE = 1e-4
ROUNDED_TOLERANCE = 5e-2
_SMALL = {0: 2}
_SEQUENCE = 6


def golden_inputs(signature: Signature, module: ir.Module, seed: int) -> list[np.ndarray]:
    """Normal floats, tokens inside their tables, true masks; symbolic sizes small but not equal."""
    rng = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    for index, (name, extent) in enumerate(sorted(signature.dims.items())):
        wanted = _SMALL.get(index, _SEQUENCE + index)
        sizes[name] = min(max(wanted, extent.min), extent.max or wanted)
    arguments = _entry(module).regions[0].blocks[0].arguments
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
) -> dict[str, Any]:
    """
    Store golden inputs and the interpreter's outputs, and run the compiled code on them.

    Returns the errors for the report. Weights are encoded again, one at a time, rather than kept.
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
    running = RunningCode(code.object, code.parts, code.results, stored.__getitem__)
    actual = running(inputs)
    running.close()
    names = [value.name for value in signature.outputs]
    return {"outputs": output_errors(names, expected, actual)}


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


def _entry(module: ir.Module) -> Any:
    return next(op for op in module.body.operations if op.operation.name == "func.func")


def output_errors(
    names: Sequence[str], expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Per output: the largest absolute error, and that error relative to the largest value."""
    return [
        {"name": name, **_error(e, a)} for name, e, a in zip(names, expected, actual, strict=True)
    ]


def _error(expected: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    if expected.size == 0:
        return {"max_abs_error": 0.0, "max_rel_error": 0.0}
    wide, got = expected.astype(np.float64), actual.astype(np.float64)
    same = (wide == got) | (np.isnan(wide) & np.isnan(got))
    worst = float(np.max(np.where(same, 0.0, np.abs(got - wide))))
    scale = float(np.max(np.abs(wide[np.isfinite(wide)]), initial=0.0)) or 1.0
    return {"max_abs_error": worst, "max_rel_error": worst / scale}


def tolerance(plan: Plan) -> float:
    """
    The relative error that a replay may show.

    Without rounded activations only the order of fp32 sums differs. With them such a difference
    can move a value across a rounding boundary, which changes it by a whole step of its format.
    """
    rounds = any(layer.activations or layer.keys or layer.values for layer in plan.layers)
    return ROUNDED_TOLERANCE if rounds else TOLERANCE
