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
from ...dialects.pim.kernel import argument_names, mram_bytes, walk, wram_bytes
from .dpu_program import DpuProgram, Memories
from .dpu_rules import C_TYPES, write_block
from .kernel_text import KernelText, uses
from .printer import Printer
from .words import name


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
    _declare_arguments(text, kernel)
    private = _declare_buffers(text, kernel)
    if any(op.operation.name == "pim.barrier" for op in walk(kernel.body)):
        out.line("BARRIER_INIT(all_tasklets, NR_TASKLETS)")
        out.line()
    with text.scope("int main(void)"):
        own = text.fresh("tasklet")
        if private or any(op.operation.name == "pim.tasklet" for op in walk(kernel.body)):
            out.line(f"const uint32_t {own} = me();")
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
        told.append(ir.StringAttr(kernel.operation.attributes["note"]).value)
    told.append(f"Built with -DNR_TASKLETS={tasklets} -DSTACK_SIZE_DEFAULT={kernel.stack.value}.")
    out.comment(*told)


def _declare_arguments(text: KernelText, kernel: Any) -> None:
    """Arrays in MRAM and words of the host, under the names that the host asks for."""
    arguments = kernel.body.blocks[0].arguments
    for each, argument in zip(argument_names(kernel), arguments, strict=True):
        if not is_pim(argument.type, "mram"):
            text.out.line(f"__host uint32_t {text.fresh(each)};")
            text.words[argument] = name(each)
            continue
        kind, count = C_TYPES[element_of(argument.type)], whole_units(argument.type)
        shape = " x ".join(map(str, tensor_of(argument.type).shape))
        text.out.line(
            f"__mram_noinit {kind} {text.fresh(array_name(each))}[{count}]; /* {shape} */"
        )
        text.arrays[argument] = array_name(each)
    text.out.line()


def _declare_buffers(text: KernelText, kernel: Any) -> list[tuple[str, str]]:
    """Buffers in WRAM that are used; the names and types of those that each tasklet has."""
    private = []
    for op in walk(kernel.body):
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


def array_name(argument: str) -> str:
    """The symbol of an array in MRAM; buffers have the names of what they hold of it."""
    return f"mram_{argument}"


def whole_units(type_: ir.Type) -> int:
    """Elements of an array, padded to what DMA moves."""
    width = element_bytes(type_)
    return -(-elements(type_) * width // 8) * 8 // width
