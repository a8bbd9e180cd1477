"""
Rules for kernels of few tokens: packets go from memory to registers, with no barrier between.

What a block's share of K needs besides, activations and scales, is copied to shared memory once.
Then each warp reads its packets on its own, several ahead, so that many bytes are under way
whatever the other warps do.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ...dialects.formats.packets import (
    LANES,
    PACKET_COLUMNS,
    PACKET_ROWS,
    PLANE_ORDERS,
    UPPER,
    word_planes,
)
from ...dialects.tile.dialect import note_of, tensor_of
from .control_rules import Rule
from .copy_rules import copy_into_stage, declare_places
from .kernel_text import KernelText, c_type
from .operand_rules import declare_lane_offset
from .packet_rules import declare_exchange, spread_words
from .printer import divided, linear


def copy(text: KernelText, op: Any) -> None:
    """A tile of the block's whole share of K."""
    out, tensor = text.out, tensor_of(op.tile.type)
    name = text.names[op.tile] = out.fresh(f"{text.name(op.source)}_tile")
    shape = " x ".join(map(str, tensor.shape))
    out.line()
    out.comment(f"{name}: {shape} of {tensor.element_type}, {note_of(op.tile.type)}")
    kind, count = c_type(tensor.element_type), prod(tensor.shape)
    out.line(f"const Shared<{kind}> {name}({text.stage_offsets[op.tile]}, {count});")
    declare_places(text, op)
    copy_into_stage(text, op)


def pipeline(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """Each warp takes a packet column of each step of K and fetches `stages` of them ahead."""
    out, s, step = text.out, text.schedule, op.step.value
    block = op.body.blocks[0]
    text.enter(op)
    fetches = [each for each in block.operations if each.operation.name == "tile.fetch"]
    for each in fetches:
        text.names[each.packets] = "words"
    out.line("commit_copies();")
    out.line()
    declare_lane_offset(text, block)
    bits = text.program(text.decodes[0]).bits
    nested = text.decodes[0].lower is not None
    if nested:
        declare_exchange(text)
    _declare_fetch(text, fetches)
    out.comment(f"{s.stages} packets of each strip are under way for this warp")
    out.line(f"u32 ahead[{s.stages}][{s.strips}][{bits}];")
    mine = linear((PACKET_COLUMNS, text.warp("warp_k")))
    with out.loop("place", s.stages) as place:
        column = linear("first", (step, place), mine)
        out.line(f"if ({column} < last) fetch(ahead[{place}], {column});")
    out.line("wait_copies<0>();")
    out.line("sync_threads();  // everybody's part of the activations has arrived")
    with (
        out.block(f"for (int base = first; base < last; base += {step * s.stages})"),
        out.loop("place", s.stages) as place,
    ):
        out.line(f"const int k = {linear('base', (step, place))};")
        with out.block(f"if ({linear('k', mine)} < last)"):
            out.line(f"u32 words[{s.strips}][{bits}];")
            with (
                out.loop("strip", s.strips) as strip,
                out.loop("word", bits // (1 + nested)) as word,
            ):
                out.line(f"words[{strip}][{word}] = ahead[{place}][{strip}][{word}];")
            if nested:
                _exchange(text, place)
            later = linear("k", step * s.stages, mine)
            out.line(f"if ({later} < last) fetch(ahead[{place}], {later});")
            for each in block.operations:
                if each.operation.name not in ("tile.fetch", "tile.yield"):
                    rules[each.operation.name](text, each)


def _exchange(text: KernelText, place: str) -> None:
    """Bytes of the upper plane from the lanes that hold them: see `load_nested_words`."""
    out, s = text.out, text.schedule
    with out.loop("strip", s.strips) as strip, out.loop("word", 8) as word:
        out.line(f"const u32 mine = ahead[{place}][{strip}][8 + {word}];")
        out.line("const u32 first_word = shuffle_from(mine, beside);")
        out.line("const u32 second_word = shuffle_from(mine, beside + 2);")
        out.line(
            f"words[{strip}][8 + {word} / 4 * 4 + {word} % 4 / 2 + {word} % 2 * 2] = "
            "permute_bytes(first_word, second_word, halves);"
        )


def _declare_fetch(text: KernelText, fetches: list[Any]) -> None:
    """This lane's words of the packets at one column of K, strip by strip."""
    out, s, bits = text.out, text.schedule, text.program(text.decodes[0]).bits
    out.comment("Reads this lane's words of the packets at `column`, strip by strip")
    header = f"const auto fetch = [&](u32 (&words)[{s.strips}][{bits}], int column)"
    with out.block(header, "};"), out.loop("strip", s.strips) as strip:
        for op in fetches:
            _read_packet(text, op, strip)


def _read_packet(text: KernelText, op: Any, strip: str) -> None:
    out, s = text.out, text.schedule
    name, row = text.name(op.source), divided(text.name(op.offsets[0]), PACKET_ROWS)
    strips, units, words = tensor_of(op.source.type).shape
    bits, order, base = words // LANES, text.program(text.decodes[0]).order, 0
    if text.decodes[0].lower is not None:
        order, base = PLANE_ORDERS[name], 8 * (name == UPPER)
    cache = "" if op.cache.value == "normal" else f", Cache::{op.cache.value}"
    at = linear(row, (s.strips, text.warp("warp_n")), strip)
    if strips % (s.strips * s.warps_n):
        at = f"minimum({at}, {strips - 1})"
    at = linear((units * words, f"s64({at})"), (words, f"(column / {PACKET_COLUMNS})"))
    packet = out.fresh("packet")
    out.line(f"const auto {packet} = {name}.at({at});")
    for plane in word_planes(order, bits):
        for index in range(0, plane.bits, plane.at_once):
            place = linear((plane.at_once, "lane"), plane.offset(0, index))
            access = f"{packet}.load<{4 * plane.at_once}{cache}>({place})"
            low = base + plane.low + index
            spread_words(text, f"words[{strip}]", low, access, plane.at_once)
