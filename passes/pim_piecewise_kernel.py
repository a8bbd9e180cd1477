"""
The kernel of a function of 16-bit numbers by cells (dialects/pim/piecewise.py).

    Cells, count
      =>  pim.kernel: results[i] = base[x >> bits] + (slope[x >> bits] · (x mod 2^bits) >> shift),
                     x = inputs[i]

Tasklets take blocks of numbers in turn. Tables are loaded once and shared. Exact: equals `Cells`.
"""

from __future__ import annotations

from ..dialects import pim
from ..dialects.bindings import ir
from ..dialects.errors import UsageError
from ..dialects.pim.device import Device
from ..dialects.pim.dialect import mram_of, wram_of
from ..dialects.pim.piecewise import Cells
from .legalize_dma import legalize_dma
from .pim_fixed_point import cell_value
from .pim_writer import Words, Writer, number, unrolled

BLOCK = 256
"""Numbers of one request of DMA, by default."""


def pim_piecewise_kernel(
    cells: Cells,
    count: int,
    device: Device,
    name: str,
    tasklets: int = 16,
    block: int = BLOCK,
) -> pim.KernelOp:
    """
    Write `pim.kernel @name`, of `count` numbers in arrays inputs and results, tables base and
    slope; `block` numbers are one request of DMA.
    """
    if count % block:
        raise UsageError(
            "pim-piecewise", f"{count} numbers are no blocks of {block}", next_step="pad them"
        )
    size = len(cells.base)
    arrays = {"base": (size, "si16"), "slope": (-(-size // 8) * 8, "si8"),
              "inputs": (count, "si16"), "results": (count, "si16")}  # fmt: skip
    names = ir.ArrayAttr.get([ir.StringAttr.get(each) for each in arrays])
    kernel = pim.KernelOp(
        ir.StringAttr.get(name), ir.StringAttr.get(device.spelling), number(tasklets),
        number(device.stack), names,
    )  # fmt: skip
    kinds = [mram_of([extent], element) for extent, element in arrays.values()]
    with ir.InsertionPoint(kernel.body.blocks.append(*kinds)):
        given = zip(arrays, kernel.body.blocks[0].arguments, strict=True)
        _write(Writer(arrays=dict(given)), cells, arrays, tasklets, block)
        pim.ReturnOp()
    legalize_dma(kernel.operation)
    return kernel


def _write(
    out: Writer, cells: Cells, arrays: dict[str, tuple[int, str]], tasklets: int, size: int
) -> None:
    for name, scope in (("base", "shared"), ("slope", "shared"), ("numbers", "private")):
        extent, element = arrays.get(name, (size, "si16"))
        kind = wram_of([-(-extent // 4) * 4], element, scope)
        out.buffers[name] = pim.WramAllocOp(ir.StringAttr.get(name), kind).buffer
    me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index

    def load(_: ir.Value, __: Words) -> None:
        for name in ("base", "slope"):
            out.copy_in(name, 0, name, 0, arrays[name][0], f"the table {name}, once")

    out.loop("first", me, 1, load, step=tasklets)
    pim.BarrierOp()

    def block(index: ir.Value, _: Words) -> None:
        at = out.times(index, size)
        out.copy_in("inputs", at, "numbers", 0, size)
        out.loop("i", 0, size, lambda i, _: _evaluate(out, cells, i), unroll=unrolled(size, 8))
        out.copy_out("numbers", 0, "results", at, size)

    out.loop("block", me, arrays["inputs"][0] // size, block, step=tasklets)


def _evaluate(out: Writer, cells: Cells, i: ir.Value) -> None:
    x = out.load("numbers", i)
    out.store(cell_value(out, cells, x), "numbers", i)
