"""
Regions of a `.pt2` graph that are read as if they were not there.

`torch.no_grad()` and disabled autocast, which Hugging Face models use around rotary angles, are
higher-order operators whose one graph is called once. Their nodes are read in place, under the
same rules as all others. Every other operator that holds a graph is refused.
"""

from __future__ import annotations

import msgspec

from ...dialects.errors import UnsupportedError
from .pt2_arguments import malformed
from .pt2_schema import Graph, NamedArgument, Node, Record, decode
from .user_line import user_line

# Where the graph stands among the arguments; those of the graph follow.
_GRAPH_AT = {
    "torch.ops.higher_order.wrap_with_set_grad_enabled": 1,
    "torch.ops.higher_order.wrap_with_autocast": 4,
}
_ENABLED_AT = 2  # of autocast
MAX_DEPTH = 16


class GraphArgument(Record):
    name: str
    graph: Graph


def region_of(node: Node, where: str) -> tuple[Graph, list[NamedArgument]] | None:
    """
    The graph that `node` wraps and what it is called with; None for a plain operator.

    Raises UnsupportedError for an autocast that is enabled, IntegrityError for a node that does
    not hold what its operator takes.
    """
    place = _GRAPH_AT.get(node.target)
    if place is None:
        return None
    if len(node.inputs) <= place or node.inputs[place].arg.kind != "as_graph":
        malformed(f"{node.target} holds no graph", where)
    raw = node.inputs[place].arg.content
    assert isinstance(raw, msgspec.Raw)
    graph = decode(bytes(raw), GraphArgument, where).graph
    if place > _ENABLED_AT and node.inputs[_ENABLED_AT].arg.as_bool is not False:
        lines = (user_line(inner.metadata.get("stack_trace", "")) for inner in graph.nodes)
        raise UnsupportedError(
            "pt2-autocast",
            "the program computes under autocast",
            where=next(filter(None, lines), where),
            why="the file does not say which values are cast",
            next_step="save program.run_decompositions({}), which writes the casts out",
        )
    arguments = node.inputs[place + 1 :]
    if len(arguments) != len(graph.inputs):
        malformed(f"{node.target} is called with {len(arguments)} values", where)
    return graph, arguments
