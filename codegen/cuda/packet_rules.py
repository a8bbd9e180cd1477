"""The words of packets that a lane decodes, from shared memory into registers."""

from __future__ import annotations

from typing import Any

from ...dialects.formats.packets import word_planes
from ...dialects.tile.dialect import tensor_of
from .kernel_text import KernelText
from .printer import linear


def load_words(text: KernelText, decode: Any) -> None:
    """The words of a packet that belong to this lane, strip by strip."""
    out, s, program = text.out, text.schedule, text.program(decode)
    if decode.lower is not None:
        load_nested_words(text, decode)
        return
    _, packets, words = tensor_of(decode.codes.type).shape
    out.line(f"u32 words[{s.strips}][{program.bits}];")
    with out.loop("strip", s.strips) as strip:
        place = linear(
            (words * packets * s.strips, text.warp("warp_n")),
            (words * packets, strip),
            (words, text.walk.packet),
        )
        out.line(f"const auto codes_of_strip = {text.stage_tile(decode.codes)}.at({place});")
        for plane in word_planes(program.order, program.bits):
            for first in range(0, plane.bits, plane.at_once):
                start, low = plane.offset(0, first), plane.low + first
                at = linear((plane.at_once, "lane"), start)
                access = f"codes_of_strip.load<{4 * plane.at_once}>({at})"
                spread_words(text, f"words[{strip}]", low, access, plane.at_once)


def load_nested_words(text: KernelText, decode: Any) -> None:
    """
    Words of both planes; the upper one is stored for products of bytes.

    There lane t of four holds bytes 4t … 4t + 3 of 16; a lane of halves wants bytes 2t, 2t + 1 and
    8 + 2t, 9 + 2t: two of the lane t / 2, two of the lane 2 + t / 2.
    """
    out, s = text.out, text.schedule
    _, packets, words = tensor_of(decode.codes.type).shape
    place = (words * packets * s.strips, text.warp("warp_n")), (words, text.walk.packet)
    out.line(f"u32 words[{s.strips}][16];")
    declare_exchange(text)
    with out.loop("strip", s.strips) as strip:
        at = linear(*place, (words * packets, strip))
        out.line(f"const auto lower_of_strip = {text.stage_tile(decode.lower)}.at({at});")
        out.line(f"const auto upper_of_strip = {text.stage_tile(decode.codes)}.at({at});")
        with out.loop("group", 2) as group:
            start = linear((128, group), (4, "lane"))
            out.line(f"const auto lower_words = lower_of_strip.load<16>({start});")
            start = linear((128, group), (4, "beside"))
            out.line(f"const auto first_words = upper_of_strip.load<16>({start});")
            out.line(f"const auto second_words = upper_of_strip.load<16>({start} + 8);")
            with out.loop("i", 4) as i:
                out.line(f"words[{strip}][4 * {group} + {i}] = lower_words[{i}];")
                out.line(
                    f"words[{strip}][8 + 4 * {group} + {i} / 2 + {i} % 2 * 2] = "
                    f"permute_bytes(first_words[{i}], second_words[{i}], halves);"
                )


def declare_exchange(text: KernelText) -> None:
    text.out.line("const int beside = (lane & 28) + (lane >> 1 & 1);  // the lane of first bytes")
    text.out.line("const u32 halves = lane & 1 ? 0x7632 : 0x5410;  // of a word: upper or lower")


def spread_words(text: KernelText, target: str, low: int, access: str, count: int) -> None:
    if count == 1:
        text.out.line(f"{target}[{low}] = {access};")
        return
    read = f"read_{low}"
    text.out.line(f"const auto {read} = {access};")
    parts = [f"{target}[{low + index}] = {read}[{index}]" for index in range(count)]
    text.out.line(", ".join(parts) + ";")
