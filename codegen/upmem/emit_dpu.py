"""Kernels of the pim dialect to C for DPUs, against the documented API (device/qcc_dpu.h)."""

from __future__ import annotations

from typing import Any

from ...dialects.bindings import ir
from ...dialects.pim.device import device
from ...dialects.pim.dialect import (
    element_bytes,
    element_of,
    elements,
    is_pim,
    scope_of,
    tensor_of,
)
from ...dialects.pim.kernel import argument_names, mram_bytes, wram_bytes
from ...dialects.regions import walk
from .dpu_program import DpuProgram, Memories
from .dpu_rules import C_TYPES, write_block
from .kernel_text import KernelText, uses
from .printer import Printer
from .words import name

OFFSETS = "mram_offsets"


def dpu_program(kernel: Any) -> DpuProgram:
    """The program of a `pim.kernel`: its C, and the memories of the device it was made for."""
    held = device(kernel.device.value)
    return DpuProgram(
        name=kernel.symbol.value,
        source=emit_dpu(kernel),
        tasklets=kernel.tasklets.value,
        stack_bytes=kernel.stack.value,
        memories=Memories(held.wram, held.mram, held.iram),
    )


def emit_dpu(kernel: Any) -> str:
    """The C of a `pim.kernel` with legal transfers; UnsupportedError where an op has no rule."""
    out = Printer()
    text = KernelText(out)
    _say_what(out, kernel)
    out.line("#include <qcc_dpu.h>")
    out.line()
    placed = _declare_arguments(text, kernel)
    private = _declare_buffers(text, kernel)
    if any(op.operation.name == "pim.barrier" for op in walk(kernel)):
        out.line("BARRIER_INIT(all_tasklets, NR_TASKLETS)")
        out.line()
    with text.scope("int main(void)"):
        own = text.fresh("tasklet")
        if private or any(op.operation.name == "pim.tasklet" for op in walk(kernel)):
            out.line(f"const uint32_t {own} = me();")
        if any(uses(argument) for _, argument in placed):
            _point_at_arrays(text, placed)
        for each, kind in private:
            out.line(f"{kind} *const {each} = {each}_of[tasklet];")
        write_block(text, kernel.body.blocks[0])
        out.line("return 0;")
    return out.text()


def _say_what(out: Printer, kernel: Any) -> None:
    tasklets = kernel.tasklets.value
    told = [
        f"{kernel.symbol.value}: {tasklets} tasklets of a DPU {kernel.device.value}, "
        f"{wram_bytes(kernel)} bytes of WRAM with stacks, {mram_bytes(kernel)} of MRAM.",
    ]
    if "note" in kernel.operation.attributes:
        told += ir.StringAttr(kernel.operation.attributes["note"]).value.splitlines()
    told.append(f"Built with -DNR_TASKLETS={tasklets} -DSTACK_SIZE_DEFAULT={kernel.stack.value}.")
    out.comment(*told)


def _declare_arguments(text: KernelText, kernel: Any) -> list[tuple[str, Any]]:
    """Words of the host, and where arrays begin; the names and values of pointers to them."""
    placed = []
    arguments = kernel.body.blocks[0].arguments
    for each, argument in zip(argument_names(kernel), arguments, strict=True):
        if is_pim(argument.type, "mram"):
            pointer = text.arrays[argument] = text.fresh(f"mram_{each}")
            placed.append((pointer, argument))
        else:
            text.out.line(f"__host uint32_t {text.fresh(each)};")
            text.words[argument] = name(each)
    if placed:
        text.out.comment("Where arrays begin, in bytes behind MRAM's heap pointer: multiples of 8.")
        names = ", ".join(pointer.removeprefix("mram_") for pointer, _ in placed)
        text.out.line(f"__host uint32_t {text.fresh(OFFSETS)}[{len(placed)}]; /* {names} */")
    text.out.line()
    return placed


def _point_at_arrays(text: KernelText, placed: list[tuple[str, Any]]) -> None:
    heap = text.fresh("heap")
    text.out.line(f"__mram_ptr uint8_t *const {heap} = DPU_MRAM_HEAP_POINTER;")
    for i, (pointer, argument) in enumerate(placed):
        if not uses(argument):
            continue
        type_ = argument.type
        kind, shape = C_TYPES[element_of(type_)], " x ".join(map(str, tensor_of(type_).shape))
        place = f"{heap} + {OFFSETS}[{i}]"
        cast = place if kind == "uint8_t" else f"(__mram_ptr {kind} *)({place})"
        text.out.line(f"__mram_ptr {kind} *const {pointer} = {cast}; /* {shape} */")


def _declare_buffers(text: KernelText, kernel: Any) -> list[tuple[str, str]]:
    """Buffers in WRAM that are used; the names and types of those that each tasklet has."""
    private = []
    for op in walk(kernel):
        if op.operation.name != "pim.wram_alloc" or not uses(op.buffer):
            continue
        type_, each = op.buffer.type, text.fresh(op.symbol.value)
        kind, count = C_TYPES[element_of(type_)], whole_units(type_)
        text.arrays[op.buffer] = each
        if scope_of(type_) == "private":
            private.append((each, kind))
            text.out.line(f"static __dma_aligned {kind} {each}_of[NR_TASKLETS][{count}];")
        else:
            text.out.line(f"static __dma_aligned {kind} {each}[{count}];")
    text.out.line()
    return private


def array_types(kernel: Any) -> dict[str, ir.Type]:
    """The arrays in MRAM by argument, in the order of their offsets."""
    arguments = kernel.body.blocks[0].arguments
    named = zip(argument_names(kernel), arguments, strict=True)
    return {each: argument.type for each, argument in named if is_pim(argument.type, "mram")}


def whole_units(type_: ir.Type) -> int:
    """Elements of an array, padded to what DMA moves."""
    width = element_bytes(type_)
    return -(-elements(type_) * width // 8) * 8 // width
