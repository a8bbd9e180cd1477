"""`run`: parse a module's text and interpret it, each value checked against its type."""

from collections.abc import Callable

import numpy as np
import pytest

from qcc.dialects import qcc
from qcc.dialects.bindings import Context, PassManager, ir
from qcc.dialects.context import make_context
from qcc.dialects.interpreter import interpret
from qcc.dialects.interpreter.element_types import dtype_of
from qcc.dialects.interpreter.frame import Frame
from qcc.dialects.interpreter.program import Step

Run = Callable[..., list[np.ndarray]]


@pytest.fixture(autouse=True)
def every_value_has_the_dtype_of_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each interpreted step is checked: no rule may widen or narrow what it computes."""
    carry_out = Frame.carry_out

    def checked(self: Frame, step: Step) -> None:
        carry_out(self, step)
        for number, result in zip(step.results, step.op.results, strict=True):
            type_ = qcc.logical_type(result.type) if qcc.is_packed(result.type) else result.type
            assert self.values[number].dtype == dtype_of(type_), str(step.op)

    monkeypatch.setattr(Frame, "carry_out", checked)


@pytest.fixture(scope="session")
def context() -> Context:
    """A context that knows tm_tensor too: only the pass that makes its ops loads it."""
    context = make_context()
    with context, ir.Location.unknown():
        passes = PassManager.parse("builtin.module(func.func(convert-torch-to-tmtensor))")
        passes.run(ir.Module.create().operation)
    return context


@pytest.fixture
def run(context: Context) -> Run:
    """The results of @main of a module given as text, on the arrays given."""

    def run_text(text: str, *inputs: np.ndarray, params=None, caches=None) -> list[np.ndarray]:
        with context, ir.Location.unknown():
            module = ir.Module.parse(text)
            before = str(module)
            results = interpret(module, inputs, (params or {}).__getitem__, caches=caches)
            assert str(module) == before
        return results

    return run_text
