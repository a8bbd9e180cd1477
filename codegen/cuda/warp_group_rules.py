"""
Rules for kernels of warp groups (sm_90a): a producer fetches, consumers decode and multiply.

The last warp group of a block fetches: one thread starts tensor copies of activations and bulk
copies of packets and scales into a ring of stages. `full` barriers count their bytes, `empty` ones
the warps that have read a stage. The other groups decode packets into registers, which are the
left operand, and multiply them by the activations in shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.formats.packets import PACKET_COLUMNS
from ...dialects.regions import walk
from ...dialects.tile.dialect import BANK_ROW, element_bytes, tensor_of
from ...dialects.tile.schedule import CONSUMER_REGISTERS, PRODUCER_REGISTERS
from .barrier_text import RING_BEGIN, declare_rings, ring
from .block_rules import Rule, tile_loop
from .copy_rules import declare_stage_tile, origins
from .kernel_text import KernelText
from .operand_rules import walk_block
from .printer import linear

RING_STATE = "int stage = 0, phase = 0;"
Bytes = int | tuple[int, str]
"""A number, or one times a name."""


def pipeline(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """The ring: its barriers, the producer, and what consumers do with a stage."""
    if not text.schedule.persistent:
        with _producer(text, op):
            _produce(text, op)
    _consume(text, op, rules)


def loop(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """
    The producer goes over the tiles, and so do the consumers.

    The ring goes on from tile to tile: the first stages of the next one are fetched while the
    consumers store results, which have shared memory of their own.
    """
    out, operations = text.out, list(op.body.operations)
    names = [each.operation.name for each in operations]
    ring = operations[names.index("tile.pipeline")]
    with _producer(text, ring):
        out.line(RING_STATE)
        with tile_loop(text, op):
            for each in operations[: names.index("tile.zeros")]:
                rules[each.operation.name](text, each)
            _produce(text, ring)
    out.line(RING_STATE)
    with tile_loop(text, op):
        for each in operations:
            rules[each.operation.name](text, each)


@contextmanager
def _producer(text: KernelText, op: Any) -> Iterator[None]:
    """Declares the ring; what is printed within is for the thread that fetches."""
    out, s = text.out, text.schedule
    for each in text.copies(op):
        declare_stage_tile(text, each)
    _declare_barriers(text)
    out.line()
    out.comment("The producer: one thread of the last warp group")
    with out.block(f"if (thread >= {s.workers})"):
        out.line(f"decrease_registers<{PRODUCER_REGISTERS}>();")
        with out.block(f"if (thread == {s.workers})"):
            yield
        out.line("return;")
    out.line(f"increase_registers<{CONSUMER_REGISTERS}>();")
    out.line()
    out.comment("The consumers: 16 channels of each warp, all tokens")


def _produce(text: KernelText, op: Any) -> None:
    text.names[op.body.blocks[0].arguments[0]] = "k"
    with _ring(text, op.step.value):
        text.out.line("mbarrier_wait(empty.at(stage), phase ^ 1);")
        fetch(text, text.copies(op))


def _consume(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    out, block = text.out, op.body.blocks[0]
    text.enter(op)
    for each in walk_block(block):
        if each.operation.name == "tile.zeros":
            rules["tile.zeros"](text, each)
    with _ring(text, op.step.value):
        out.line("mbarrier_wait(full.at(stage), phase);")
        for each in block.operations:
            if each.operation.name not in ("tile.copy", "tile.yield"):
                rules[each.operation.name](text, each)
        out.line("sync_warp();  // all lanes have read the stage")
        out.line("if (lane == 0) mbarrier_arrive(empty.at(stage));")


def _ring(text: KernelText, step: int) -> AbstractContextManager[None]:
    """The loop over the steps of K; of persistent blocks the ring goes on from tile to tile."""
    begin = "int k = first" if text.schedule.persistent else RING_BEGIN
    return ring(text.out, text.schedule.stages, step, begin)


def _declare_barriers(text: KernelText) -> None:
    out, s, plan = text.out, text.schedule, text.plan
    out.line()
    out.comment("Barriers of a stage: its bytes have arrived; all warps have read it")
    declare_rings(out, {"full": 1, "empty": s.warps}, plan.barriers, s.stages)


def fetch(text: KernelText, copies: list[Any]) -> None:
    """All copies of a stage; the barrier is told their bytes before."""
    texts = [_tensor_copy(text, each) if text.name(each.source) == "x"
             else _packet_copy(text, each) if len(tensor_of(each.tile.type).shape) == 3
             else _row_copy(text, each) for each in copies]  # fmt: skip
    if partial := next(filter(None, map(_packets_left, copies)), ""):
        text.out.line(f"const int packets = {partial};")
    bytes_ = linear(*(size for size, _ in texts))
    text.out.line(f"mbarrier_expect(full.at(stage), {bytes_});")
    for _, lines in texts:
        lines()


def _packets_left(copy: Any) -> str:
    """How many packets along K a step has, where the last one has fewer."""
    tile, source = tensor_of(copy.tile.type), tensor_of(copy.source.type)
    if len(tile.shape) != 3 or source.shape[1] % tile.shape[1] == 0:
        return ""
    return f"minimum({tile.shape[1]}, {source.shape[1]} - k / {PACKET_COLUMNS})"


def _tensor_copy(text: KernelText, op: Any) -> tuple[Bytes, Any]:
    """Boxes of 128 bytes of K by all tokens of the block; zeros outside of the tensor."""
    out, tile = text.out, tensor_of(op.tile.type)
    size = element_bytes(tile.element_type)
    width, boxes = BANK_ROW // size, tile.shape[1] * size // BANK_ROW
    row, column = origins(text, op)

    def lines() -> None:
        with out.loop("box", boxes) as box:
            to = f"{text.stage_tile(op.tile)}.at({linear((tile.shape[0] * width, box))})"
            at = linear(column, (width, box))
            out.line(f"load_tensor_2d({to}, x, full.at(stage), {at}, {row});")

    return prod(tile.shape) * size, lines


def _packet_copy(text: KernelText, op: Any) -> tuple[Bytes, Any]:
    """Packets of a strip lie one behind the other along K; the last strip again beyond it."""
    out, tile, source = text.out, tensor_of(op.tile.type), tensor_of(op.source.type)
    words, name = prod(tile.shape[1:]), text.name(op.source)
    row, column = origins(text, op)
    size, left = str(4 * words), bool(_packets_left(op))
    if left:
        size = linear((4 * tile.shape[2], "packets"))

    def lines() -> None:
        with out.loop("strip", tile.shape[0]) as strip:
            at = linear(row, strip)
            if source.shape[0] < tile.shape[0]:
                at = f"minimum({at}, {source.shape[0] - 1})"
            from_ = linear((prod(source.shape[1:]), f"s64({at})"), column)
            to = f"{text.stage_tile(op.tile)}.at({linear((words, strip))})"
            out.line(f"copy_bulk({to}, {name}.at({from_}), {size}, full.at(stage));")

    if left:
        return (4 * tile.shape[0] * tile.shape[2], "packets"), lines
    return 4 * tile.shape[0] * words, lines


def _row_copy(text: KernelText, op: Any) -> tuple[Bytes, Any]:
    """Numbers of the channels, a row for each group; the last one again where there is none."""
    out, tile, source = text.out, tensor_of(op.tile.type), tensor_of(op.source.type)
    size, name = element_bytes(tile.element_type), text.name(op.source)
    (rows, width), (count, pitch) = tile.shape, source.shape
    row, column = origins(text, op)
    bytes_ = size * min(width, pitch)

    def lines() -> None:
        with out.loop("row", rows) as each:
            at = linear(row, each)
            if at != "0" and _last_row(text, op) >= count:
                at = f"minimum({at}, {count - 1})"
            from_ = linear((pitch, f"s64({at})"), column)
            to = f"{text.stage_tile(op.tile)}.at({linear((width, each))})"
            out.line(f"copy_bulk({to}, {name}.at({from_}), {bytes_}, full.at(stage));")

    return rows * bytes_, lines


def _last_row(text: KernelText, op: Any) -> int:
    """The largest row that the last step of K asks for."""
    (range_,) = (each for each in walk(text.op) if each.operation.name == "tile.block_range")
    extent, step = range_.extent.value, range_.step.value
    first = -(-extent // step) * step - step
    divisor, *_ = ir.DenseI64ArrayAttr(op.divisors)
    return first // divisor + tensor_of(op.tile.type).shape[0] - 1
