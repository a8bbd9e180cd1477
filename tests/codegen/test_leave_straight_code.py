"""Lists of calls are left as they are; loops, and functions that call nothing, are optimized."""

from typing import Any

import pytest

from qcc.codegen.cpu.leave_straight_code import leave_straight_code
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context

CALL = "llvm.call @f() : () -> ()\n"


def marked(body: str) -> bool:
    with make_context():
        module = ir.Module.parse(
            f"llvm.func @f()\nllvm.func @main(%0: i1) {{\n{body}llvm.return\n}}"
        )
        leave_straight_code(module)
        assert module.operation.verify()
        main: Any = module.body.operations[1]
        return "optnone" in str(main)


@pytest.mark.parametrize("calls", [0, 1, 100])
def test_lists_of_calls(calls: int) -> None:
    assert marked(CALL * calls) == (calls > 0)


def test_loops() -> None:
    assert not marked(f"llvm.br ^loop\n^loop:\n{CALL * 100}llvm.cond_br %0, ^loop, ^end\n^end:\n")
