"""Rules for sums across warps and blocks: through shared memory, then through global memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...dialects.tile.block_work import SHARED_TILES
from ...dialects.tile.dialect import tensor_of
from .kernel_text import KernelText, c_type
from .printer import linear


@dataclass(frozen=True)
class Place:
    """The loops over the accumulators of a lane, as texts of their indices."""

    strip: str
    token: str
    of: str
    value: str = "value"

    def number(self, columns: int) -> str:
        """Which of a lane's accumulators it is."""
        return linear((4 * columns, self.strip), (4, self.token), self.value)


def combine(text: KernelText, op: Any) -> None:
    """Warps along K add up through shared memory, then blocks through global memory."""
    s, name = text.schedule, text.name(op.fragment)
    text.names[op.result] = name
    kind = c_type(tensor_of(op.fragment.type).element_type)
    text.out.line(f"{text.sync}  // shared memory is free for the epilogue")
    if s.warps_k > 1:
        _add_warps(text, name, kind)
    if s.splits > 1 or s.stream_k:
        _add_blocks(text, name, kind)


@contextmanager
def _each(text: KernelText) -> Iterator[Place]:
    """Loops over the accumulators of a lane."""
    out, s = text.out, text.schedule
    with (
        out.loop("strip", s.strips) as strip,
        out.loop("token", s.columns) as token,
        out.loop("value", 4),
    ):
        yield Place(strip, token, text.sum(strip, token, "value"))


def _add_warps(text: KernelText, name: str, kind: str) -> None:
    out, s = text.out, text.schedule
    values, lanes = 4 * s.strips * s.columns, 32 * s.warps_n * s.warps_m
    out.line()
    out.comment(f"Sums of the {s.warps_k} warps along K, in their order")
    out.line(
        f"const Shared<{kind}> sums({text.plan.epilogue}, {(s.warps_k - 1) * values * lanes});"
    )
    with out.block("if (warp_k > 0)"), _each(text) as place:
        number_ = place.number(s.columns)
        at = linear((values * lanes, "(warp_k - 1)"), (lanes, f"({number_})"), f"thread % {lanes}")
        out.line(f"sums.store({at}, {name}{place.of});")
    out.line(text.sync)
    with (
        out.block("if (warp_k == 0)"),
        out.loop("other", s.warps_k - 1) as other,
        _each(text) as place,
    ):
        at = linear((values * lanes, other), (lanes, f"({place.number(s.columns)})"), "thread")
        out.line(f"{name}{place.of} += sums.load({at});")
    out.line(text.sync)


@dataclass(frozen=True)
class Sharing:
    """
    The blocks that add up to a tile, as text: they are numbered from `first` to before `end`.

    The sums of block b are at place `at(b)` of the workspace. The last to arrive finds `others`
    there, all before it `leave`.
    """

    first: str
    end: str
    others: str
    mine: str
    place: str
    leave: str

    @staticmethod
    def of(text: KernelText) -> Sharing:
        s = text.schedule
        if not s.stream_k:
            place = f"s64({s.splits} * tile) + %s"
            return Sharing("0", f"{s.splits}", f"{s.splits - 1}", "blockIdx.z", place, "return")
        place = f"{SHARED_TILES} * s64(%s) + (%s == from)"
        return Sharing("from", "to + 1", "to - from", "block", place, "continue")

    def at(self, block: str, words: int) -> str:
        place = self.place.replace("%s", block)
        return f"workspace.at(({place}) * {words} + thread)"


def _add_blocks(text: KernelText, name: str, kind: str) -> None:
    """The block that arrives last adds the sums of all, in the order of their shares."""
    out, s = text.out, text.schedule
    out.line()
    if not s.stream_k:
        out.comment(
            f"Sums of the {s.splits} blocks that share K: the last to come adds them in order"
        )
        out.line("const int tile = blockIdx.y * gridDim.x + blockIdx.x;")
        _exchange(text, name, kind)
        return
    out.comment(
        "Where blocks share the steps of the tile, the last to come adds their sums in order"
    )
    out.line("const int from = shares.block_of(first_unit);")
    out.line(f"const int to = shares.block_of({linear('first_unit', text.steps - 1)});")
    with out.block("if (from != to)"):
        out.comment("A block's second place is for its last tile, of which it has the first steps")
        out.line("const int block = blockIdx.x;")
        _exchange(text, name, kind)


def _exchange(text: KernelText, name: str, kind: str) -> None:
    out, s, sharing = text.out, text.schedule, Sharing.of(text)
    lanes = 32 * s.warps_n * s.warps_m
    words = 4 * s.strips * s.columns * lanes
    first = "if (warp_k == 0)" if s.warps_k > 1 else ""
    with out.block(first):
        out.line(f"const auto mine = {sharing.at(sharing.mine, words)};")
        with _each(text) as place:
            at = f"{lanes} * ({place.number(s.columns)})"
            out.line(f"{_if_token(text)}mine.store({at}, {name}{place.of});")
    out.line("fence();")
    out.line(text.sync)
    out.line(f"const Shared<u32> arrived({text.plan.epilogue}, 1);")
    out.line("if (thread == 0) arrived.store(0, atomic_add(arrivals, tile, 1));")
    out.line(text.sync)
    out.line(f"if (arrived.load(0) != {sharing.others}) {sharing.leave};")
    out.line("fence();")
    out.line(text.sync)
    with out.block(first):
        _add_shares(text, name, kind, lanes, sharing)
    out.line("if (thread == 0) arrivals.store(tile, 0);  // for the next launch")


def _if_token(text: KernelText) -> str:
    """Columns of the instruction that are no token of a short tile have no sum."""
    tokens = text.schedule.tokens
    return f"if (lane % 4 * 2 + value % 2 < {tokens}) " if tokens < 8 else ""


def _add_shares(text: KernelText, name: str, kind: str, lanes: int, sharing: Sharing) -> None:
    """Few tokens have few sums: then all shares are read at once. They are added in order."""
    out, s = text.out, text.schedule
    words = 4 * s.strips * s.columns * lanes
    if s.streams:
        with _each(text) as place, out.block(_if_token(text).strip()):
            at = f"{lanes} * ({place.number(s.columns)})"
            out.line(f"{kind} shares[{s.splits}];")
            with out.loop("split", s.splits) as split:
                out.line(f"shares[{split}] = {sharing.at(split, words)}.load({at});")
            out.line(f"{name}{place.of} = shares[0];")
            with out.loop("split", s.splits, "1") as split:
                out.line(f"{name}{place.of} += shares[{split}];")
        return
    with _each(text) as place:
        out.line(f"{name}{place.of} = 0;")
    out.line("#pragma unroll 1")
    with out.block(f"for (int other = {sharing.first}; other < {sharing.end}; ++other)"):
        out.line(f"const auto share = {sharing.at('other', words)};")
        with _each(text) as place:
            at = f"{lanes} * ({place.number(s.columns)})"
            out.line(f"{name}{place.of} += share.load({at});")
