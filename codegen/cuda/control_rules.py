"""Rules for kernels, pipelines and steps: who computes what, and when."""

from __future__ import annotations

from typing import Any

from ...dialects.formats.packets import PACKET_COLUMNS
from ...dialects.tile.block_work import SHARED_TILES
from ...dialects.tile.control import shared_copies
from ...dialects.tile.dialect import is_tile, tensor_of
from .block_rules import Rule, tiles_of_tokens
from .copy_rules import copy_into_stage, declare_places, declare_stage_tile
from .kernel_text import KernelText, Walk, c_type
from .operand_rules import declare_lane_offset, unit_columns
from .packet_rules import load_words
from .printer import linear

WRITTEN = ("y", "workspace", "arrivals")


def signature(text: KernelText) -> list[str]:
    """The parameters of the kernel."""
    parameters = []
    for argument in text.op.body.blocks[0].arguments:
        name = text.name(argument)
        if not is_tile(argument.type, "global"):
            parameters.append(f"int {name}")
            continue
        if name in text.maps:
            parameters.append(f"const __grid_constant__ TensorMap {name}")
            continue
        const = "" if name in WRITTEN else "const "
        kind = c_type(tensor_of(argument.type).element_type)
        parameters.append(f"{const}{kind}* {name}_pointer")
    return parameters


def declare_views(text: KernelText) -> None:
    """A checked view for each tensor; scratch memory only where blocks share K."""
    out, s = text.out, text.schedule
    shares = s.splits > 1 or s.stream_k
    for argument in text.op.body.blocks[0].arguments:
        name = text.name(argument)
        scratch = name in ("workspace", "arrivals")
        if not is_tile(argument.type, "global") or (scratch and not shares) or name in text.maps:
            continue
        const = "" if name in WRITTEN else "const "
        kind = c_type(tensor_of(argument.type).element_type)
        count = _scratch_count(text, name) if scratch else " * ".join(text.extents(argument))
        if "tokens" in count:
            count = count.replace("tokens", "s64(tokens)")
        out.line(f"const Global<{const}{kind}> {name}({name}_pointer, {count});")


def _scratch_count(text: KernelText, name: str) -> str:
    s = text.schedule
    words = s.channels * s.padded_tokens
    if s.stream_k:
        tiles, blocks = f"({tiles_of_tokens(text)}) * {text.strips}", "gridDim.x"
        return tiles if name == "arrivals" else f"s64({blocks}) * {SHARED_TILES * words}"
    tiles = "gridDim.x * gridDim.y"
    return tiles if name == "arrivals" else f"s64({tiles}) * {s.splits * words}"


def pipeline(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """Fetch `stages - 1` steps ahead; one barrier a step both publishes and frees a stage."""
    out, stages, step = text.out, op.stages.value, op.step.value
    block, copies = op.body.blocks[0], text.enter(op)
    for each in copies:
        declare_stage_tile(text, each)
        declare_places(text, each)
    out.line()
    out.comment("Starts the copies of the step at k into a stage")
    with out.block("const auto fetch = [&](int stage, int k)", "};"):
        for each in copies:
            copy_into_stage(text, each)
    out.line()
    declare_lane_offset(text, block)
    ahead = stages - 1
    out.line("#pragma unroll")
    with out.block(f"for (int stage = 0; stage < {ahead}; ++stage)"):
        out.line(f"if (first + {step} * stage < last) fetch(stage, first + {step} * stage);")
        out.line("commit_copies();")
    with out.block(f"for (int k = first, stage = 0; k < last; k += {step})"):
        out.line(f"wait_copies<{ahead - 1}>();  // this thread's part of the stage has arrived")
        out.line("sync_threads();  // everybody's has, and the stage before is free again")
        later = f"k + {step * ahead}"
        out.line(f"if ({later} < last) fetch(stage == 0 ? {ahead} : stage - 1, {later});")
        out.line("commit_copies();")
        for each in block.operations:
            if each.operation.name not in ("tile.copy", "tile.yield"):
                rules[each.operation.name](text, each)
        out.line(f"stage = stage == {ahead} ? 0 : stage + 1;")
    out.line("wait_copies<0>();")


def steps(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """
    A warp's packets, their chunks; in a chunk, units are decoded and steps multiplied.

    What decode programs make at once may be more steps than share a scale, or fewer.
    """
    out, s = text.out, text.schedule
    block = op.body.blocks[0]
    k, carried = block.arguments
    chunk, packets = op.step.value, op.step.value * op.count.value // PACKET_COLUMNS
    text.names[carried] = text.names[op.result] = text.name(op.initial)
    text.names[k] = "column"
    levels = _by_level(block)
    decoded = levels["unit"][0]
    walk = Walk(chunk, unit_columns(text.program(decoded)), s.record.k)
    out.comment(f"{packets} packets of {PACKET_COLUMNS} columns" + _in_turn(s.warps_k))
    start = "warp_k" if s.warps_k > 1 else "0"
    with out.loop("packet", packets, start, s.warps_k) as walk.packet:
        text.walk = walk
        _stop_at_end(text, decoded, packets)
        if not s.streams:
            load_words(text, decoded)
        with out.loop("chunk", PACKET_COLUMNS // chunk) as walk.chunk:
            _print_all(text, levels["before"], rules)
            with out.loop("unit", walk.units) as walk.unit:
                _print_all(text, levels["unit"], rules)
                _multiply(text, levels, rules)
            if s.groups and levels["after"]:
                out.line("wgmma_wait<0>();")
            _print_all(text, levels["after"], rules)
    if s.groups and not levels["after"]:
        out.line("wgmma_wait<0>();")


def _stop_at_end(text: KernelText, decode: Any, packets: int) -> None:
    """The last step may have fewer packets, of which copies bring no more (warp groups)."""
    if not text.schedule.groups:
        return
    (copy,) = (op for op in shared_copies(text.op) if op.tile == decode.codes)
    stored = tensor_of(copy.source.type).shape[1]
    if stored % packets:
        at = linear("k", (PACKET_COLUMNS, text.walk.packet))
        text.out.line(f"if ({at} >= {PACKET_COLUMNS * stored}) break;")


def _multiply(text: KernelText, levels: dict[str, list[Any]], rules: dict[str, Rule]) -> None:
    """The steps of a unit; warp groups multiply all tokens at once, and go on meanwhile."""
    out, s, walk = text.out, text.schedule, text.walk
    if s.groups:
        out.line("wgmma_fence();")
    with out.loop("step", walk.steps) as walk.step:
        _print_all(text, levels["step"], rules)
        tokens = 1 if s.groups else s.columns
        with out.loop("token", tokens, step=text.columns_at_once) as walk.token:
            _print_all(text, levels["token"], rules)
    if s.groups:
        out.line("wgmma_commit();")


LEVELS = {
    "tile.zeros": "before", "tile.decode": "unit", "tile.load": "token", "tile.mma": "token",
    "tile.mma_scaled": "token",
}  # fmt: skip


def _by_level(block: Any) -> dict[str, list[Any]]:
    """Which loop each op of a chunk belongs to; within one, they keep their order."""
    groups: dict[str, list[Any]] = {
        name: [] for name in ("before", "unit", "step", "token", "after")
    }
    for op in block.operations:
        name = op.operation.name
        if name == "tile.load_scales":
            groups["step" if op.side.value == "a" else "token"].append(op)
        elif name != "tile.yield":
            groups[LEVELS.get(name, "after")].append(op)
    return groups


def _print_all(text: KernelText, operations: list[Any], rules: dict[str, Rule]) -> None:
    for op in operations:
        rules[op.operation.name](text, op)


def _in_turn(warps_k: int) -> str:
    return f", of which this warp takes every {warps_k}th" if warps_k > 1 else ""
