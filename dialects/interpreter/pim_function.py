"""What `pim.function` computes, as a rule of the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pim.function_forms import form_of
from ..pim.functions import PlacedFunctions, evaluated
from .element_types import Array
from .frame import Frame, Rule
from .program import Step


def function_rule(functions: PlacedFunctions | None = None) -> Rule:
    """By the op's own tables, or on the DPUs of `functions`: the same in every bit."""

    def rule(step: Step, operands: Sequence[Array], frame: Frame) -> Array:
        _ = frame
        op: Any = step.op.opview
        if functions is None:
            return evaluated(form_of(op.form), operands[0])
        return functions(op.place, operands[0])

    return rule
