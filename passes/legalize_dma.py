"""
Copies between MRAM and WRAM become requests that the DMA engine takes.

    pim.copy_in, pim.copy_out, pim.slice_load  =>  pim.dma_in, pim.dma_out

A request has 8 to 2,048 bytes, in multiples of 8. Longer copies are split; where one ends inside a
unit, the unit is moved whole: arrays and buffers are padded to whole units, so what comes with it
is padding, or elements that the same loop moves again.
"""

from __future__ import annotations

from typing import Any

from ..dialects import pim
from ..dialects.bindings import Operation, arith, ir
from ..dialects.errors import UnsupportedError
from ..dialects.pim.device import DMA_MOST, DMA_UNIT
from ..dialects.pim.dialect import element_bytes, tensor_of
from ..dialects.pim.facts import divisor
from ..dialects.regions import walk

Requests = list[tuple[int, int]]


def legalize_dma(module: Operation, _: object = None) -> None:
    for op in walk(module):
        name = op.operation.name
        if name == "pim.slice_load":
            _load_slice(op)
        elif name in ("pim.copy_in", "pim.copy_out"):
            _copy(op)


def requests(count: int, width: int) -> Requests:
    """
    (first, count) of each request for a copy of `count` elements of `width` bytes.

    >>> requests(3000, 1), requests(5, 2)
    ([(0, 2048), (2048, 952)], [(0, 8)])
    """
    whole = -(-count * width // DMA_UNIT) * DMA_UNIT
    starts = range(0, whole, DMA_MOST)
    return [(at // width, min(DMA_MOST, whole - at) // width) for at in starts]


def _load_slice(op: Any) -> None:
    rows = tensor_of(op.table.type).shape[1]
    with ir.InsertionPoint(op), op.location:
        offset = arith.muli(op.column, _word(rows))
        _write(op, op.table, offset, rows, inward=True)
    op.operation.erase()


def _copy(op: Any) -> None:
    inward = op.operation.name == "pim.copy_in"
    array = op.source if inward else op.target
    with ir.InsertionPoint(op), op.location:
        _write(op, array, op.offset, op.count.value, inward=inward)
    op.operation.erase()


def _write(op: Any, array: ir.Value, offset: ir.Value, count: int, *, inward: bool) -> None:
    width = element_bytes(array.type)
    for place in (offset, op.at):
        if divisor(place) * width % DMA_UNIT:
            raise UnsupportedError(
                "pim-dma-unaligned",
                f"a copy of {count} elements of {width} bytes is not aligned to {DMA_UNIT} bytes",
                where=str(op.location),
                next_step="pad the rows of the array to whole units",
            )
    for first, size in requests(count, width):
        source, at = _shifted(offset, first), _shifted(op.at, first)
        amount = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), size)
        made = (
            pim.DmaInOp(array, source, op.buffer, at, amount)
            if inward
            else pim.DmaOutOp(op.buffer, at, array, source, amount)
        )
        if "note" in op.operation.attributes and first == 0:
            made.operation.attributes["note"] = op.operation.attributes["note"]


def _shifted(value: ir.Value, by: int) -> ir.Value:
    return arith.addi(value, _word(by)) if by else value


def _word(value: int) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(32), value)
