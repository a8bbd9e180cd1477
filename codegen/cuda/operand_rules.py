"""Rules for what one warp computes: operands out of shared memory, products, rescaling."""

from __future__ import annotations

from typing import Any

from ...dialects.bindings import ir
from ...dialects.formats.packets import PACKET_COLUMNS
from ...dialects.formats.scales import SCALE_MINIFLOATS
from ...dialects.regions import walk
from ...dialects.tile.decode_program import DecodeProgram
from ...dialects.tile.dialect import BANK_ROW, element_bytes, note_of, swizzle_period, tensor_of
from ...dialects.tile.layout import Layout, Term, swizzled
from ...dialects.tile.operand_types import OPERAND_TYPES
from .copy_rules import COPY_BYTES, LONGEST
from .kernel_text import KernelText, Walk, c_type
from .printer import divided, grouped, linear, number

BYTE = 8


def zeros(text: KernelText, op: Any) -> None:
    """Accumulators of this warp: 16 channels by 8 tokens are 4 numbers of a lane."""
    kind = c_type(tensor_of(op.fragment.type).element_type)
    if op.fragment in text.names:  # declared before the loop: the first product overwrites it
        return
    outer = op.operation.parent.name in ("tile.kernel", "scf.for")
    name = text.out.fresh("total" if outer else "part")
    text.names[op.fragment] = name
    text.out.line(f"{kind} {name}{text.declared_sums()} = {{}};")


def declare_lane_offset(text: KernelText, block: Any) -> None:
    """Which row and which vector of the activations each lane names to ldmatrix."""
    load, *_ = [op for op in walk_block(block) if op.operation.name == "tile.load"]
    tile = tensor_of(load.tile.type)
    vector = COPY_BYTES // element_bytes(tile.element_type)
    wide = (8, 0) if text.schedule.columns % 2 == 0 else (0, 0)
    period = swizzle_period(note_of(load.tile.type))
    if text.schedule.streams:
        _declare_short_rows(text, tile, vector, period)
        return
    lanes = Layout((16, tile.shape[1]), {"lane": ((1, 0), (2, 0), (4, 0), (0, vector), wide)})
    memory = swizzled((16, tile.shape[1]), vector, period)
    terms = lanes.then(memory).terms(0)
    text.out.comment(
        "Where this lane points ldmatrix: its row and its vector in the first matrices"
    )
    text.out.line(f"const int x_lane = {' ^ '.join(map(spelled, terms))};")
    text.out.line()


def _declare_short_rows(text: KernelText, tile: Any, vector: int, period: int) -> None:
    """As above, for rows of any length, and fewer than 8: then lanes name one several times."""
    out, (rows, columns) = text.out, tile.shape
    out.comment("Where this lane points ldmatrix: its row, and its vector in the first matrices")
    row = f"(lane & {min(rows, 8) - 1})"
    if text.columns_at_once > 1:
        row = f"({row} + (lane >> 4) * 8)"
    exchanged = min(rows, period)
    exchange = f" ^ (lane & {exchanged - 1}) * {vector}" if exchanged > 1 else ""
    out.line(f"const int x_row_of_lane = {linear((columns, row)) if rows > 1 else '0'};")
    out.line(f"const int x_lane = (lane >> 3 & 1) * {vector}{exchange};")
    out.line()


def walk_block(block: Any) -> list[Any]:
    return [inner for op in block.operations for inner in (op, *walk(op))]


def spelled(term: Term) -> str:
    """
    >>> spelled(Term("lane", 3, 1, 3)), spelled(Term("lane", 0, 7, 5))
    ('(lane >> 3 & 1) << 3', '(lane & 7) << 5')
    """
    index = f"{term.index} >> {term.shift}" if term.shift else term.index
    masked = f"({index} & {term.mask})"
    return f"{masked} << {term.place}" if term.place else masked


def load(text: KernelText, op: Any) -> None:
    """Right operands: as many columns of 8 tokens as one ldmatrix brings."""
    s, walk = text.schedule, text.walk
    if s.groups:
        text.names[op.fragment] = f"{text.stage_tile(op.tile)}.at({_place_in_boxes(text, op)})"
        return
    if s.streams:
        _load_of_share(text, op)
        return
    width = 8 * tensor_of(op.tile.type).shape[1]
    column = linear((packed_columns(op), walk.packet)) if per_byte(op) > 1 else walk.column
    lane = "x_lane" if column == "0" else f"(x_lane ^ {grouped(column)})"
    at = linear(lane, (width * s.columns, text.warp("warp_m")), (width, walk.token))
    _load_matrices(text, op, at)


def _load_matrices(text: KernelText, op: Any, at: str) -> None:
    """One ldmatrix, of which only one sign may be wanted; another load may have brought it."""
    out, count, sign = text.out, 2 * text.columns_at_once, op.sign.value
    name = text.names[op.fragment] = "columns" if sign == "all" else f"{sign}_columns"
    first = next(each for each in op.operation.block if each.operation.name == "tile.load")
    if first == op:
        out.line(f"u32 columns[{count}];")
        out.line(f"load_matrix<{count}>(columns, {text.stage_tile(op.tile)}.at({at}));")
    if sign != "all":
        out.line(f"u32 {name}[{count}];")
        with out.loop("i", count) as i:
            out.line(f"{name}[{i}] = {sign}_e2m1x8(columns[{i}]);")


def per_byte(load: Any) -> int:
    """Columns in an element of the tile that is loaded."""
    return BYTE // min(BYTE, OPERAND_TYPES[str(tensor_of(load.fragment.type).element_type)].bits)


def packed_columns(load: Any) -> int:
    """Elements of the tile that hold the columns of a packet."""
    return PACKET_COLUMNS // per_byte(load)


def _load_of_share(text: KernelText, op: Any) -> None:
    """The same from rows of a block's share of K, which begin at any multiple of a packet."""
    walk, tile, width = text.walk, tensor_of(op.tile.type), packed_columns(op)
    within = linear((walk.chunk_columns, walk.chunk), (walk.columns, walk.unit),
                    (walk.depth, walk.step))  # fmt: skip
    # Vectors are exchanged within 128 bytes: one packet of halves, two of bytes, four of nibbles.
    packets = BANK_ROW // element_bytes(tile.element_type) // width
    whole, part = walk.packet, "0"
    if packets > 1 and walk.packet != "0":
        whole, part = divided(walk.packet, packets), f"({walk.packet} % {packets})"
    within = linear((width, part), within)
    lane = "x_lane" if within == "0" else f"(x_lane ^ {grouped(within)})"
    at = linear("x_row_of_lane", lane, (8 * tile.shape[1], walk.token),
                divided(f"k - {text.name(op.first)}", per_byte(op)),
                (packets * width, whole))  # fmt: skip
    _load_matrices(text, op, at)


def _place_in_boxes(text: KernelText, op: Any) -> str:
    """Where the columns of a step begin in boxes of 128 bytes of K."""
    tile, walk = tensor_of(op.tile.type), text.walk
    width = BANK_ROW // element_bytes(tile.element_type)
    packets = width // PACKET_COLUMNS  # of a box
    within = linear((walk.chunk_columns, walk.chunk), (walk.columns, walk.unit),
                    (walk.depth, walk.step))  # fmt: skip
    if packets == 1 or walk.packet == "0":
        return linear((tile.shape[0] * width, walk.packet), within)
    box, packet = divided(walk.packet, packets), f"({walk.packet} % {packets})"
    return linear((tile.shape[0] * width, box), (PACKET_COLUMNS, packet), within)


def decode(text: KernelText, op: Any) -> None:
    """Left operands of a unit, strip by strip."""
    out, s, program = text.out, text.schedule, text.program(op)
    name = text.names[op.fragment] = "weights" if op.sign.value == "all" else op.sign.value
    out.line(f"u32 {name}[{s.strips}][{program.registers // 4}][4];")
    with out.loop("strip", s.strips) as strip:
        given = [f"{name}[{strip}]", f"words[{strip}]"]
        if program.units > 1:
            given.append(text.walk.unit_of_packet)
        if program.offsets:
            given.append(_offsets(text, op, program, strip))
        if program.table:
            given.append("table_of_lane")
        out.line(f"{text.function(op)}({', '.join(given)});")
        if op.sign.value != "all":
            _half(text, f"{name}[{strip}]", program, op.sign.value)


def unit_columns(program: DecodeProgram) -> int:
    """Columns of k of one unit."""
    return PACKET_COLUMNS // program.units


def _half(text: KernelText, target: str, program: DecodeProgram, sign: str) -> None:
    """Only what is above zero, or below."""
    if program.operand.bits == 4:
        with text.out.loop("i", 4) as i:
            text.out.line(f"{target}[0][{i}] = {sign}_e2m1x8({target}[0][{i}]);")
        return
    function = f"{'max' if sign == 'positive' else 'min'}_{program.operand.name}x2"
    with text.out.loop("step", program.registers // 4) as step, text.out.loop("i", 4) as i:
        value = f"{target}[{step}][{i}]"
        text.out.line(f"{value} = {function}({value}, 0);")


def _offsets(text: KernelText, op: Any, program: DecodeProgram, strip: str) -> str:
    """Arguments made of the zero points of both halves of the rows, in every element."""
    out = text.out
    kind = "float" if program.operand.is_float else "s32"
    out.line(f"u32 offsets[{len(program.offsets)}][2];")
    row = scale_row(text, op, op.codes)
    with out.loop("half", 2) as half:
        place = _row_place(row, op.zeros, strip, half)
        out.line(f"const {kind} zero = {text.stage_tile(op.zeros)}.load({place});")
        for index, offset in enumerate(program.offsets):
            if program.operand.is_float:
                value = f"{number(offset.base)} + {number(offset.times)} * zero"
                repeated = f"{program.operand.name}x2_from_f32({value}, {value})"
            else:
                repeated = f"u32({linear((offset.times, 'zero'), int(offset.base))}) * 0x01010101"
            out.line(f"offsets[{index}][{half}] = {repeated};")
    return "offsets"


def _row_place(row: str, tile: ir.Value, strip: str, half: str) -> str:
    """Where the number of a group and of this lane's row stands."""
    channels = tensor_of(tile.type).shape[1]
    return linear((channels, row), "channel", (16, strip), (8, half))


def scale_row(text: KernelText, op: Any, codes: ir.Value) -> str:
    """The row of the group that a chunk is in, among those the tile holds."""
    group, column = op.group.value, text.walk.chunk_column
    depth = tensor_of(codes.type).shape[1] * PACKET_COLUMNS
    if op.first is not None:
        first = text.name(op.first)
        if group >= LONGEST:
            return "0"
        if depth % group == 0:
            return f"(({linear(f'k - {first}', column)}) / {group})"
        return f"((k + {column}) / {group} - {first} / {group})"
    if group % depth == 0:
        return "0"
    if depth % group == 0:
        return f"({divided(column, group)})"
    return f"((k + {column}) / {group} - k / {group})"


def mma(text: KernelText, op: Any) -> None:
    out, s, walk = text.out, text.schedule, text.walk
    total = text.names[op.result] = text.name(op.accumulator)
    function = s.record.function
    if s.groups:
        rows = f"wgmma_operand<{BANK_ROW}>({text.name(op.b)})"
        add = _adds(op, walk)
        out.line(f"{function}({total}, {text.name(op.a)}[0][{walk.step_of_unit}], {rows}{add});")
        return
    with out.loop("strip", s.strips) as strip:
        left = f"{text.name(op.a)}[{strip}][{walk.step_of_unit}]"
        for column in range(text.columns_at_once):
            sums = f"{total}[{strip}][{linear(walk.token, column)}]"
            right = f"{{{text.name(op.b)}[{2 * column}], {text.name(op.b)}[{2 * column + 1}]}}"
            out.line(f"{function}({sums}, {left}, {right});")


def _adds(op: Any, walk: Walk) -> str:
    """Products of a chunk add up; the first one overwrites what the chunk before left."""
    if isinstance(op.accumulator.owner, ir.Block) or op.accumulator.owner.name != "tile.zeros":
        return ""
    later = [f"{index} > 0" for index in (walk.unit, walk.step) if index != "0"]
    return f", {' || '.join(later)}" if later else ", 0"


def rescale(text: KernelText, op: Any) -> None:
    out, s = text.out, text.schedule
    total = text.names[op.result] = text.name(op.accumulator)
    part, integer = text.name(op.part), str(tensor_of(op.part.type).element_type) == "i32"
    codes = next(each.codes for each in text.decodes)
    row = scale_row(text, op, codes)
    factor = ir.FloatAttr(op.factor).value
    out.comment("What the chunk adds, times the scale of its group")
    with out.loop("strip", s.strips) as strip, out.loop("half", 2) as half:
        stored = f"{text.stage_tile(op.scales)}.load({_row_place(row, op.scales, strip, half)})"
        out.line(f"const float factor = {scaled(op.kind.value, op.apply.value, stored, factor)};")
        with out.loop("token", s.columns) as token:
            for value in ((2, half), (2, half, 1)):
                at = text.sum(strip, token, linear(value[:2], *value[2:]))
                added = f"f32_from_s32({part}{at})" if integer else f"{part}{at}"
                out.line(f"{total}{at} = fma({added}, factor, {total}{at});")


def scaled(kind: str, apply: str, stored: str, factor: float) -> str:
    """A stored scale as fp32, times a constant (or the constant over it)."""
    if kind == "e8m0":
        value = f"f32_from_e8m0({stored})"
    elif kind == "fp32":
        value = stored
    elif kind == "bf16":
        value = f"f32_from_bf16({stored})"
    else:
        form, half = SCALE_MINIFLOATS[kind], OPERAND_TYPES["f16"]
        shift = half.mantissa - form.mantissa  # scales have no sign, and f16 holds them all
        value = f"f32_from_f16({stored} << {shift})" if shift else f"f32_from_f16({stored})"
        factor *= 2.0 ** (half.bias - form.bias)
    if apply == "divide":
        return f"{number(factor)} / {value}"
    return value if factor == 1 else f"{value} * {number(factor)}"
