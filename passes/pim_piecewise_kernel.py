"""
The kernel of a function of 16-bit numbers by cells (dialects/pim/piecewise.py).

    Cells, count
      =>  pim.kernel: y[i] = base[x[i] >> bits] + (slope[x[i] >> bits] · (x[i] mod 2^bits) >> shift)

Tasklets take blocks of numbers in turn. Tables are loaded once and shared. Exact: equals `Cells`.
"""

from __future__ import annotations

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.errors import UsageError
from ..dialects.pim.device import Device
from ..dialects.pim.dialect import mram_of, wram_of
from ..dialects.pim.piecewise import Cells
from .legalize_dma import legalize_dma
from .pim_writer import Words, Writer, number, unrolled

BLOCK = 256
"""Numbers of one request of DMA."""


def pim_piecewise_kernel(
    cells: Cells, count: int, device: Device, name: str, tasklets: int = 16
) -> pim.KernelOp:
    """Write `pim.kernel @name`, of `count` numbers in arrays x and y, tables base and slope."""
    if count % BLOCK:
        raise UsageError(
            "pim-piecewise", f"{count} numbers are no blocks of {BLOCK}", next_step="pad them"
        )
    size = len(cells.base)
    arrays = {"base": (size, "si16"), "slope": (-(-size // 8) * 8, "si8"), "x": (count, "si16"),
              "y": (count, "si16")}  # fmt: skip
    names = ir.ArrayAttr.get([ir.StringAttr.get(each) for each in arrays])
    kernel = pim.KernelOp(
        ir.StringAttr.get(name), ir.StringAttr.get(device.spelling), number(tasklets),
        number(device.stack), names,
    )  # fmt: skip
    kinds = [mram_of([extent], element) for extent, element in arrays.values()]
    with ir.InsertionPoint(kernel.body.blocks.append(*kinds)):
        given = zip(arrays, kernel.body.blocks[0].arguments, strict=True)
        _write(Writer(arrays=dict(given)), cells, arrays, tasklets)
        pim.ReturnOp()
    legalize_dma(kernel.operation)
    return kernel


def _write(out: Writer, cells: Cells, arrays: dict[str, tuple[int, str]], tasklets: int) -> None:
    for name, scope in (("base", "shared"), ("slope", "shared"), ("numbers", "private")):
        extent, element = arrays.get(name, (BLOCK, "si16"))
        kind = wram_of([-(-extent // 4) * 4], element, scope)
        out.buffers[name] = pim.WramAllocOp(ir.StringAttr.get(name), kind).buffer
    me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index

    def load(_: ir.Value, __: Words) -> None:
        for name in ("base", "slope"):
            out.copy_in(name, 0, name, 0, arrays[name][0], f"the table {name}, once")

    out.loop("first", me, 1, load, step=tasklets)
    pim.BarrierOp()

    def block(index: ir.Value, _: Words) -> None:
        at = out.times(index, BLOCK)
        out.copy_in("x", at, "numbers", 0, BLOCK)
        out.loop("i", 0, BLOCK, lambda i, _: _evaluate(out, cells, i), unroll=unrolled(BLOCK, 8))
        out.copy_out("numbers", 0, "y", at, BLOCK)

    out.loop("block", me, arrays["x"][0] // BLOCK, block, step=tasklets)


def _evaluate(out: Writer, cells: Cells, i: ir.Value) -> None:
    x = out.load("numbers", i)
    cell = arith.shrui(x, out.word(cells.bits))
    inside = arith.andi(x, out.word((1 << cells.bits) - 1))
    low = ir.StringAttr.get("low")
    product = pim.Mul8Op(out.load("slope", cell), inside, low, low, x.type).result
    if cells.shift:
        product = arith.shrsi(product, out.word(cells.shift))
    out.store(out.add(out.load("base", cell), product), "numbers", i)
