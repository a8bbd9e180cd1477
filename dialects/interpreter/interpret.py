"""`interpret`: run a module of qcc and upstream dialects on NumPy arrays."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..bindings import Operation, PassManager, ir
from ..errors import UsageError
from ..qcc import is_packed, logical_type
from ..qcc.reference import Caches, Model
from .constants import constant_array
from .element_types import DYNAMIC, Array, dtype_of
from .frame import Frame, Observer, Rule, Session
from .program import Code, Numbering, compile_region
from .rules import RULES


def interpret(
    module: ir.Module,
    inputs: Sequence[Array],
    params: Callable[[str], Array],
    function: str = "main",
    caches: Caches | None = None,
    observe: Observer | None = None,
    error_factor: float = 1.0,
    attention_factor: float = 1.0,
    rules: Mapping[str, Rule] | None = None,
) -> list[Array]:
    """
    The results of `function` on `inputs`; the module is left as it is.

    Signless integers are signed arrays (unsigned inputs are read as such), i1 is bool, index is
    int64. `params` gives a parameter's decoded array of its logical shape. `caches` holds the keys
    and values of attention caches by name and is updated. `observe` sees each operation with the
    values of its operands, before it runs. The fp32 errors of sums in qcc ops count `error_factor`
    times, those of attention then `attention_factor` times more. `rules` are those of ops beyond
    the interpreter's own, such as what runs on a device. Raises UsageError on inputs that do not
    fit the function or that the model's assertions refuse, UnsupportedError on an op without a
    rule.
    """
    with module.context:
        copy = generalized(module)
        operations = [op.operation for op in copy.regions[0].blocks[0].operations]
        functions = {
            name: op for name, op in symbols(operations, "func.func").items() if has_body(op)
        }
        chosen = functions.get(function)
        if chosen is None:
            raise UsageError(
                "function-unknown",
                f"the module has no function @{function} with a body",
                next_step=f"it has {', '.join(sorted(functions)) or 'none'}",
            )
        arguments = checked_inputs(chosen, inputs)
        session = Session(
            {**RULES, **(rules or {})},
            {name: body(op) for name, op in functions.items()},
            Model(params, {} if caches is None else caches, error_factor, attention_factor),
            {
                name: constant_array(op.attributes["value"])
                for name, op in symbols(operations, "ml_program.global").items()
                if "value" in op.attributes
            },
            observe,
        )
        with np.errstate(all="ignore"):
            results = Frame(session).run(session.functions[function], arguments)
    return [np.ascontiguousarray(result).reshape(result.shape) for result in results]


def generalized(module: ir.Module) -> Operation:
    """A copy of the module in which each named linalg op is a generic."""
    copy = module.operation.clone()
    passes = PassManager.parse("builtin.module(linalg-generalize-named-ops)")
    passes.enable_verifier(False)
    passes.run(copy)
    return copy


def symbols(operations: Sequence[Operation], kind: str) -> dict[str, Operation]:
    return {
        ir.StringAttr(op.attributes["sym_name"]).value: op for op in operations if op.name == kind
    }


def has_body(function: Operation) -> bool:
    return len(list(function.regions[0].blocks)) > 0


def body(function: Operation) -> Code:
    return compile_region(function.regions[0], Numbering())


def checked_inputs(function: Operation, inputs: Sequence[Array]) -> list[Array]:
    """The inputs as arrays; raises UsageError where one does not fit its argument."""
    types = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value).inputs
    if len(types) != len(inputs):
        raise UsageError(
            "input-count",
            f"{len(inputs)} inputs for a function of {len(types)}",
            next_step="give one array for each argument, in order",
        )
    return [
        checked_input(position, np.asarray(array), type_)
        for position, (array, type_) in enumerate(zip(inputs, types, strict=True))
    ]


def checked_input(position: int, array: Array, type_: ir.Type) -> Array:
    shape = tuple(logical_type(type_).shape) if is_tensor(type_) else ()
    dtype = dtype_of(logical_type(type_) if is_tensor(type_) else type_)
    same_rank = array.ndim == len(shape)
    if not same_rank or any(s not in (DYNAMIC, n) for n, s in zip(array.shape, shape, strict=True)):
        raise UsageError(
            "input-shape",
            f"input {position} has shape {list(array.shape)}, the model takes {type_}",
            next_step="give it the shape that the model was exported with",
        )
    if array.dtype.kind == "u" and dtype.kind == "i" and array.dtype.itemsize == dtype.itemsize:
        return array.view(dtype)
    if array.dtype != dtype:
        raise UsageError(
            "input-type",
            f"input {position} is {array.dtype}, the model takes {dtype}",
            next_step=f"convert it with .astype({dtype.name!r})",
        )
    return array


def is_tensor(type_: ir.Type) -> bool:
    return isinstance(type_, ir.RankedTensorType) or is_packed(type_)
