"""What torch and MLIR say about a failure, in the user's terms: the operator and the line."""

from __future__ import annotations

import re
from types import TracebackType

from torch import fx
from torch._higher_order_ops.effects import with_effects
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.export import ExportedProgram

from ...dialects.errors import UnsupportedError
from .user_line import user_line

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # torch sets words of its messages bold
_HINT = re.compile(
    r"(^|(?<=[!.]) )(For (more|extended|C\+\+) |If you suspect the guard|Caused by: |"
    r"consider using data-dependent friendly).*$",
    re.MULTILINE,
)
_CLOSING = re.compile(
    r"The (following call raised this error|error above occurred when).*", re.DOTALL
)
_ANOTHER_WAY = "write this part of the model with other ops"


def tracing_reason(error: BaseException) -> str:
    """The message of torch.export without colours, its own debugging hints and its stack."""
    text = _CLOSING.sub("", _HINT.sub("", _COLOURS.sub("", str(error))))
    if isinstance(error, DataDependentOutputException):
        return f"{text.strip()} decides by values, and tracing knows only shapes"
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)[:2000]


def tracing_advice(error: BaseException) -> str:
    text = str(error)
    if "Constraints violated" in text:
        return "give these dimensions a fixed size or the range that is named, or change the model"
    if "data-dependent" in text or isinstance(error, DataDependentOutputException):
        return "decide with torch.where, or by shapes, instead of a Python condition on values"
    return "rewrite that line with tensor operations, or export the part that can be"


def failed_node(error: BaseException) -> fx.Node | None:
    """The node at which an importer or interpreter of graphs was when it raised `error`."""
    found, at = None, error.__traceback__
    while isinstance(at, TracebackType):
        node = at.tb_frame.f_locals.get("node")
        found = node if isinstance(node, fx.Node) and node.op == "call_function" else found
        at = at.tb_next
    return found


def line_of(node: fx.Node) -> str:
    return user_line(node.meta.get("stack_trace") or "")


def name_of(node: fx.Node) -> str:
    """The function that a node calls, as users know it."""
    target = node.target
    if isinstance(target, HigherOrderOperator):
        return f"torch.{target.name()}"
    if isinstance(target, OpOverload):
        return str(target)
    return getattr(target, "__name__", str(target))


def refuse_effects(program: ExportedProgram) -> None:
    """Ops with side effects, such as the checks of linear algebra, have no counterpart."""
    for node in program.graph.nodes:
        if node.target is with_effects:
            called = node.args[1]
            raise UnsupportedError(
                "op-unsupported",
                f"{called} cannot be lowered",
                where=line_of(node),
                why="it checks values while the model runs",
                next_step=_ANOTHER_WAY,
            )


def refuse_higher_order(program: ExportedProgram, known: frozenset[str]) -> None:
    """Control flow and other operators that hold graphs, but those that are `known` by name."""
    for node in program.graph.nodes:
        if isinstance(node.target, HigherOrderOperator) and node.target.name() not in known:
            raise UnsupportedError(
                "op-unsupported",
                f"{name_of(node)} cannot be lowered",
                where=line_of(node),
                why="it runs a part of the model that depends on values",
                next_step="compute both sides and choose with torch.where, or leave the loop "
                "or branch outside of the compiled model",
            )


def in_terms_of(program: ExportedProgram, refused: UnsupportedError) -> UnsupportedError:
    """
    A refusal by MLIR with the text of the user's line and what that line calls.

    Decompositions and torch-mlir's own passes fail at ops that the user never wrote.
    """
    nodes = [node for node in program.graph.nodes if isinstance(node.target, OpOverload)]
    there = [node for node in nodes if refused.where and _is_at(node, refused.where)]
    if not there:
        return refused
    names = list(dict.fromkeys(name_of(node) for node in there))
    failed = refused.what.split(" ")[0].removeprefix("torch.")
    why = refused.why
    if not why and not any(name.removesuffix(".default") == failed for name in names):
        why = f"the line calls {', '.join(names[:6])}{' …' if len(names) > 6 else ''}"
    return UnsupportedError(
        refused.code,
        refused.what,
        where=line_of(there[0]),
        why=why,
        next_step=refused.next_step,
    )


def _is_at(node: fx.Node, place: str) -> bool:
    line = line_of(node)
    return line == place or line.startswith(f"{place}:")
