"""Kernels of fused linalg and tensor ops, and how they divide their work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..bindings import ir
from ..errors import UnsupportedError
from ..source_line import source_line
from .dialect import element_bytes
from .elements import element
from .extents import DYNAMIC, Extents
from .hardware import machine
from .index import Index, Size

WARP = 32
WIDEST_ACCESS = 16  # bytes


@dataclass(frozen=True, slots=True)
class GroupSchedule:
    """
    Who computes which elements.

    With `row_axes` < 0 each thread computes `vector` neighbours of the outputs, and reductions
    one after another. Else the first `row_axes` axes of the outputs are rows, the others columns:
    `lanes` threads share a row, `vector` neighbouring columns at a time, and combine what they
    reduced. With `cached` a thread keeps its columns in registers from one reduction to the next,
    in place of reading or computing them again.
    """

    threads: int
    vector: int = 1
    row_axes: int = -1
    lanes: int = 1
    cached: bool = False

    @property
    def by_rows(self) -> bool:
        return self.row_axes >= 0

    @property
    def per_block(self) -> int:
        """Rows of a block, or its elements."""
        return self.threads // self.lanes if self.by_rows else self.threads * self.vector

    def shared_bytes(self, totals: int) -> int:
        """Where warps share a row, each leaves a word of every total for the others."""
        return 4 * totals * (self.lanes // WARP) if self.lanes > WARP else 0

    def attribute(self) -> ir.DictAttr:
        number = ir.IntegerType.get_signless(64)
        return ir.DictAttr.get(
            {name: ir.IntegerAttr.get(number, int(value)) for name, value in asdict(self).items()}
        )

    @staticmethod
    def of(attribute: Any) -> GroupSchedule:
        given = {each.name: ir.IntegerAttr(each.attr).value for each in ir.DictAttr(attribute)}
        return GroupSchedule(**{**given, "cached": bool(given["cached"])})


def illegal(schedule: GroupSchedule, target: str) -> list[str]:
    """Reasons against a schedule, whatever the group."""
    reasons = []
    most = machine(target).threads_per_block
    for name, value, limit in (
        ("threads", schedule.threads, most),
        ("lanes", schedule.lanes, schedule.threads),
        ("vector", schedule.vector, WIDEST_ACCESS),
    ):
        if value < 1 or value & (value - 1) or value > limit:
            reasons.append(f"{name} = {value} is no power of two up to {limit}")
    if schedule.threads % WARP:
        reasons.append(f"{schedule.threads} threads are no whole warps")
    if schedule.lanes > WARP and schedule.lanes != schedule.threads:
        reasons.append(f"{schedule.lanes} lanes share a row, but {schedule.threads} a block")
    return reasons


def group_extents(op: Any) -> Extents:
    """Extents of the tensors in a `tile.group`, in sizes that are named as its arguments are."""
    block = op.body.blocks[0]
    names = [ir.StringAttr(name).value for name in op.arguments]
    arguments = dict(zip(block.arguments, names, strict=True))
    shapes = dict(zip(block.arguments, op.extents, strict=True))
    sizes = [n for v, n in arguments.items() if isinstance(v.type, ir.IndexType)]

    def leaf(value: ir.Value, axis: int | None) -> Index:
        if axis is None:
            if value in arguments:
                return Index.of(Size(arguments[value]))
            raise _refused(op, f"{value} is no size")
        if value not in shapes:
            raise _refused(op, f"the extent {axis} of {value} is not known")
        extent = list(ir.DenseI64ArrayAttr(shapes[value]))[axis]
        return Index.of(extent) if extent >= 0 else Index.of(Size(sizes[-1 - extent]))

    return Extents(leaf)


def is_computed(value: ir.Value, extents: Extents) -> bool:
    """Whether the kernel computes elements of a tensor, in place of loading them."""
    rank = ir.RankedTensorType(value.type).rank
    return element(value, (Index.of(0),) * rank, extents) is not None


def stored_bytes(type_: ir.Type) -> int:
    """Of an element in memory; truth values have a byte."""
    if isinstance(type_, ir.IntegerType):
        return max(1, type_.width // 8)
    return 8 if str(type_) in ("f64", "index") else element_bytes(type_)


def is_static(extents: Sequence[Index]) -> bool:
    return all(extent.constant is not None for extent in extents)


def _refused(op: Any, why: str) -> UnsupportedError:
    return UnsupportedError(
        "cuda-sizes",
        "no kernel for an op whose sizes a kernel cannot follow",
        where=source_line(op.location),
        why=why,
        next_step="make the sizes numbers, sizes of inputs, or sums and products of them",
    )


__all__ = ["DYNAMIC", "GroupSchedule", "group_extents", "illegal", "is_computed", "stored_bytes"]
