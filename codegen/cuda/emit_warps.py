"""Warp kernels to CUDA C++: attention, products of two activations, and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.decode_program import TABLE_STRIDE
from ...dialects.tile.dialect import is_tile, tensor_of
from ...dialects.tile.warp_launch import unpacks
from ...dialects.tile.warp_memory import COMMENT
from .decode_text import decode_function
from .emit import PRELUDE
from .kernel_text import Functions, c_type
from .printer import Printer
from .unpack_rules import by_column, decoder
from .warp_memory_rules import written
from .warp_rules import apply_rule
from .warp_text import WarpText


def emit_warps(kernels: Sequence[Any]) -> str:
    """One translation unit of `tile.warp_kernel` ops; decode functions are written once."""
    out, functions, done = Printer(), Functions(), set[str]()
    out.line(PRELUDE)
    out.line()
    out.line("namespace qcc {")
    for kernel in kernels:
        for op in unpacks(kernel):
            text = WarpText.of(Printer(), functions, kernel, apply_rule)
            name = decoder(text, op)
            if name not in done:
                out.line()
                decode_function(out, text.program(op), name, by_column(op))
                done.add(name)
        out.line()
        text = WarpText.of(Printer(), functions, kernel, apply_rule)
        _kernel(text)
        for line in text.out.text().splitlines():
            out.line(line)
    out.line()
    out.line("}  // namespace qcc")
    return out.text()


def _kernel(text: WarpText) -> None:
    out, name = text.out, ir.StringAttr(text.op.symbol).value
    if COMMENT in text.op.attributes:
        for line in ir.StringAttr(text.op.attributes[COMMENT]).value.splitlines():
            out.comment(line)
    out.line(f'extern "C" __global__ void __launch_bounds__({text.threads}, 1)')
    parameters = _parameters(text)
    out.line(f"{name}(")
    for parameter in parameters[:-1]:
        out.line(f"    {parameter},")
    with out.block(f"    {parameters[-1]})"):
        out.line("const int thread = threadIdx.x, lane = thread % 32;")
        _fill_tables(text)
        text.run(text.op.body.blocks[0])
    out.line(f"QCC_KERNEL({name})")


def _parameters(text: WarpText) -> list[str]:
    writes, parameters = written(text), []
    for argument in text.op.body.blocks[0].arguments:
        name = text.name(argument)
        if not is_tile(argument.type, "global"):
            parameters.append(f"int {name}")
            continue
        const = "" if argument in writes else "const "
        parameters.append(f"{const}{c_type(tensor_of(argument.type).element_type)}* {name}")
    return parameters


def _fill_tables(text: WarpText) -> None:
    """A copy of each table in every bank; the first barrier of the loop publishes it."""
    for name, count in _table_sizes(text).items():
        place, entries = text.tables[name], count << (TABLE_STRIDE - 2)
        text.out.comment(f"The values of codes, {count} entries, a copy in each bank")
        text.out.line(f"const Global<const u32> {name}_entries({name}_pointer, {count});")
        text.out.line(f"const Shared<u32> {name}_copies({place}, {entries});")
        with text.out.block(f"for (int i = thread; i < {entries}; i += {text.threads})"):
            text.out.line(f"{name}_copies.store(i, {name}_entries.load(i / 32));")
        inside = f"{place} + 4 * lane, {4 * entries} - 4 * lane"
        text.out.line(f"const Shared<u8> {name}_of_lane({inside});")


def _table_sizes(text: WarpText) -> dict[str, int]:
    return {
        text.name(op.table.owner.operands[0]).removesuffix("_pointer"): len(text.program(op).table)
        for op in unpacks(text.op)
        if op.table is not None
    }
