"""Rules for loops of warp kernels: written out, plain, or pipelines of copies."""

from __future__ import annotations

from typing import Any

from ...dialects.bindings import ir
from ...dialects.regions import walk
from ...dialects.tile.dialect import note_of
from ...dialects.tile.fragments import INSTRUCTIONS
from ...dialects.tile.warp_memory import (
    BOXES,
    UNROLLED,
    barriers_place,
    copies_of,
    is_bulk,
    placed_bytes,
    stages_of,
    tile_bytes,
)
from . import image_rules, product_rules
from . import warp_memory_rules as memory
from .barrier_text import declare_rings, ring
from .printer import linear
from .warp_numbers import number
from .warp_text import Shape, WarpText, over


def loop(text: WarpText, op: Any) -> None:
    """`scf.for`, written out, plain, or as a pipeline of copies."""
    block = op.body
    k, *carried = block.arguments
    for argument, initial, result in zip(carried, op.initArgs, op.results, strict=True):
        text.names[argument] = text.names[result] = text.name(initial)
    first, last, step = (text.name(each) for each in (op.lowerBound, op.upperBound, op.step))
    if UNROLLED in op.operation.attributes:
        with text.out.loop(text.label(op, "k"), int(last), step=int(step)) as text.names[k]:
            _once(text, block, carried)
        return
    copies = copies_of(op)
    if not copies:
        name = text.names[k] = text.label(op, "k")
        with text.out.block(f"for (int {name} = {first}; {name} < {last}; {name} += {step})"):
            _once(text, block, carried)
        return
    _pipelined(text, op, copies, first, last, int(step))


def _pipelined(
    text: WarpText, op: Any, copies: list[Any], first: str, last: str, step: int
) -> None:
    """Fetch `stages - 1` steps ahead; one barrier a step both publishes and frees a stage."""
    out, stages, block = text.out, stages_of(op), op.body
    ahead, bulk = stages - 1, [each for each in copies if is_bulk(each)]
    out.line()
    _declare(text, op, copies, bulk)
    _declare_fetch(text, block, copies, bulk)
    out.line()
    out.line("#pragma unroll")
    with out.block(f"for (int stage = 0; stage < {ahead}; ++stage)"):
        at = linear(first, (step, "stage"))
        out.line(f"if ({at} < {last}) fetch(stage, {at});")
        out.line("commit_copies();")
    out.line("#pragma unroll 1")
    phase = ", phase = 0" if bulk else ""
    with ring(out, stages, step, f"int k = {first}, stage = 0{phase}", last, bool(bulk)):
        out.line(f"wait_copies<{ahead - 1}>();  // this thread's part of the stage has arrived")
        if any(note_of(each.tile.type) == BOXES for each in copies):
            out.line("fence_async_proxy();")
        if bulk:
            out.line("mbarrier_wait(full.at(stage), phase);  // so have rows copied by hardware")
        out.line("sync_threads();  // everybody's has, and the stage before is free again")
        text.stage, text.awaits_products = "stage", not _only_added_up(op)
        _turn(text, block, (f"k + {step * ahead}", last, ahead))
        text.awaits_products = True
    out.line("wait_copies<0>();")


def _turn(text: WarpText, block: Any, later: tuple[str, str, int]) -> None:
    """One step, and the fetch of a later one: first, or while warp groups multiply."""
    out, (at, last, ahead) = text.out, later
    fetch = (f"if ({at} < {last}) fetch(stage == 0 ? {ahead} : stage - 1, {at});",
             "commit_copies();")  # fmt: skip
    carried = list(block.arguments)[1:]
    if text.awaits_products:
        for line in fetch:
            out.line(line)
        _once(text, block, carried)
        return
    _once(text, block, carried)
    for line in (*fetch, "wgmma_wait<0>();"):
        out.line(line)


def _declare(text: WarpText, op: Any, copies: list[Any], bulk: list[Any]) -> None:
    for each in copies:
        memory.declare_tile(text, each)
        if each.operation.name == "tile.patches":
            image_rules.declare_pixels(text, each)
    for each in walk(op):
        if each.operation.name == "tile.windows":
            product_rules.declare_windows(text, each)
    if bulk:
        text.out.comment("Barriers of a stage: the bytes of rows that hardware copies")
        place = placed_bytes(text.op) + barriers_place(op)
        declare_rings(text.out, {"full": 1}, place, stages_of(op))


def _declare_fetch(text: WarpText, block: Any, copies: list[Any], bulk: list[Any]) -> None:
    out = text.out
    text.names[block.arguments[0]] = "k"
    out.comment("Starts the copies of the step at k into a stage")
    with out.block("const auto fetch = [&](int stage, int k)", "};"):
        for each in _needed(block, copies):
            number(text, each)
        if bulk:
            with out.block("if (thread == 0)"):
                bytes_ = sum(tile_bytes(each.tile.type) for each in bulk)
                out.line(f"mbarrier_expect(full.at(stage), {bytes_});")
                for each in bulk:
                    memory.bulk_rows(text, each)
            out.line("sync_warp();  // warp groups multiply and wait as whole warps")
        for each in copies:
            if each not in bulk:
                COPIES[each.operation.name](text, each)


def _only_added_up(loop: Any) -> bool:
    """
    Whether nothing in a round reads the sums of its warp groups: they multiply on while the threads
    fetch a later step.
    """
    products = [op for op in walk(loop) if op.operation.name == "tile.multiply"]
    return bool(products) and all(
        INSTRUCTIONS[op.instruction.value].of_warp_group
        and all(use.owner.name in ("tile.multiply", "scf.yield") for use in op.result.uses)
        for op in products
    )


def _needed(block: Any, copies: list[Any]) -> list[Any]:
    """The ops of a loop's body that what its copies are fetched by follows from, in order."""
    wanted = {value for op in copies for value in op.operation.operands}
    found = []
    for op in reversed(list(block.operations)):
        if any(result in wanted for result in op.operation.results):
            found.append(op)
            wanted |= set(op.operation.operands)
    return found[::-1]


def _once(text: WarpText, block: Any, carried: list[ir.Value]) -> None:
    """The body, and what it hands on moved to where the next round finds it."""
    for argument, value in zip(carried, text.run(block), strict=True):
        if text.name(argument) == text.name(value):
            continue
        with over(text, Shape.of(value.type)) as place:
            text.out.line(f"{text.name(argument)}{place.of} = {text.name(value)}{place.of};")


COPIES = {"tile.rows": memory.rows, "tile.patches": image_rules.patches}
