"""
The kernel of an integer matrix product on one DPU, of a problem and a schedule.

    Share(problem, schedule)  =>  pim.kernel @name { … }

Buffers and arrays are those of dialects/pim/footprint.py; each method has a file of its own.
Transfers are written as copies; `legalize-dma` makes requests of the hardware of them.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dialects import pim
from ..dialects.bindings import ir
from ..dialects.pim.device import Device
from ..dialects.pim.dialect import mram_of, wram_of
from ..dialects.pim.footprint import arrays, buffers
from ..dialects.pim.fused import FusedFunction, fused_arrays
from ..dialects.pim.schedule import Share
from .legalize_dma import legalize_dma
from .pim_epilogue import write_epilogue
from .pim_fly_kernel import write_fly
from .pim_multiply_kernel import write_multiply
from .pim_table_kernel import write_tables
from .pim_writer import Writer, annotate, number

BODIES: dict[str, Callable[[Writer, Share], None]] = {
    "multiply": write_multiply,
    "packed": write_tables,
    "canonical": write_tables,
    "fly": write_fly,
    "lanes": write_fly,
}


def pim_kernel(
    share: Share, device: Device, name: str, function: FusedFunction | None = None
) -> pim.KernelOp:
    """
    Write `pim.kernel @name`, with legal DMA, at the insertion point; a function of its results is
    computed behind a barrier, of sums in an array of their own.
    """
    given = fused_arrays(share, function) if function else arrays(share)
    names = ir.ArrayAttr.get([ir.StringAttr.get(each) for each in given])
    kernel = pim.KernelOp(
        ir.StringAttr.get(name), ir.StringAttr.get(device.spelling),
        number(share.schedule.tasklets), number(device.stack), names,
    )  # fmt: skip
    annotate(kernel, said_of(share))
    kinds = [mram_of(list(shape), element) for shape, element in given.values()]
    block = kernel.body.blocks.append(*kinds)
    with ir.InsertionPoint(block):
        named: dict[str, ir.Value] = dict(zip(given, block.arguments, strict=True))
        writer = Writer(arrays=named | ({"results": named["sums"]} if function else {}))
        for each, (shape, element, scope) in buffers(share).items():
            kind = wram_of(list(shape), element, scope)
            writer.buffers[each] = pim.WramAllocOp(ir.StringAttr.get(each), kind).buffer
        BODIES[share.schedule.method](writer, share)
        if function:
            write_epilogue(Writer(arrays=named), share, function)
        pim.ReturnOp()
    legalize_dma(kernel.operation)
    return kernel


def said_of(share: Share) -> str:
    """What a kernel computes and how, for the reader of its C."""
    s, bits = share.schedule, share.tables.weight_bits
    lines = ["results[n, m] = sum over k of W(w[m, k]) A(a[n, k]), on each DPU of",
             f"{share.rows} rows x {share.k} inputs x {share.tokens} tokens."]  # fmt: skip
    return "\n".join([*lines, METHODS[s.method].format(p=s.p, bits=bits), *LANES[s.lanes]])


MADE = (
    "A table for each group of {p} inputs, made here: entry r is the sum of the\n"
    "inputs, each times one of the {p} weights of {bits} bits that are packed in r."
)
METHODS = {
    "multiply": "Four codes a word, a product of bytes a slot.",
    "packed": "table[{p} packed inputs][{p} packed weights]; places are the former.",
    "canonical": "LoCaLUT, {p} codes a group: table[column of the sorted inputs][weights in\n"
    "their order], reorder[permutation][weights as stored]; places are both numbers.",
    "fly": MADE,
    "lanes": MADE,
}
LANES: dict[int, tuple[str, ...]] = {
    1: (),
    2: ("A word holds two tokens, a_0 + 2^16 a_1, so that a sum of words is both sums.",),
    4: ("A word holds four tokens, a_0 + 2^8 a_2 + 2^16 a_1 + 2^24 a_3.",),
}
