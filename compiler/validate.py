"""
Translation validation: a program is executed before and after each pass, on small inputs.

    torch's result of the exported program   ≈  the interpreter on the lowered module     1e-4
    the interpreter before                   =  after a pass that keeps values            every bit
    the interpreter, weights rounded         =  after assign-formats                      every bit

The last holds where weights alone have formats. Where activations are rounded as well, the values
change by design and only the distance to torch is reported. The inputs are those of `qcc verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dialects.bindings import ir
from ..dialects.errors import AccuracyError
from ..dialects.interpreter import interpret
from ..dialects.interpreter.frame import Rule
from ..dialects.interpreter.pim_function import function_rule
from ..dialects.interpreter.pim_linear import linear_rule
from ..dialects.pim.placed_layers import PlacedLayers
from ..dialects.pim.plan import Plan
from ..passes.registry import FIRST_EXECUTABLE
from . import reproducer
from .frontend.run_program import run_program
from .frontend.sources import OpenedModel
from .golden import golden_inputs
from .manifest import Signature
from .pack import parameters_of, stored_values
from .replay import TOLERANCE, output_errors

Arrays = list[np.ndarray]

_ROUNDED = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
_STEPS = 16  # roundings of a half-precision value that a small model adds up


class Validation:
    """The results of the last executed state of a module, compared with those of the next."""

    def __init__(self, source: OpenedModel, signature: Signature, seed: int) -> None:
        self._source, self._signature, self._seed = source, signature, seed
        self._parameter: Callable[[str], np.ndarray] = source.weights.read
        self._inputs: Arrays = []
        self._reference: Arrays = []  # torch's
        self._last: Arrays = []
        self._ir = ""
        self.rows: list[dict[str, Any]] = []

    def check(self, name: str, module: ir.Module) -> None:
        """
        Execute `module`, which pass `name` made, and compare.

        Does nothing before the pass from which on a module is executable. Raises AccuracyError.
        """
        if name == FIRST_EXECUTABLE:
            self._inputs = golden_inputs(self._signature, module, self._seed)
            self._parameter = self._reader(module)
            self._last = self._reference = run_program(self._source, self._inputs)
            self._compare(name, module, tolerance_of(self._source))
        elif name == "assign-formats":
            self._check_formats(name, module)
        elif name in ("partition-pim", "place-pim-functions"):
            self._report_partition(name, module)
        elif self._ir:
            self._compare(name, module, 0.0)

    def _check_formats(self, name: str, module: ir.Module) -> None:
        """
        Parameters have formats from here on, so they are read as these leave them.

        With such weights the module as it was must give the very same results, unless the new
        one rounds activations too.
        """
        self._parameter = self._reader(module)
        text = str(module)
        if "qcc.quantize" in text:
            results = self._run(module)
            self._record(name, "torch", results, self._reference, None)
            self._last, self._ir = results, text
        else:
            self._last = self._run(ir.Module.parse(self._ir))
            self._compare(name, module, 0.0)

    def _report_partition(self, name: str, module: ir.Module) -> None:
        """
        Sums of integers for sums of fp32: closer to the exact ones, so other roundings may follow.
        Functions by tables: as near as these are.
        """
        results = self._run(module)
        self._record(name, "before", results, self._last, None)
        self._last, self._ir = results, str(module)

    def _reader(self, module: ir.Module) -> Callable[[str], np.ndarray]:
        """Parameters as the module stores them: in their formats, or in the model's own types."""
        stored = {each.symbol: each for each in parameters_of(module)}
        weights = self._source.weights
        return lambda symbol: stored_values(stored[symbol], weights.read(symbol))

    def _run(self, module: ir.Module) -> Arrays:
        return interpret(module, self._inputs, self._parameter, rules=self._rules(module))

    def _rules(self, module: ir.Module) -> dict[str, Rule]:
        """Those of layers on DPUs, where the module has some."""
        plan = Plan.of(module)
        formats = {layer.parameter: layer.linear.weight for layer in plan.layers}
        read = self._source.weights.read
        layers = PlacedLayers(plan, lambda name: formats[name].encode_rows(read(name)))
        return {"pim.linear": linear_rule(layers), "pim.function": function_rule()}

    def _compare(self, name: str, module: ir.Module, tolerance: float) -> None:
        results = self._run(module)
        against = "torch" if self._last is self._reference else "before"
        errors = self._record(name, against, results, self._last, tolerance)
        text = str(module)
        for error, old, new in zip(errors, self._last, results, strict=True):
            if not _agree(old, new, error["max_rel_error"], tolerance):
                bundle = reproducer.write_difference(
                    name, self._ir, text, self._inputs, self._last, results
                )
                raise AccuracyError(
                    "validation-failed",
                    f"pass '{name}' changes output '{error['name']}' by "
                    f"{error['max_rel_error']:.3g} of its largest value",
                    where=str(bundle),
                    why=f"{error['max_abs_error']:.3g} at most, where {tolerance:g} of the "
                    f"largest is allowed, against {against}",
                    next_step="please report it with that bundle; it holds the IR before and "
                    "after and the inputs, but no weights",
                )
        self._last, self._ir = results, text

    def _record(
        self,
        name: str,
        against: str,
        results: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        tolerance: float | None,
    ) -> list[dict[str, Any]]:
        names = [value.name for value in self._signature.outputs]
        expected = [
            e.view(r.dtype) if e.dtype.kind == "u" else e
            for e, r in zip(expected, results, strict=True)
        ]
        errors = output_errors(names, expected, results)
        worst = max((error["max_rel_error"] for error in errors), default=0.0)
        self.rows.append(
            {"pass": name, "against": against, "max_rel_error": worst, "tolerance": tolerance}
        )
        return errors


def _agree(old: np.ndarray, new: np.ndarray, error: float, tolerance: float) -> bool:
    if tolerance:
        return old.shape == new.shape and error <= tolerance
    return old.shape == new.shape and old.tobytes() == new.tobytes()


def tolerance_of(source: OpenedModel) -> float:
    """1e-4; wider for a program that computes in half precision, by a few of its roundings."""
    values = [node.meta.get("val") for node in source.program.graph.nodes]
    dtypes = {str(getattr(value, "dtype", "")).removeprefix("torch.") for value in values}
    return max(
        TOLERANCE, *(_STEPS * step for name, step in _ROUNDED.items() if name in dtypes), 0.0
    )
