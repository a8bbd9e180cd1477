"""
Rules for kernels whose sums are in tensor memory (sm_100a): one thread fetches, two warp groups
make operands, one thread multiplies, and the groups take the sums.

Of each stage, `full` counts the bytes of its copies, `ready` the warps that have made operands and
scales of them (tensor_operand_rules.py), `empty` the end of the products, and where sums of groups
are rescaled also the warps that have done so. Those sums have two sets of columns: while one is
multiplied into (`made` is signalled at the end), the other is rescaled (then `taken` is).
"""

from __future__ import annotations

from typing import Any

from ...dialects.bindings import ir
from ...dialects.regions import walk
from ...dialects.tile.dialect import BARRIER_BYTES, note_of, tensor_of
from ...dialects.tile.schedule import (
    TENSOR_CONSUMER_REGISTERS,
    TENSOR_PRODUCER_REGISTERS,
)
from .barrier_text import RING_BEGIN, ring
from .control_rules import Rule
from .copy_rules import declare_stage_tile
from .kernel_text import KernelText, c_type
from .printer import linear
from .tensor_operand_rules import declare_operands, fetch_scales_ahead, make_operands
from .tensor_product_rules import buffer_of, loads_of, multiply_all
from .warp_group_rules import fetch


def allocate(text: KernelText, op: Any) -> None:
    """By the first warp; the address is read after the barrier that publishes it."""
    out, s, columns = text.out, text.schedule, op.columns.value
    place = text.plan.barriers + BARRIER_BYTES * (3 * s.stages + 5)
    out.line()
    out.comment(f"{columns} columns of tensor memory")
    out.line(f"const Shared<u32> tensor_address({place}, 1);")
    with out.block("if (warp == 0)"):
        out.line(f"tensor_allocate(tensor_address, {columns});")
        out.line("tensor_relinquish();")
    text.names[op.memory] = "tensor"


def view(text: KernelText, op: Any) -> None:
    """A name for its first column; declared behind the barrier, by `pipeline`."""
    if note_of(op.piece.type) == "sums":
        text.names[op.piece] = text.out.fresh("sums")
        return
    (copy,) = (use.owner for use in op.piece.uses)
    source: Any = copy.operands[0].owner
    tile = source.operands[0]
    name = text.name(tile if isinstance(tile.owner, ir.Block) else tile.owner.operands[0])
    text.names[op.piece] = f"{name}_columns"


def release(text: KernelText, op: Any) -> None:
    """All warps have what they wanted."""
    columns = op.memory.owner.attributes["columns"].value
    text.out.line("tensor_fence_before();")
    text.out.line(text.sync)
    with text.out.block("if (warp == 0)"):
        text.out.line("tensor_fence_after();")
        text.out.line(f"tensor_release(tensor, {columns});")


def load_sums(text: KernelText, op: Any) -> None:
    """The sums of all of K."""
    out = text.out
    name = text.names[op.fragment] = "total"
    out.line("mbarrier_wait(done, 0);")
    out.line("tensor_fence_after();")
    _load(text, op, name, text.name(op.piece))


def _load(text: KernelText, op: Any, name: str, piece: str) -> None:
    kind = c_type(tensor_of(op.fragment.type).element_type)
    text.out.line(f"{kind} {name}{text.declared_sums()};")
    text.out.line(f"tensor_load({name}, {piece} + (16 * warp_n << 16));")


def pipeline(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """The ring: its barriers, the thread that fetches, the one that multiplies, the others."""
    out, s, step = text.out, text.schedule, op.step.value
    block, copies = op.body.blocks[0], text.enter(op)
    (steps,) = (each for each in block.operations if each.operation.name == "tile.steps")
    for each in copies:
        declare_stage_tile(text, each)
    declare_operands(text, steps)
    _declare_barriers(text, steps)
    out.line()
    with out.block(f"if (thread >= {s.workers})"):
        out.line(f"decrease_registers<{TENSOR_PRODUCER_REGISTERS}>();")
        out.comment("The producer: one thread of the last warp group")
        with out.block(f"if (thread == {s.workers})"), ring(out, s.stages, step):
            out.line("mbarrier_wait(empty.at(stage), phase ^ 1);")
            fetch(text, copies)
        out.comment("One thread of another warp multiplies")
        with out.block(f"if (thread == {s.workers + 32})"):
            multiply_all(text, steps, step)
        out.line("return;")
    out.line(f"increase_registers<{TENSOR_CONSUMER_REGISTERS}>();")
    out.line()
    _work(text, steps, step, rules)


def _work(text: KernelText, steps: Any, step: int, rules: dict[str, Rule]) -> None:
    """What the warp groups do with each stage."""
    out, rescaled = text.out, loads_of(steps)
    out.comment("The warp groups: operands of what has arrived, 16 channels of each warp")
    if rescaled:
        _declare_take(text, steps, rules)
        out.line("int k = first, stage = 0, phase = 0, step = 0;")
    fetch_scales_ahead(text, steps)
    with ring(out, text.schedule.stages, step, "" if rescaled else RING_BEGIN):
        out.line("mbarrier_wait(full.at(stage), phase);")
        make_operands(text, steps, rules)
        out.line("fence_async_proxy();")
        out.line("sync_warp();  // all lanes have made their part")
        out.line("if (lane == 0) mbarrier_arrive(ready.at(stage));")
        if rescaled:
            out.line(f"if (step > 0) take(k - {step}, {_before(text)}, step - 1);")
            out.line("++step;")
    if rescaled:
        out.line(f"take(k - {step}, {_before(text)}, step - 1);")


def _before(text: KernelText) -> str:
    return f"stage == 0 ? {text.schedule.stages - 1} : stage - 1"


def _declare_take(text: KernelText, steps: Any, rules: dict[str, Rule]) -> None:
    """Rescales what a step made of each group, chunk by chunk."""
    out, block = text.out, steps.body.blocks[0]
    text.names[block.arguments[0]] = "column"
    text.names[block.arguments[1]] = text.names[steps.result] = text.name(steps.initial)
    out.comment("Adds the sums that step `step` made of its groups, each times its scale")
    with out.block("const auto take = [&](int k, int stage, int step)", "};"):
        out.line("mbarrier_wait(made.at(step & 1), step >> 1 & 1);")
        out.line("tensor_fence_after();")
        count, chunk = steps.count.value, steps.step.value
        with out.loop("chunk", count) as index:
            for op in block.operations:
                if op.operation.name == "tile.tmem_load":
                    name = text.names[op.fragment] = out.fresh("part")
                    _load(text, op, name, buffer_of(text, op.piece.owner, count, index, "step & 1"))
                elif op.operation.name == "tile.rescale":
                    text.walk.chunk, text.walk.packet = index, "0"
                    text.walk.chunk_columns = chunk
                    rules["tile.rescale"](text, op)
        out.line("tensor_fence_before();")
        out.line("sync_warp();")
        with out.block("if (lane == 0)"):
            out.line("mbarrier_arrive(taken.at(step & 1));")
            out.line("mbarrier_arrive(empty.at(stage));")


def _declare_barriers(text: KernelText, steps: Any) -> None:
    out, s, plan = text.out, text.schedule, text.plan
    rescaled = bool(loads_of(steps))
    ends = ("made", "taken") if rescaled else ("done",)
    names = {"full": s.stages, "ready": s.stages, "empty": s.stages}
    names |= {"made": 2, "taken": 2} if rescaled else {"done": 1}
    arrivals = {"full": 1, "ready": s.warps, "empty": 1 + s.warps * rescaled}
    arrivals |= {"made": 1, "taken": s.warps, "done": 1}
    out.line()
    out.comment("Barriers of a stage: its bytes have arrived; operands are made; it is free again")
    place = plan.barriers
    for name, count in names.items():
        if name == ends[0]:
            out.comment("Sums of a step are made, and taken" if rescaled else "All sums are made")
        out.line(f"const Shared<u64> {name}({place}, {count});")
        place += BARRIER_BYTES * count
    with out.block("if (thread == 0)"):
        with out.loop("stage", s.stages) as stage:
            for name in ("full", "ready", "empty"):
                out.line(f"mbarrier_init({name}.at({stage}), {arrivals[name]});")
        for name in ends:
            for index in range(names[name]):
                out.line(f"mbarrier_init({name}.at({index}), {arrivals[name]});")
        out.line("fence_mbarrier_init();")
    out.line("tensor_fence_before();")
    out.line("sync_threads();")
    out.line("tensor_fence_after();")
    out.line("const u32 tensor = tensor_address.load(0);")
    for op in walk(text.op):
        if op.operation.name == "tile.tmem_view":
            at = linear("tensor", op.column.value)
            out.line(f"const u32 {text.name(op.piece)} = {at};")
