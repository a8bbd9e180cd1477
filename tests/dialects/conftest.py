"""`run`: parse a module's text and interpret it."""

from collections.abc import Callable

import numpy as np
import pytest

from qcc.dialects.bindings import Context, PassManager, ir
from qcc.dialects.context import make_context
from qcc.dialects.interpreter import interpret

Run = Callable[..., list[np.ndarray]]


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
