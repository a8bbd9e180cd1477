"""What a host must know of a `tile.warp_kernel` to launch it, and where its shared memory goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..bindings import ir
from ..formats import parse_spelling
from ..regions import walk
from .decode_program import TABLE_STRIDE, DecodeProgram
from .decode_rules import decode_program
from .dialect import tensor_of
from .warp_memory import shared_need


@dataclass(frozen=True)
class WarpLaunch:
    """
    One kernel: `arguments` by name in order, `warps`, dynamic shared memory.

    `tables` is what arguments of that name hold, u32.
    """

    kernel: str
    target: str
    arguments: tuple[str, ...]
    writes: tuple[str, ...]
    warps: int
    shared_bytes: int
    tables: dict[str, tuple[int, ...]]

    @staticmethod
    def of(kernel: Any) -> WarpLaunch:
        names = argument_names(kernel)
        tables = {}
        for op in unpacks(kernel):
            if op.table is not None:
                argument = op.table.owner.operands[0]
                given = list(kernel.body.blocks[0].arguments)
                tables[names[given.index(argument)]] = program_of(op).table
        return WarpLaunch(
            kernel.symbol.value,
            kernel.target.value,
            names,
            tuple(ir.StringAttr(name).value for name in kernel.writes),
            kernel.warps.value,
            table_offset(kernel) + sum(len(table) << TABLE_STRIDE for table in tables.values()),
            tables,
        )

    @property
    def threads(self) -> int:
        return 32 * self.warps


def argument_names(kernel: Any) -> tuple[str, ...]:
    return tuple(ir.StringAttr(name).value for name in kernel.arguments)


def unpacks(kernel: Any) -> list[Any]:
    return [op for op in walk(kernel) if op.operation.name == "tile.unpack"]


def program_of(unpack: Any) -> DecodeProgram:
    operand = str(tensor_of(unpack.fragment.type).element_type)
    return decode_program(parse_spelling(unpack.format.value), operand)


def table_offset(kernel: Any) -> int:
    """Where tables begin in shared memory: behind stages and reductions."""
    return -(-shared_need(kernel) // 128) * 128
