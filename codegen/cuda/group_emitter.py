"""What the CUDA text of all fused groups has in common: parameters, views, wide accesses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import PurePath
from typing import Any

from ...dialects.bindings import ir
from ...dialects.regions import walk
from ...dialects.source_line import source_line
from ...dialects.tile.group import GroupSchedule, group_extents
from ...dialects.tile.group_op import outputs_of
from ...dialects.tile.index import Index, Size, delinearized, linearized
from .group_scope import Names, Scope
from .group_text import GroupText, kind_of_element
from .printer import Printer
from .scalar_rules import stored_type

RESERVED = ("row", "rows", "column", "part", "lane", "warp", "index", "i", "chunk", "inside")
SOURCE_LINES = 4


class GroupEmitter(ABC):
    """One kernel; how a block shares its work is in the subclasses."""

    def __init__(self, op: Any) -> None:
        self.op, self.schedule = op, GroupSchedule.of(op.schedule)
        self.extents = group_extents(op)
        self.names = Names(RESERVED)
        self.text = GroupText(self.extents, self.schedule.vector, self.names)
        block = op.body.blocks[0]
        self.outputs = outputs_of(op)
        self.inputs = [v for v in block.arguments if isinstance(v.type, ir.RankedTensorType)]
        for value, name in zip(block.arguments, op.arguments, strict=True):
            self.text.arguments[value] = self.names.fresh(ir.StringAttr(name).value)
        self.views = [self.names.fresh("y") for _ in self.outputs]

    @abstractmethod
    def _body(self) -> None:
        """Write what a thread does into `text`."""

    @abstractmethod
    def _share(self) -> str:
        """What a block computes, for the comment above the kernel."""

    def print(self, out: Printer) -> None:
        name = ir.StringAttr(self.op.symbol).value
        self._body()
        self._say_what(out)
        out.line(f'extern "C" __global__ void __launch_bounds__({self.schedule.threads})')
        *others, last = self._parameters()
        out.line(f"{name}(")
        for parameter in others:
            out.line(f"    {parameter},")
        with out.block(f"    {last})"):
            self._views(out)
            self.text.scopes.chain[0].print(out)
        out.line(f"QCC_KERNEL({name})")

    def _parameters(self) -> list[str]:
        found, sizes = [], []
        for value, name in self.text.arguments.items():
            if isinstance(value.type, ir.RankedTensorType):
                found.append(f"const {stored_type(kind_of_element(value))}* {name}_pointer")
            else:
                sizes.append(f"int {name}")
        for view, output in zip(self.views, self.outputs, strict=True):
            found.append(f"{stored_type(kind_of_element(output))}* {view}_pointer")
        return found + sizes

    def _views(self, out: Printer) -> None:
        for value in self.inputs:
            name, kind = self.text.arguments[value], stored_type(kind_of_element(value))
            count = _count(self.extents.of(value))
            out.line(f"const Global<const {kind}> {name}({name}_pointer, {count});")
        for view, output in zip(self.views, self.outputs, strict=True):
            kind, count = stored_type(kind_of_element(output)), _count(self.extents.of(output))
            out.line(f"const Global<{kind}> {view}({view}_pointer, {count});")

    def _say_what(self, out: Printer) -> None:
        ops = dict.fromkeys(_label(op) for op in walk(self.op) if _label(op))
        out.comment(f"Fused: {', '.join(ops) or 'a copy'}")
        lines = dict.fromkeys(source_line(op.location) for op in self.op.body.blocks[0].operations)
        # Names without folders: the same model gives the same text wherever it lies.
        known = [PurePath(line).name for line in lines if line and "loc(" not in line]
        if known:
            more = " …" if len(known) > SOURCE_LINES else ""
            out.comment(f"From {', '.join(known[:SOURCE_LINES])}{more}")
        out.comment(f"A block: {self._share()}")

    def _store(self, output: ir.Value, view: str, at: Index, row: tuple[Index, ...]) -> None:
        """Element `at` of a row, or of all elements."""
        sizes = self.extents.of(output)
        place = (*row, *delinearized(at, sizes[len(row) :]))
        self.text.store(view, self.text.value(output, place), linearized(place, sizes))

    @contextmanager
    def _lane_loop(self):
        """Over the elements of an access; what moves several of them follows the loop."""
        text, v = self.text, self.schedule.vector
        with ExitStack() as stack:
            if v > 1:
                header = (
                    f"for (int {text.lane.name} = 0; {text.lane.name} < {v}; ++{text.lane.name})"
                )
                stack.enter_context(text.scopes.open(Scope(header, "#pragma unroll")))
                text.depths[text.lane] = text.scopes.depth
            yield
        for line in text.pending:
            text.scopes.line(line)
        text.pending.clear()


def times(factor: int, text: str) -> str:
    return text if factor == 1 or text == "0" else f"{factor} * {text}"


def _count(extents: Sequence[Index]) -> str:
    """The number of elements, in 64 bits."""
    known, names = 1, []
    for extent in extents:
        if extent.constant is not None:
            known *= extent.constant
        else:
            match extent.atom:
                case Size(name):
                    names.append(name)
                case _:
                    names.append(f"({extent})")
    if not names:
        return str(known)
    first, *rest = names
    return " * ".join([f"s64({first})", *rest, *([str(known)] if known != 1 else [])])


def _label(op: Any) -> str:
    """What is worth naming of an op."""
    name = op.operation.name
    if name.startswith(("math.", "arith.")):
        return "" if name in ("arith.constant", "arith.index_cast") else name.split(".")[1]
    if name in ("tensor.concat", "tensor.pad", "tensor.extract", "tensor.insert_slice"):
        return name.split(".")[1]
    return ""
