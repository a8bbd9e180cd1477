"""
A lowered program against torch: the same small inputs through both, before formats are assigned.

What is checked after compilation, code against interpreter, runs one lowered program on both
sides and cannot see a fault in lowering. Weights are read one at a time, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dialects.bindings import ir
from ..dialects.errors import AccuracyError
from ..dialects.interpreter import interpret
from .frontend.run_program import run_program
from .frontend.sources import OpenedModel
from .golden import ERROR_FACTOR, MARGIN, golden_inputs
from .manifest import Signature
from .pack import parameters_of, stored_values
from .replay import output_errors
from .validate import tolerance_of

LARGEST = 1 << 27
"""Weight bytes up to which both executions take less than a twentieth of the time of compiling."""
DRAWS = 3
Arrays = list[np.ndarray]


def check_lowering(
    source: OpenedModel, signature: Signature, module: ir.Module, seed: int
) -> float | None:
    """
    How far the interpreter's outputs of `module` are from torch's, relative to the largest values.

    None where nothing was compared: a large program, or one that torch refuses to run on these
    inputs. Raises AccuracyError where every draw of inputs differs by more than the order of sums
    explains; one draw alone may stand at an edge, where a function jumps.
    """
    lowered = _Lowered(source, module)
    if lowered.bytes > LARGEST:
        return None
    errors: list[dict[str, Any]] = []
    allowed = tolerance_of(source)
    for draw in range(DRAWS):
        inputs = golden_inputs(signature, module, (seed, draw), positive=draw % 2 == 1)
        expected = _by_torch(source, inputs)
        if expected is None:
            return None
        outputs = lowered.run(inputs)
        errors = _errors(signature, expected, outputs)
        if _worst(errors) > allowed:
            moved = _errors(signature, outputs, lowered.run(inputs, ERROR_FACTOR))
            allowed = max(allowed, MARGIN * _worst(moved))
        if _worst(errors) <= allowed:
            return _worst(errors)
    raise _mismatch(errors, allowed)


class _Lowered:
    """The lowered program, and its parameters in the types that it stores them in."""

    def __init__(self, source: OpenedModel, module: ir.Module) -> None:
        self._module, self._weights = module, source.weights
        self._stored = {each.symbol: each for each in parameters_of(module)}

    @property
    def bytes(self) -> int:
        return sum(spec.nbytes for each in self._stored.values() for spec in each.specs())

    def run(self, inputs: Arrays, error_factor: float = 1.0) -> Arrays:
        return interpret(self._module, inputs, self._parameter, error_factor=error_factor)

    def _parameter(self, symbol: str) -> np.ndarray:
        return stored_values(self._stored[symbol], self._weights.read(symbol))


def _by_torch(source: OpenedModel, inputs: Arrays) -> Arrays | None:
    """None where torch raises, as of an integer divided by zero, which compiled code does not."""
    try:
        return run_program(source, inputs)
    except (RuntimeError, ArithmeticError, IndexError):
        return None


def _errors(
    signature: Signature, expected: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Unsigned outputs are compared as the signed ones that the interpreter has for them."""
    pairs = zip(expected, outputs, strict=True)
    alike = [each.view(got.dtype) if each.dtype.kind == "u" else each for each, got in pairs]
    return output_errors([value.name for value in signature.outputs], alike, outputs)


def _worst(errors: Sequence[dict[str, Any]]) -> float:
    return max((error["max_rel_error"] for error in errors), default=0.0)


def _mismatch(errors: Sequence[dict[str, Any]], allowed: float) -> AccuracyError:
    wrong = [each for each in errors if not each["max_rel_error"] <= allowed]
    told = ", ".join(f"{each['name']} by {each['max_rel_error']:.2g}" for each in wrong)
    return AccuracyError(
        "lowering-mismatch",
        "the lowered program does not compute what torch computes",
        where="before any format was assigned: " + ", ".join(each["name"] for each in wrong),
        why=f"on each of {DRAWS} draws of small inputs, relative to the largest value of an "
        f"output: {told}; {allowed:.2g} is allowed",
        next_step="this is a defect of qcc: report it with the model; write the part of the model "
        "that makes these outputs with other ops, or --no-golden writes the artifact unchecked",
    )
