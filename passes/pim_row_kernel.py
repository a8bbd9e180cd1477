"""
Kernels of functions of rows (dialects/pim/row_functions.py): softmax, and norms.

    Softmax or Norm of `columns` numbers, rows of a DPU
      =>  pim.kernel: results[row] = function(inputs[row])

Tasklets take rows in turn, or parts of one row (pim_row_sweeps.py); tables are loaded once and
shared. Exact: equals the function's meaning in NumPy.
"""

from __future__ import annotations

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.device import Device
from ..dialects.pim.dialect import mram_of, wram_of
from ..dialects.pim.row_functions import INDEX_BITS, Norm, Softmax
from .legalize_dma import legalize_dma
from .pim_fixed_point import Halfword, Normalized, called, cell_value, half_of, shifted_right
from .pim_row_sweeps import SQUARED, SUMMED, RowShare, RowSweeps
from .pim_writer import Words, Writer, number


def pim_row_kernel(share: RowShare, device: Device, name: str) -> pim.KernelOp:
    """Write `pim.kernel @name` of arrays base, slope, inputs and results."""
    function, rows = share.function, share.rows
    cells = sum(len(each.base) for each in function.tables)
    arrays = {
        "base": ([cells], "si16"), "slope": ([cells], "si8"),
        "inputs": ([rows, function.widths[0]], function.kinds[0]),
        "results": ([rows, function.widths[1]], function.kinds[1]),
    }  # fmt: skip
    kernel = pim.KernelOp(
        ir.StringAttr.get(name), ir.StringAttr.get(device.spelling), number(share.tasklets),
        number(device.stack), ir.ArrayAttr.get([ir.StringAttr.get(each) for each in arrays]),
    )  # fmt: skip
    kinds = [mram_of(shape, element) for shape, element in arrays.values()]
    with ir.InsertionPoint(kernel.body.blocks.append(*kinds)):
        given = zip(arrays, kernel.body.blocks[0].arguments, strict=True)
        _write(Writer(arrays=dict(given)), share, cells)
        pim.ReturnOp()
    legalize_dma(kernel.operation)
    return kernel


def _write(out: Writer, share: RowShare, cells: int) -> None:
    for name, (extent, element, scope) in share.buffers.items():
        kind = wram_of([extent], element, scope)
        out.buffers[name] = pim.WramAllocOp(ir.StringAttr.get(name), kind).buffer
    me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index
    rows = RowSweeps(out, share, me)

    def load(_: ir.Value, __: Words) -> None:
        out.copy_in("base", 0, "base", 0, cells, "tables, once")
        out.copy_in("slope", 0, "slope", 0, cells)

    out.loop("first", me, 1, load, step=share.tasklets)
    pim.BarrierOp()
    write = _softmax if isinstance(share.function, Softmax) else _norm

    def row(index: ir.Value, _: Words) -> None:
        write(rows, index)

    first, step = (0, 1) if share.together else (me, share.tasklets)
    out.loop("row", first, share.rows, row, step=step)


# ---- softmax


def _softmax(rows: RowSweeps, row: ir.Value) -> None:
    out, function = rows.out, rows.share.function
    assert isinstance(function, Softmax)
    rows.begin(row)

    def larger(i: ir.Value, tops: Words) -> Words:
        return [arith.maxui(tops[0], called(out.load("numbers", i), "number"))]

    note = "the largest number"
    (top,) = rows.sweep(
        row, lambda n, tops: rows.each(n, larger, tops, note), {"top": out.word(0)}, note,
        join=arith.maxui,
    )  # fmt: skip

    def power(i: ir.Value, totals: Words) -> Words:
        down = called(arith.subi(top, out.load("numbers", i)), "down")
        inside = called(arith.andi(down, out.word((1 << function.BITS) - 1)), "inside")
        value = out.shifted(cell_value(out, function.power, inside), function.guard)
        places = called(shifted_right(out, down, function.BITS), "places")
        value = called(arith.shrui(value, arith.minui(places, out.word(31))), "power")
        out.store(value, "numbers", i)
        return [out.add(totals[0], value)]

    note = "powers of 2 by a table, and their sum"
    (total,) = rows.sweep(
        row, lambda n, totals: rows.each(n, power, totals, note), {"total": out.word(0)}, note,
        changes=True,
    )  # fmt: skip
    found = Normalized.of(total)
    index = called(found.mantissa(out, INDEX_BITS), "mantissa")
    factor = cell_value(out, function.reciprocal, index, len(function.power.base))
    shift = called(found.bit(out, -function.guard), "shift")
    rows.scaled(row, called(factor, "factor"), shift, function.guard)


# ---- norms


def _norm(rows: RowSweeps, row: ir.Value) -> None:
    out, function = rows.out, rows.share.function
    assert isinstance(function, Norm)
    rows.begin(row)
    word = _row_word(rows, row)
    middle, data = _middle(rows, row, function)
    least = out.word(function.LEAST_ROW)
    place = called(arith.maxui(called(out.add(word, data), "wanted"), least), "place")
    high, low = _squares(rows, row, middle, called(arith.subi(place, word), "shift"))
    down = arith.minui(called(out.shifted(arith.subi(place, least), 1), "down"), out.word(31))
    epsilon = arith.shrui(out.word(function.added), down)
    high = out.add(out.add(high, shifted_right(out, low, 16)), epsilon)
    low = shifted_right(out, arith.andi(low, out.word(0xFFFF)), function.dropped)
    total = called(out.add(out.shifted(high, 16 - function.dropped), low), "total")
    found = Normalized.of(called(arith.maxui(total, out.word(1)), "positive"))
    exponent = called(found.bit(out, function.dropped), "exponent")
    odd = out.shifted(arith.andi(exponent, out.word(1)), INDEX_BITS - 1)
    index = called(out.add(odd, found.mantissa(out, INDEX_BITS - 1)), "index")
    factor = called(cell_value(out, function.root, index), "factor")
    rows.scaled(row, factor, called(shifted_right(out, exponent, 1), "root_shift"))


def _row_word(rows: RowSweeps, row: ir.Value) -> ir.Value:
    """The exponent that the host put behind the row."""
    out, columns, width = rows.out, rows.share.function.columns, rows.share.function.widths[0]
    if "ends" not in out.buffers:
        return called(out.load("numbers", columns), "row_exponent")
    start = out.add(out.times(row, width), columns - columns % 2)
    out.copy_in("inputs", start, "ends", 0, 2, "what stands behind the row")
    return called(out.load("ends", columns % 2), "row_exponent")


def _middle(rows: RowSweeps, row: ir.Value, function: Norm) -> tuple[ir.Value, ir.Value]:
    """What is taken from numbers, and how far the rest is shifted to have VALUE_BITS."""
    out = rows.out
    if not function.centred:
        spare = function.CODE_BITS - function.VALUE_BITS
        return out.word(1 << function.CODE_BITS), out.word(spare)
    mean = _mean(rows, row)

    def gather(i: ir.Value, wide: Words) -> Words:
        far = called(arith.subi(out.load("numbers", i), mean), "far")
        return [arith.ori(wide[0], arith.xori(far, arith.shrsi(far, out.word(31))))]

    note = "the bits of distances from the mean"
    (wide,) = rows.sweep(
        row, lambda n, wide: rows.each(n, gather, wide, note), {"wide": out.word(1)}, note,
        join=arith.ori,
    )  # fmt: skip
    bits = called(Normalized.of(wide).bit(out, 1), "bits")
    least = out.word(function.VALUE_BITS)
    return mean, arith.subi(arith.maxui(bits, least), least)


def _mean(rows: RowSweeps, row: ir.Value) -> ir.Value:
    """The sum, and half of the count, over the count: 48 bits by two quotients."""
    out, columns = rows.out, rows.share.function.columns
    count, note = out.word(columns), "the sum, in two words"
    high, low = rows.sweep(
        row,
        lambda n, sums: rows.long_sum(n, SUMMED, lambda i: out.load("numbers", i), sums, note),
        {"high": out.word(0), "low": out.word(0)}, note,
    )  # fmt: skip
    low = called(out.add(low, columns // 2), "rounded_low")
    high = called(out.add(high, shifted_right(out, low, 16)), "sum_high")
    upper = called(arith.divui(high, count), "mean_high")
    rest = arith.subi(high, arith.muli(upper, count))
    lower = out.add(out.shifted(rest, 16), arith.andi(low, out.word(0xFFFF)))
    return called(out.add(out.shifted(upper, 16), arith.divui(lower, count)), "mean")


def _squares(rows: RowSweeps, row: ir.Value, middle: ir.Value, shift: ir.Value) -> Words:
    """The sum of squares, high and low word; numbers become distances, shifted and rounded."""
    out = rows.out
    origin = called(arith.subi(middle, half_of(out, shift, "half")), "origin")

    def square(i: ir.Value) -> ir.Value:
        far = arith.subi(out.load("numbers", i), origin)
        value = called(arith.shrsi(far, shift), "value")
        out.store(value, "numbers", i)
        return Halfword.of(out, value).squared(out)

    note = "the sum of squares, in two words"
    return rows.sweep(
        row, lambda n, sums: rows.long_sum(n, SQUARED, square, sums, note),
        {"squares_high": out.word(0), "squares_low": out.word(0)}, note, changes=True,
    )  # fmt: skip
