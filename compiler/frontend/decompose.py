"""
Spell a program in ops that torch-mlir has.

torch's own decompositions replace the ops that the torch dialect lacks, and a few that torch-mlir
lowers wrongly or not at all. Everything else stays whole, both because qcc wants linear layers
and attention so and because a general decomposition of a large program takes longer than
compiling it. What cannot be compiled whatever its spelling, random numbers and shapes that
depend on values, is refused here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import fx
from torch._decomp import decomposition_table
from torch._guards import detect_fake_mode
from torch._higher_order_ops.wrap import wrap_with_autocast
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch_mlir.extras.fx_decomp_util import get_expanded_decomposition_table

from ...dialects.bindings import Context
from ...dialects.errors import UnsupportedError
from .inline_regions import inline_regions
from .reasons import failed_node, line_of, name_of, refuse_effects, tracing_reason
from .respell import RESPELLINGS
from .results import with_results_alone

aten = torch.ops.aten

# In the torch dialect, but lowered only for some of their operands, or wrongly.
ALWAYS = (
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv3d.padding,
    aten.gru.input,
    aten.instance_norm.default,
    aten.lstm.input,
    aten.pad.default,
    aten.rnn_relu.input,
    aten.rnn_tanh.input,
    aten.upsample_bilinear2d.vec,
)
# What qcc raises, by any spelling: kept even where everything else is decomposed.
OWNED = frozenset(
    (
        *("conv2d", "embedding", "gelu", "layer_norm", "linear", "matmul", "bmm", "mm", "addmm"),
        *("rms_norm", "scaled_dot_product_attention"),
    )
)


def decompose(program: ExportedProgram, context: Context, thorough: bool) -> ExportedProgram:
    """
    A program of the same meaning in ops of the torch dialect, as far as torch can decompose.

    `thorough` also takes apart what the dialect has, except the ops that qcc owns: the second
    attempt after torch-mlir could not lower one of them. Raises UnsupportedError for what no
    spelling helps.
    """
    program = inline_regions(program)
    for node in program.graph.nodes:
        _refuse(node)
    table = _table(context) | (_core() if thorough else {})
    if thorough or any(_needs_tracing(node, table) for node in program.graph.nodes):
        traced = inline_regions(_traced(program, _with_respellings(table)))
        refuse_effects(traced)
        return with_results_alone(traced)
    return with_results_alone(program)


def _with_respellings(table: Mapping[OpOverload, Any]) -> dict[OpOverload, Any]:
    """Where an op is fine as it is spelled, it may still be one to decompose."""
    return {**table} | {
        op: _first_of(respell, table[op]) if op in table else respell
        for op, respell in RESPELLINGS.items()
    }


def _first_of(respell: Callable[..., Any], decomposition: Callable[..., Any]) -> Callable[..., Any]:
    def decomposed(*args: Any, **kwargs: Any) -> Any:
        made = respell(*args, **kwargs)
        return decomposition(*args, **kwargs) if made is NotImplemented else made

    return decomposed


def _traced(program: ExportedProgram, table: dict[OpOverload, Any]) -> ExportedProgram:
    try:
        with warnings.catch_warnings():
            # torch copies trees by a name that it means to drop.
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
            return program.run_decompositions({**table})
    except Exception as error:
        node = failed_node(error)
        raise UnsupportedError(
            "decomposition-failed",
            f"torch cannot decompose {name_of(node) if node else 'the program'} into the ops that "
            "qcc has",
            where=line_of(node) if node else "",
            why=f"{type(error).__name__}: {tracing_reason(error)[:500]}",
            next_step="write this part of the model with other ops",
        ) from error


def _needs_tracing(node: fx.Node, table: Mapping[OpOverload, Any]) -> bool:
    """Whether to trace anew: to decompose, to write casts out, or to undo writing in place."""
    target = node.target
    if isinstance(target, HigherOrderOperator):
        return target is wrap_with_autocast
    if getattr(target, "__module__", "").startswith("torch._functorch"):
        return True  # what vmap leaves behind
    if not isinstance(target, OpOverload):
        return False
    return target in table or target._schema.is_mutable or _is_respelled(node, target)


def _is_respelled(node: fx.Node, target: OpOverload) -> bool:
    respell = RESPELLINGS.get(target)
    if respell is None:
        return False
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda each: each.meta["val"])
    with detect_fake_mode((args, kwargs)) or nullcontext(), torch.no_grad():
        return respell(*args, **kwargs) is not NotImplemented


@cache
def _decompositions() -> dict[OpOverload, Any]:
    """Every functional ATen op that torch can decompose."""
    found = dict(torch.export.default_decompositions().items())
    found |= decomposition_table
    overloads = {op: made for op, made in found.items() if isinstance(op, OpOverload)}
    return {op: made for op, made in overloads.items() if op.namespace == "aten"}


def _table(context: Context) -> dict[OpOverload, Any]:
    return {
        op: made
        for op, made in _decompositions().items()
        if op in ALWAYS or not _in_dialect(op, context)
    }


def _in_dialect(op: OpOverload, context: Context) -> bool:
    name = op._schema.name.removeprefix("aten::")
    overload = op._schema.overload_name
    if name.startswith("sym_"):
        return True  # sizes, which the importer reads itself
    return context.is_registered_operation(
        f"torch.aten.{name}.{overload}" if overload else f"torch.aten.{name}"
    )


def _core() -> dict[OpOverload, Any]:
    table: dict[OpOverload, Any] = get_expanded_decomposition_table()  # pyright: ignore[reportAssignmentType]
    return {op: made for op, made in table.items() if op.overloadpacket.__name__ not in OWNED}


def _refuse(node: fx.Node) -> None:
    if not isinstance(node.target, OpOverload):
        return
    where = line_of(node)
    if torch.Tag.nondeterministic_seeded in node.target.tags and not _is_still(node):
        raise UnsupportedError(
            "op-random",
            f"{node.target} draws random numbers",
            where=where,
            why="a compiled program gives the same results for the same inputs",
            next_step="pass the random tensor in as an input",
        )
    values = node.meta.get("val")
    for value in values if isinstance(values, tuple | list) else (values,):
        if isinstance(value, torch.Tensor) and free_unbacked_symbols(value.shape):
            raise UnsupportedError(
                "op-data-dependent",
                f"{node.target} has a result whose shape depends on values",
                where=where,
                next_step="rewrite that line so that shapes depend on shapes only, for example "
                "with torch.where",
            )


def _is_still(node: fx.Node) -> bool:
    """Whether an op that may draw does not: dropout outside training, attention without it."""
    assert isinstance(node.target, OpOverload)
    parameters = node.target._schema.arguments
    arguments = {parameter.name: parameter.default_value for parameter in parameters}
    names = (parameter.name for parameter in parameters)
    arguments |= dict(zip(names, node.args, strict=False)) | node.kwargs
    probability = arguments.get("dropout_p", arguments.get("p", None))
    return arguments.get("train", arguments.get("training")) is False or probability == 0
