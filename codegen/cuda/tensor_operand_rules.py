"""
Rules for what the tensor unit reads of shared memory beside copies: decoded weights, activations
of one sign, scales.

Operands are rows of K in boxes of 128 bytes, all rows of a box one behind the other, and in a row
its 16-byte chunks exchanged by the row. Scales are four of a row in a word: those of 128 rows are
512 bytes, word r / 32 of the 16 bytes r % 32 for row r.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dialects.bindings import ir
from ...dialects.formats.packets import PACKET_COLUMNS
from ...dialects.tile.dialect import BANK_ROW, element_bytes, tensor_of
from ...dialects.tile.tensor_memory import LANES, placed_operands
from ...dialects.tile.tensor_tiles import COPY_BYTES, SCALES_AT_ONCE
from .control_rules import Rule
from .kernel_text import KernelText, Walk
from .operand_rules import unit_columns
from .packet_rules import load_words
from .printer import divided, linear
from .scale_rules import TWICE

PIECE = 32
LONG_VALUE = 40
WORDS_OF_BOX = BANK_ROW // 4


def declare_operands(text: KernelText, steps: Any) -> None:
    """Where each of them is in a stage."""
    out = text.out
    for value, size in placed_operands(text.op):
        name = text.names[value] = out.fresh(_operand_name(text, value))
        out.comment(f"{name}: {tensor_of(value.type)}, {size} bytes as the tensor unit reads them")
        place = linear((text.plan.stage_bytes, "stage"), text.operand_offsets[value])
        out.line(
            f"const auto {name} = [](int stage) {{ return Shared<u32>({place}, {size // 4}); }};"
        )
    out.line("const int operand_lane = 32 * channel + lane % 4 + lane / 4 * 4;  // of an operand")


def _operand_name(text: KernelText, value: Any) -> str:
    made: Any = value.owner.opview
    if made.operation.name == "tile.load_scales":
        return f"{_source_name(text, made)}_words"
    source: Any = made.fragment.owner.opview
    stem = "weights" if source.operation.name == "tile.decode" else "x"
    sign = "" if source.sign.value == "all" else f"_{source.sign.value}"
    return f"{stem}{sign}_operand"


def _source_name(text: KernelText, op: Any) -> str:
    """The argument that scales come from."""
    tile = op.tile
    return text.name(tile if isinstance(tile.owner, ir.Block) else tile.owner.operands[0])


def _named(steps: Any, name: str) -> list[Any]:
    return [op for op in steps.body.blocks[0].operations if op.operation.name == name]


# ---- scales of activations, from global memory


def _of_tokens(steps: Any) -> list[Any]:
    return [op for op in _named(steps, "tile.load_scales") if op.side.value == "b"]


def fetch_scales_ahead(text: KernelText, steps: Any) -> None:
    """Each thread reads those of a token, a step ahead."""
    out, s = text.out, text.schedule
    for op in _of_tokens(steps):
        name, words = text.name(op.tile), _words(op)
        pitch, taken = tensor_of(op.tile.type).shape[1], _stored_bytes(op)
        out.comment(f"{name}: of this thread's token, four blocks in a word; 0 beyond the row")
        out.line(f"u32 {name}_ahead[{words}];")
        header = f"const auto fetch_{name} = [&](u32 (&words)[{words}], int k)"
        with out.block(header, "};"), out.loop("word", words) as word:
            out.line(f"const int at = k / {op.group.value} + {linear((taken, word))};")
            out.line("u32 bytes = 0;")
            if pitch % taken == 0:
                with out.block(f"if (m0 + thread < tokens && at < {pitch})"):
                    access = f"{name}.load<{taken}>(s64(m0 + thread) * {pitch} + at)"
                    out.line(f"bytes = {access};")
            else:
                with out.block(f"for (int i = 0; i < {taken}; ++i)"):
                    access = f"{name}.load(s64(m0 + thread) * {pitch} + at + i)"
                    inside = f"m0 + thread < tokens && at + i < {pitch}"
                    out.line(f"if ({inside}) bytes |= u32({access}) << 8 * i;")
            out.line(f"words[{word}] = {_repeated(op, 'bytes')};")
        out.line(f"if (thread < {s.tokens}) fetch_{name}({name}_ahead, first);")


def _words(op: Any) -> int:
    """Words of a row in a step."""
    return tensor_of(op.fragment.type).shape[1] // SCALES_AT_ONCE


def _stored_bytes(op: Any) -> int:
    """Scales in memory of four blocks."""
    return SCALES_AT_ONCE * op.block.value // op.group.value


def _repeated(op: Any, value: str) -> str:
    taken = _stored_bytes(op)
    return value if taken == SCALES_AT_ONCE else f"permute_bytes({value}, 0, {TWICE[taken]})"


def _store_words(
    text: KernelText, op: Any, row: str, rows: int, value: Callable[[str], str]
) -> None:
    """Word by word of a row; `value(word)` is one."""
    out, name = text.out, text.name(op.fragment)
    blocks = -(-rows // LANES)
    with out.loop("word", _words(op)) as word:
        quarter = f"{row} / 32" if rows <= LANES else f"{row} % 128 / 32"
        parts: list[Any] = [(COPY_BYTES // 4 * blocks, word)]
        if blocks > 1:
            parts.append((COPY_BYTES // 4, f"({row} / 128)"))
        at = linear(*parts, f"{row} % 32 * 4", quarter)
        given = value(word)
        if len(given) > LONG_VALUE:
            out.line(f"const u32 of_row = {given};")
            given = "of_row"
        out.line(f"{name}(stage).store({at}, {given});")


# ---- what a stage holds, once its copies have arrived


def make_operands(text: KernelText, steps: Any, rules: dict[str, Rule]) -> None:
    for op in _of_tokens(steps):
        _place_token_scales(text, op, steps)
    for op in _named(steps, "tile.load_scales"):
        if op.side.value == "a":
            _place_weight_scales(text, op)
    signed = [op for op in _named(steps, "tile.place") if _is_load(op)]
    if signed:
        _place_signs(text, signed)
    _place_weights(text, steps, rules)


def _is_load(place: Any) -> bool:
    return place.fragment.owner.name == "tile.load"


def _place_token_scales(text: KernelText, op: Any, steps: Any) -> None:
    out, name, tokens = text.out, text.name(op.tile), text.schedule.tokens
    step = steps.step.value * steps.count.value
    with out.block(f"if (thread < {tokens})"):
        _store_words(text, op, "thread", tokens, lambda word: f"{name}_ahead[{word}]")
        out.line(f"if (k + {step} < last) fetch_{name}({name}_ahead, k + {step});")
    if tokens < LANES:
        with out.block(f"else if (thread < {LANES})"):
            _store_words(text, op, "thread", tokens, lambda word: "0")


def _place_weight_scales(text: KernelText, op: Any) -> None:
    """A row of the copied tile is a group, so that the bytes of a word lie rows apart."""
    out, tile, taken = text.out, text.stage_tile(op.tile), _stored_bytes(op)
    channels = tensor_of(op.tile.type).shape[1]
    stored = tensor_of(op.tile.owner.operands[0].type).shape[1]
    bound = min(stored, channels)

    def word_of(word: str) -> str:
        loads = [
            f"u32({tile}.load({linear((channels * taken, word), channels * each, 'thread')}))"
            + (f" << {8 * each}" if each else "")
            for each in range(taken)
        ]
        return _repeated(op, " | ".join(loads))

    with out.block(f"if (thread < {bound})"):
        _store_words(text, op, "thread", channels, word_of)
    if bound < channels:
        with out.block(f"else if (thread < {channels})"):
            _store_words(text, op, "thread", channels, lambda word: "0")


def _place_signs(text: KernelText, places: list[Any]) -> None:
    """Words stay where they are: the exchange of chunks is that of the copy."""
    out, s = text.out, text.schedule
    source: Any = places[0].fragment.owner.opview
    tensor = tensor_of(source.tile.type)
    size = tensor.shape[0] * tensor.shape[1] * element_bytes(tensor.element_type)
    out.comment("Activations above zero, and below")
    with out.block(f"for (int i = thread; i < {size // 16}; i += {s.workers})"):
        out.line(f"const auto codes = {text.stage_tile(source.tile)}.load<16>(16 * i);")
        for place in places:
            sign = place.fragment.owner.opview.sign.value
            words = ", ".join(f"{sign}_e2m1x8(codes[{each}])" for each in range(4))
            out.line(f"{text.name(place.tile)}(stage).store<16>(4 * i, {{{words}}});")


def _place_weights(text: KernelText, steps: Any, rules: dict[str, Rule]) -> None:
    """Packet by packet: decoded into registers, and stored as rows of K."""
    out, s = text.out, text.schedule
    places = [op for op in _named(steps, "tile.place") if not _is_load(op)]
    decodes = [op.fragment.owner.opview for op in places]
    depth, chunk = s.depth, min(steps.step.value, PACKET_COLUMNS)
    program = text.program(decodes[0])
    walk = text.walk = Walk(chunk, unit_columns(program), s.record.k)
    stored = tensor_of(decodes[0].codes.owner.operands[0].type).shape[1] * PACKET_COLUMNS
    with out.loop("packet", depth // PACKET_COLUMNS) as walk.packet:
        if stored % depth:
            inside = f"{linear('k', (PACKET_COLUMNS, walk.packet))} >= {stored}"
            with out.block(f"if ({inside})"):
                out.comment("No columns of K any more")
                _store_zeros(text, places)
                out.line("continue;")
        load_words(text, decodes[0])
        with (
            out.loop("chunk", PACKET_COLUMNS // chunk) as walk.chunk,
            out.loop("unit", walk.units) as walk.unit,
        ):
            for op in decodes:
                rules["tile.decode"](text, op)
            with out.loop("step", walk.steps) as walk.step:
                words = {op.tile: f"{text.name(op.fragment)}[0][{walk.step_of_unit}][i]"
                         for op in places}  # fmt: skip
                _store_piece(text, divided(walk.column, s.record.k), words)


def _store_zeros(text: KernelText, places: list[Any]) -> None:
    of_packet = PACKET_COLUMNS // text.schedule.record.k
    with text.out.loop("step", of_packet) as step:
        words = {op.tile: "0" for op in places}
        _store_piece(text, linear((of_packet, text.walk.packet), step), words)


def _store_piece(text: KernelText, piece: str, words: dict[Any, str]) -> None:
    """Of 32 bytes of K: words 0 and 1 of a lane are of its two rows, 2 and 3 16 bytes further."""
    out, of_box = text.out, BANK_ROW // PIECE
    if not piece.isdigit():
        out.line(f"const int piece = {piece};  // of 32 bytes of K")
        piece = "piece"
    box = linear((LANES * WORDS_OF_BOX, divided(piece, of_box)))
    chunk = f"(8 * ({piece} % {of_box}) + 4 * (i / 2))" if piece != "0" else "4 * (i / 2)"
    with out.loop("i", 4):
        at = linear(box, f"{8 * WORDS_OF_BOX} * (i % 2)", f"(operand_lane ^ {chunk})")
        for tile, word in words.items():
            out.line(f"{text.name(tile)}(stage).store({at}, {word});")
