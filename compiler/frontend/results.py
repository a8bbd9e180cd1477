"""
What a program returns besides the results of the model: inputs and buffers that it wrote to.

A traced program returns the new values as further results. Those of inputs are dropped: a compiled
model computes with them and leaves the caller's arrays alone. A buffer would be hidden state.
"""

from __future__ import annotations

import copy

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind, OutputSpec

from ...dialects.errors import UnsupportedError
from .reasons import line_of


def with_results_alone(program: ExportedProgram) -> ExportedProgram:
    """
    The program with its tensor results alone; the given one is kept.

    Raises UnsupportedError for a program that writes to a buffer or a parameter.
    """
    specs = program.graph_signature.output_specs
    results = program.graph.output_node().args[0]
    assert isinstance(results, tuple | list)
    for spec, result in zip(specs, results, strict=True):
        if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION):
            raise _has_state(spec.target, result)
    kept = [place for place, spec in enumerate(specs) if _is_result(spec)]
    if len(kept) == len(specs):
        return program
    module = copy.deepcopy(program.graph_module)
    output = module.graph.output_node()
    new = output.args[0]
    assert isinstance(new, tuple | list)
    output.args = (tuple(new[place] for place in kept),)
    module.recompile()
    made = copy.copy(program)
    made._graph_module = module
    made._graph_signature = copy.deepcopy(program.graph_signature)
    made._graph_signature.output_specs = [specs[place] for place in kept]
    return made


def _is_result(spec: OutputSpec) -> bool:
    """Constants among the results stand in the signature."""
    return spec.kind is OutputKind.USER_OUTPUT and not isinstance(spec.arg, ConstantArgument)


def _has_state(target: str | None, result: object) -> UnsupportedError:
    return UnsupportedError(
        "buffer-mutation",
        f"the model writes to its buffer '{target}'",
        where=line_of(result) if isinstance(result, fx.Node) else "",
        why="qcc compiles models without hidden state; caches are made by the compiler",
        next_step="pass the state in and out as an argument, or leave caching to qcc",
    )
