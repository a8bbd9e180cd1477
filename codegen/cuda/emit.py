"""Kernels over tiles to CUDA C++: one rule for each op, in the order a kernel meets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.tile.decode_program import TABLE_STRIDE
from ...dialects.tile.schedule import STREAMING_BLOCKS, Schedule
from . import block_rules, stream_rules, tensor_rules, warp_group_rules
from .block_rules import Rule, declare_place
from .combine_rules import combine
from .control_rules import declare_views, pipeline, signature, steps
from .decode_text import decode_function
from .epilogue_rules import map_, store
from .kernel_text import Functions, KernelText
from .operand_rules import decode, load, mma, rescale, zeros
from .printer import Printer, divided
from .scale_rules import load_scales, mma_scaled

PRELUDE = '#include "qcc_cuda.cuh"'


class Rules(dict[str, Rule]):
    """Rules by op; one that is missing is an error that names it."""

    def __missing__(self, name: str) -> Rule:
        raise UnsupportedError(
            "cuda-no-rule", f"cuda: no rule for {name}", next_step="report the kernel's IR"
        )


def pipeline_of(schedule: Schedule) -> Callable[[KernelText, Any, dict[str, Rule]], None]:
    """Who fetches, and where to: each family of schedules has its way."""
    if schedule.record.in_tensor_memory:
        return tensor_rules.pipeline
    if schedule.groups:
        return warp_group_rules.pipeline
    return stream_rules.pipeline if schedule.streams else pipeline


def loop_of(schedule: Schedule) -> Callable[[KernelText, Any, dict[str, Rule]], None]:
    """Where others fetch than multiply, both go over the tiles."""
    return warp_group_rules.loop if schedule.groups else block_rules.loop


RULES = Rules(
    {
        "tile.block_tiles": block_rules.block_tiles,
        "scf.for": lambda text, op: loop_of(text.schedule)(text, op, RULES),
        "scf.yield": lambda text, op: None,
        "tile.block_offset": block_rules.block_offset,
        "tile.block_range": block_rules.block_range,
        "tile.zeros": zeros,
        "tile.copy": stream_rules.copy,
        "tile.pipeline": lambda text, op: pipeline_of(text.schedule)(text, op, RULES),
        "tile.steps": lambda text, op: steps(text, op, RULES),
        "tile.load": load,
        "tile.decode": decode,
        "tile.mma": mma,
        "tile.load_scales": load_scales,
        "tile.mma_scaled": mma_scaled,
        "tile.rescale": rescale,
        "tile.tmem_allocate": tensor_rules.allocate,
        "tile.tmem_view": tensor_rules.view,
        "tile.tmem_load": tensor_rules.load_sums,
        "tile.tmem_release": tensor_rules.release,
        "tile.combine": combine,
        "tile.map": map_,
        "tile.store": store,
        "tile.return": lambda text, op: None,
    }
)


def emit_source(kernels: Sequence[Any]) -> str:
    """One translation unit of `tile.kernel` ops; decode functions are written once."""
    out = Printer()
    out.line(PRELUDE)
    out.line()
    out.line("namespace qcc {")
    functions, written = Functions(), set[str]()
    for kernel in kernels:
        text = KernelText.of(Printer(), functions, kernel)
        for name, program in text.programs.items():
            if name not in written:
                out.line()
                decode_function(out, program, name)
                written.add(name)
        out.line()
        emit_kernel(text)
        for line in text.out.text().splitlines():
            out.line(line)
    out.line()
    out.line("}  // namespace qcc")
    return out.text()


def emit_kernel(text: KernelText) -> None:
    out, s = text.out, text.schedule
    name = ir.StringAttr(text.op.symbol).value
    _say_what(text)
    parameters = signature(text)
    bounds = str(s.threads) + _blocks(text)
    out.line(f'extern "C" __global__ void __launch_bounds__({bounds})')
    *others, last = parameters
    out.line(f"{name}(")
    for parameter in others:
        out.line(f"    {parameter},")
    with out.block(f"    {last})"):
        declare_views(text)
        _who_am_i(text)
        _fill_table(text)
        declare_place(text)
        for op in text.op.body.blocks[0].operations:
            RULES[op.operation.name](text, op)
    out.line(f"QCC_KERNEL({name})")


def _blocks(text: KernelText) -> str:
    """
    How many blocks a multiprocessor shall hold, where ptxas has to know.

    Its own choice of registers spills a few where entries of tables wait for a zero point, or for
    their turn in shared memory; elsewhere it is the better one.
    """
    if text.schedule.streams or text.schedule.persistent > 1:
        return f", {STREAMING_BLOCKS if text.schedule.streams else text.schedule.persistent}"
    wait = any(
        program.table or (program.rule == "table" and program.offsets)
        for program in text.programs.values()
    )
    return ", 1" if text.schedule.groups or wait else ""


def _say_what(text: KernelText) -> None:
    out, s = text.out, text.schedule
    (decoded, *_) = text.decodes
    out.comment(f"y[tokens, n] = x[tokens, k] · w[n, k], w in {decoded.format.value}")
    held = f"{s.stages} stages of {text.plan.stage_bytes} bytes"
    if s.streams:
        held = f"{s.stages} packets ahead of each warp"
    out.comment(f"A block: {s.channels} channels x {s.tokens} tokens, K in steps of {s.depth}, "
                f"{held}")  # fmt: skip
    if s.persistent:
        out.comment("Blocks are as many as run at once, and loop over tiles"
                    + ("; they share the steps of all tiles evenly" * s.stream_k))  # fmt: skip
    shared = f"; {s.splits} blocks share K" if s.splits > 1 else ""
    if s.record.in_tensor_memory:
        out.comment(f"Its warp groups: {s.groups} that make operands and take sums, one of which "
                    f"a thread fetches and a thread multiplies{shared}")  # fmt: skip
        return
    if s.groups:
        out.comment(f"Its warp groups: {s.groups} of 64 channels each, one that fetches{shared}")
        return
    out.comment(f"Its warps: {s.warps_n} along channels, {s.warps_m} along tokens, "
                f"{s.warps_k} along K{shared}")  # fmt: skip


def _who_am_i(text: KernelText) -> None:
    out, s = text.out, text.schedule
    out.line("const int thread = threadIdx.x, lane = thread % 32;")
    if s.warps_n * s.warps_m * s.warps_k > 1:
        out.line("const int warp = thread / 32;")
    if s.record.in_tensor_memory:
        out.comment("A warp may read a quarter of the lanes of tensor memory, a row of sums each")
        out.line("const int warp_n = warp % 4 * 2 + warp / 4;")
    elif s.warps_n > 1:
        out.line(f"const int warp_n = warp % {s.warps_n};")
    if s.warps_m > 1:
        out.line(f"const int warp_m = warp / {s.warps_n} % {s.warps_m};")
    if s.warps_k > 1:
        out.line(f"const int warp_k = {divided('warp', s.warps_n * s.warps_m)};")
    first = f"{16 * s.strips} * warp_n + " if s.warps_n > 1 else ""
    out.line(
        f"const int channel = {first}lane / 4;  // of the first row that this lane accumulates"
    )


def _fill_table(text: KernelText) -> None:
    """A copy of the table in every bank; the first barrier of the pipeline publishes it."""
    tables = {op.table for op in text.decodes if op.table is not None}
    for table in tables:
        out, count = text.out, text.static_size(table)
        entries = count << (TABLE_STRIDE - 2)
        name = text.name(table)
        out.line()
        out.comment(f"The values of codes, {count} entries, a copy in each bank of shared memory")
        out.line(f"const Shared<u32> copies({text.plan.table}, {entries});")
        with out.block(f"for (int i = thread; i < {entries // 4}; i += {text.schedule.threads})"):
            out.line(f"const u32 entry = {name}.load(i / 8);")
            out.line("copies.store<16>(4 * i, {entry, entry, entry, entry});")
        place = f"{text.plan.table} + 4 * lane, {4 * entries} - 4 * lane"
        out.line(f"const Shared<u8> table_of_lane({place});")
