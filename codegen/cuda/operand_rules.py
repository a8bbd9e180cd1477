"""Rules for what one warp computes: operands out of shared memory, products, rescaling."""

from __future__ import annotations

from math import prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.formats.packets import PACKET_COLUMNS, word_planes
from ...dialects.formats.scales import SCALE_MINIFLOATS
from ...dialects.tile.control import walk
from ...dialects.tile.decode_program import DecodeProgram
from ...dialects.tile.dialect import element_bytes, note_of, swizzle_period, tensor_of
from ...dialects.tile.operand_types import OPERAND_TYPES
from ...dialects.tile.layout import Layout, Term, swizzled
from .copy_rules import COPY_BYTES
from .kernel_text import KernelText, c_type
from .printer import number


def zeros(text: KernelText, op: Any) -> None:
    """Accumulators of this warp: 16 channels by 8 tokens are 4 numbers of a lane."""
    s, kind = text.schedule, c_type(tensor_of(op.fragment.type).element_type)
    outer = op.operation.parent.name == "tile.kernel"
    name = text.out.fresh("total" if outer else "part")
    text.names[op.fragment] = name
    text.out.line(f"{kind} {name}[{s.strips}][{s.columns}][4] = {{}};")


def declare_lane_offset(text: KernelText, block: Any) -> None:
    """Which row and which vector of the activations each lane names to ldmatrix."""
    (load,) = {op for op in walk_block(block) if op.operation.name == "tile.load"}
    tile = tensor_of(load.tile.type)
    vector = COPY_BYTES // element_bytes(tile.element_type)
    wide = (8, 0) if text.schedule.columns % 2 == 0 else (0, 0)
    lanes = Layout((16, tile.shape[1]), {"lane": ((1, 0), (2, 0), (4, 0), (0, vector), wide)})
    memory = swizzled((16, tile.shape[1]), vector, swizzle_period(note_of(load.tile.type)))
    terms = lanes.then(memory).terms(0)
    text.out.comment("Where this lane points ldmatrix: its row and its vector in the first matrices")
    text.out.line(f"const int x_lane = {' ^ '.join(map(spelled, terms))};")
    text.out.line()


def walk_block(block: Any) -> list[Any]:
    found = list(block.operations)
    for op in block.operations:
        for region in op.operation.regions:
            found += walk(region)
    return found


def spelled(term: Term) -> str:
    """
    >>> spelled(Term("lane", 3, 1, 3)), spelled(Term("lane", 0, 7, 5))
    ('(lane >> 3 & 1) << 3', '(lane & 7) << 5')
    """
    index = f"{term.index} >> {term.shift}" if term.shift else term.index
    masked = f"({index} & {term.mask})"
    return f"{masked} << {term.place}" if term.place else masked


def load_words(text: KernelText, decode: Any) -> None:
    """The words of a packet that belong to this lane, strip by strip."""
    out, s, program = text.out, text.schedule, text.program(decode)
    tile = tensor_of(decode.codes.type)
    packets, words = tile.shape[1], tile.shape[2]
    out.line(f"u32 words[{s.strips}][{program.bits}];")
    with out.loop("strip", s.strips):
        strip = "strip" if s.warps_n == 1 else f"{s.strips} * warp_n + strip"
        place = f"(({strip}) * {packets} + packet) * {words}"
        out.line(f"const auto packet_words = {text.stage_tile(decode.codes)}.at({place});")
        for plane in word_planes(program.order, program.bits):
            for group in range(plane.bits // plane.at_once):
                start = plane.offset(0, group * plane.at_once)
                target = f"words[strip][{plane.low + group * plane.at_once}"
                access = f"packet_words.load<{4 * plane.at_once}>({start} + {plane.at_once} * lane)"
                _spread_words(text, target, access, plane.at_once)


def _spread_words(text: KernelText, target: str, access: str, count: int) -> None:
    if count == 1:
        text.out.line(f"{target}] = {access};")
        return
    name = text.out.fresh("read")
    text.out.line(f"const auto {name} = {access};")
    for index in range(count):
        text.out.line(f"{target} + {index}] = {name}[{index}];" if index else
                      f"{target}] = {name}[0];")  # fmt: skip


def load(text: KernelText, op: Any) -> None:
    """Columns of 8 tokens as right operands: two columns to an ldmatrix, if there are two."""
    out, s = text.out, text.schedule
    name = text.names[op.fragment] = "columns"
    width = tensor_of(op.tile.type).shape[1]
    out.line(f"u32 {name}[{s.columns}][2];")
    at_once = 2 if s.columns % 2 == 0 else 1
    with out.loop("token", s.columns, step=at_once):
        first = "token" if s.warps_m == 1 else f"{s.columns} * warp_m + token"
        place = f"(x_lane ^ column) + {8 * width} * ({first})"
        tile = text.stage_tile(op.tile)
        if at_once == 1:
            out.line(f"load_matrix<2>({name}[token], {tile}.at({place}));")
        else:
            out.line("u32 matrices[4];")
            out.line(f"load_matrix<4>(matrices, {tile}.at({place}));")
            out.line(f"{name}[token][0] = matrices[0], {name}[token][1] = matrices[1];")
            out.line(f"{name}[token + 1][0] = matrices[2], {name}[token + 1][1] = matrices[3];")


def decode(text: KernelText, op: Any) -> None:
    """Left operands of a unit, strip by strip."""
    out, s, program = text.out, text.schedule, text.program(op)
    name = text.names[op.fragment] = out.fresh("weights")
    steps, columns = program.registers // 4, unit_columns(program)
    out.line(f"u32 {name}[{s.strips}][{steps}][4];")
    with out.loop("strip", s.strips):
        given = [f"{name}[strip]", "words[strip]", f"within / {columns}"]
        if program.offsets:
            given.append(_offsets(text, op, program))
        if program.table:
            given.append("table_of_lane")
        out.line(f"{text.function(op)}({', '.join(given)});")
        if op.sign.value != "all":
            _half(text, name, steps, program, op.sign.value)


def unit_columns(program: DecodeProgram) -> int:
    """Columns of k of one unit."""
    return PACKET_COLUMNS // program.units


def _half(text: KernelText, name: str, steps: int, program: DecodeProgram, sign: str) -> None:
    """Only what is above zero, or below."""
    function = f"{'max' if sign == 'positive' else 'min'}_{program.operand.name}x2"
    with text.out.loop("register_", 4 * steps):
        value = f"{name}[strip][register_ / 4][register_ % 4]"
        text.out.line(f"{value} = {function}({value}, 0);")


def _offsets(text: KernelText, op: Any, program: DecodeProgram) -> str:
    """Arguments made of the zero points of both halves of the rows, in every element."""
    out = text.out
    kind = "float" if program.operand.is_float else "s32"
    out.line(f"u32 offsets[{len(program.offsets)}][2];")
    row = scale_row(op.group.value, op.codes, f"{PACKET_COLUMNS} * packet + within")
    with out.loop("half", 2):
        place = f"{row} * {tensor_of(op.zeros.type).shape[1]} + channel + 16 * strip + 8 * half"
        out.line(f"const {kind} zero = {text.stage_tile(op.zeros)}.load({place});")
        for index, offset in enumerate(program.offsets):
            value = f"{number(offset.base)} + {number(offset.times)} * zero"
            if program.operand.is_float:
                repeated = f"{program.operand.name}x2_from_f32({value}, {value})"
            else:
                repeated = f"u32({offset.base:.0f} + {offset.times} * zero) * 0x01010101"
            out.line(f"offsets[{index}][half] = {repeated};")
    return "offsets"


def scale_row(group: int, codes: ir.Value, column: str) -> str:
    """The row of the group that `column` of a tile is in, among those the tile holds."""
    depth = tensor_of(codes.type).shape[1] * PACKET_COLUMNS
    if group % depth == 0:
        return "0"
    if depth % group == 0:
        return f"({column}) / {group}"
    return f"((k + {column}) / {group} - k / {group})"


def mma(text: KernelText, op: Any) -> None:
    out, s = text.out, text.schedule
    total = text.names[op.result] = text.name(op.accumulator)
    decoded = op.a.owner.opview
    columns, depth = unit_columns(text.program(decoded)), s.record.k
    step = "step" if columns == depth else f"within % {columns} / {depth} + step"
    function = s.instruction.replace(".", "_")
    with out.loop("strip", s.strips), out.loop("token", s.columns):
        left, right = f"{text.name(op.a)}[strip][{step}]", f"{text.name(op.b)}[token]"
        out.line(f"{function}({total}[strip][token], {left}, {right});")


def rescale(text: KernelText, op: Any) -> None:
    out, s = text.out, text.schedule
    total = text.names[op.result] = text.name(op.accumulator)
    part, integer = text.name(op.part), str(tensor_of(op.part.type).element_type) == "i32"
    row = _row_of_chunk(text, op)
    channels = tensor_of(op.scales.type).shape[1]
    out.comment("What the chunk adds, times the scale of its group")
    with out.loop("strip", s.strips), out.loop("half", 2):
        place = f"{row} * {channels} + channel + 16 * strip + 8 * half"
        stored = f"{text.stage_tile(op.scales)}.load({place})"
        factor = ir.FloatAttr(op.factor).value
        out.line(f"const float scale = {scaled(op.kind.value, op.apply.value, stored, factor)};")
        with out.loop("token", s.columns), out.loop("which", 2):
            place = "[strip][token][2 * half + which]"
            value = f"f32_from_s32({part}{place})" if integer else f"{part}{place}"
            out.line(f"{total}{place} = fma({value}, scale, {total}{place});")


def _row_of_chunk(text: KernelText, op: Any) -> str:
    codes = next(each.codes for each in text.decodes)
    return scale_row(op.group.value, codes, "group_column")


def scaled(kind: str, apply: str, stored: str, factor: float) -> str:
    """A stored scale as fp32, times a constant (or the constant over it)."""
    if kind == "e8m0":
        value = f"f32_from_e8m0({stored})"
    elif kind == "fp32":
        value = stored
    else:
        form, half = SCALE_MINIFLOATS[kind], OPERAND_TYPES["f16"]
        shift = half.mantissa - form.mantissa  # scales have no sign, and f16 holds them all
        value = f"f32_from_f16({stored} << {shift})"
        factor *= 2.0 ** (half.bias - form.bias)
    if apply == "divide":
        return f"{number(factor)} / {value}"
    return value if factor == 1 else f"{value} * {number(factor)}"


def tile_words(value: ir.Value) -> int:
    return prod(tensor_of(value.type).shape)
