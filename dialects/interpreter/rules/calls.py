"""`func`, `cf`, `builtin` and `ml_program`: calls, assertions, casts without a change, globals."""

from dataclasses import replace

import numpy as np

from ...bindings import ir
from ...errors import UnsupportedError, UsageError
from ..element_types import Array, dtype_of
from ..frame import Frame, Results, Rule
from ..program import Step, place


def call(step: Step, operands: list[Array], frame: Frame) -> Results:
    name = ir.FlatSymbolRefAttr(step.op.attributes["callee"]).value
    code = frame.session.functions.get(name)
    if code is None:
        raise UnsupportedError(
            "interpreter-call", f"the called function @{name} has no body", where=place(step.op)
        )
    return replace(frame, values={}).run(code, operands)


def check(step: Step, operands: list[Array], frame: Frame) -> Results:
    (holds,) = operands
    if frame.mask is not None:
        holds = holds | ~frame.mask
    if not holds.all():
        raise UsageError(
            "assertion-failed",
            f"the model asserts: {ir.StringAttr(step.op.attributes['msg']).value}",
            where=place(step.op),
            next_step="check the shapes and values of the model's inputs",
        )
    return []


def same(step: Step, operands: list[Array], _frame: Frame) -> Results:
    """A cast between types that one array stands for; raises UnsupportedError on others."""
    result, source = step.op.results[0].type, step.op.operands[0].type
    both = (result, source)
    if all(isinstance(t, ir.ShapedType) for t in both) and dtype_of(result) != dtype_of(source):
        raise UnsupportedError(
            "interpreter-cast", f"no rule to cast {source} to {result}", where=place(step.op)
        )
    return operands


def load_global(step: Step, _operands: list[Array], frame: Frame) -> Results:
    return frame.session.globals[global_name(step)]


def store_global(step: Step, operands: list[Array], frame: Frame) -> Results:
    frame.session.globals[global_name(step)] = np.array(operands[0])
    return []


def global_name(step: Step) -> str:
    return str(step.op.attributes["global"]).removeprefix("@")


RULES: dict[str, Rule] = {
    "builtin.unrealized_conversion_cast": same,
    "cf.assert": check,
    "func.call": call,
    "ml_program.global_load": load_global,
    "ml_program.global_load_const": load_global,
    "ml_program.global_store": store_global,
    "torch_c.from_builtin_tensor": same,
    "torch_c.to_builtin_tensor": same,
}
