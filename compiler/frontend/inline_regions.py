"""
Inline the regions that torch.export makes of `torch.no_grad()` and of disabled autocast.

    wrap_with_set_grad_enabled(False, g, x)  =>  the nodes of g, with x for its argument

Exact: gradients are never taken, and a disabled autocast changes no type. A region where autocast
is enabled is left for torch's own tracing, which writes the casts out.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable
from typing import Any

from torch import fx
from torch._higher_order_ops.wrap import wrap_with_autocast, wrap_with_set_grad_enabled
from torch.export import ExportedProgram


def has_regions(program: ExportedProgram) -> bool:
    return any(_region_of(node) is not None for node in program.graph.nodes)


def inline_regions(program: ExportedProgram) -> ExportedProgram:
    """A program of the same meaning whose own graph holds those regions; the given one is kept."""
    if not has_regions(program):
        return program
    graph = fx.Graph()
    inlining = _Inlining(graph)
    results = inlining.copy(program.graph_module, None)
    output = graph.output(results)
    old_output = program.graph.output_node()
    output.meta.update(old_output.meta)
    inlined = copy.copy(program)
    inlined._graph_module = fx.GraphModule(program.graph_module, graph)
    inlined._graph_signature = copy.deepcopy(program.graph_signature)
    for old in old_output.all_input_nodes:
        inlined._graph_signature.replace_all_uses(old.name, inlining.made[old].name)
    return inlined


def _region_of(node: fx.Node) -> tuple[fx.Node, tuple[Any, ...]] | None:
    """The reference to the region's graph and the arguments that it is given."""
    if node.target is wrap_with_set_grad_enabled:
        return _reference(node.args[1]), node.args[2:]
    if node.target is wrap_with_autocast and node.args[2] is False:
        return _reference(node.args[4]), node.args[5:]
    return None


def _reference(argument: Any) -> fx.Node:
    assert isinstance(argument, fx.Node)
    return argument


class _Inlining:
    """Copies graphs into `graph`; `made` maps each old node to its new node or tuple of nodes."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.made: dict[fx.Node, Any] = {}

    def copy(self, module: fx.GraphModule, arguments: Iterable[Any] | None) -> Any:
        """Copy all of `module`, its placeholders replaced by `arguments`; returns its results."""
        given = None if arguments is None else iter(arguments)
        references = {found[0] for node in module.graph.nodes if (found := _region_of(node))}
        for node in module.graph.nodes:
            if node.op == "output":
                return fx.map_arg(node.args[0], self._new)
            if node.op == "placeholder" and given is not None:
                self.made[node] = next(given)
            elif node not in references:
                self.made[node] = self._copied(module, node)
        raise AssertionError("a graph without an output")

    def _copied(self, module: fx.GraphModule, node: fx.Node) -> Any:
        region = _region_of(node)
        if region is not None:
            reference, arguments = region
            inner = getattr(module, str(reference.target))
            return self.copy(inner, fx.map_arg(arguments, self._new))
        if node.target is operator.getitem:
            source, index = node.args
            made = self.made[source] if isinstance(source, fx.Node) else None
            if isinstance(made, tuple | list):
                return made[index]  # pyright: ignore[reportArgumentType, reportCallIssue]
        return self.graph.node_copy(node, self._new)

    def _new(self, node: fx.Node) -> Any:
        return self.made[node]
