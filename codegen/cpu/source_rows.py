"""Rows of weights of any format, walked in order of k a vector at a time, or decoded whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

from .decode import PackedReader, PlainReader
from .emit import LANES, Ptr, Val, repeat, size

UNROLLED = 8

Source = PlainReader | PackedReader
Visit = Callable[[Val, list[Val], Sequence[Val], int], Sequence[Val]]


@dataclass(frozen=True, slots=True)
class Part:
    """Of a row: `length` k from `first` on, where a vector begins; the row `ends` with some."""

    first: Val
    length: int
    ends: bool = False


def padded(k: int) -> int:
    """k rounded up to whole vectors."""
    return -(-k // LANES) * LANES


def each_part(source: Source, most: int, visit: Callable[[Part], None]) -> None:
    """
    Visit the parts of a row, of at most `most` k, which is a multiple of LANES.

    A part is some whole blocks of scales, or lies inside one.
    """
    k = source.k
    step = _step(k, source.block, most)
    whole = max(0, k - 1) // step * step
    if whole:
        repeat(0, whole, step)(lambda first: visit(Part(first, step)))
    if k:
        visit(Part(size(whole), k - whole, ends=True))


def _step(k: int, block: int, most: int) -> int:
    if block >= k:
        return most
    return most // block * block if block <= most else gcd(most, block)


def decode_rows(source: Source, rows: Sequence[Val], target: Ptr, part: Part | None = None) -> None:
    """Write the decoded `rows`, or a part of each, to `target`, each padded to whole vectors."""
    part = part or Part(size(0), source.k, ends=True)
    for index, row in enumerate(rows):
        out = target.at(index * padded(part.length))

        def keep(
            k: Val, ws: list[Val], carried: Sequence[Val], count: int, out: Ptr = out
        ) -> Sequence[Val]:
            out.at(k - part.first).store(ws[0])
            return carried

        walk_part(source, [row], keep, part, ())


def walk_rows(source: Source, rows: Sequence[Val], visit: Visit, carry: Sequence[Val]) -> list[Val]:
    """
    Visit the vectors of `rows` in order of k, block by block, carrying values along.

    `visit(k, vectors, carried, count)` sees one decoded vector of each row, of which the first
    `count` lanes are inside the row, and returns the values to carry on.
    """
    return walk_part(source, rows, visit, Part(size(0), source.k, ends=True), carry)


def walk_part(
    source: Source, rows: Sequence[Val], visit: Visit, part: Part, carry: Sequence[Val]
) -> list[Val]:
    """`walk_rows` inside one part."""
    length, block = part.length, source.block
    if not length:
        return list(carry)
    apart = part.ends and source.ends_apart
    whole = (length - 1 if apart else length) // block * block
    carried = list(carry)
    if whole > block:

        def one_block(start: Val, *values: Val) -> Sequence[Val]:
            return walk_block(source, rows, visit, (start, block), values)

        carried = repeat(part.first, part.first + whole, block, carry=carried)(one_block)
    elif whole:
        carried = walk_block(source, rows, visit, (part.first, block), carried)
    if length > whole:
        rest = (part.first + whole, length - whole)
        carried = walk_block(source, rows, visit, rest, carried, ends=part.ends)
    return carried


def walk_block(
    source: Source,
    rows: Sequence[Val],
    visit: Visit,
    span: tuple[Val, int],
    carry: Sequence[Val],
    ends: bool = False,
) -> list[Val]:
    """
    `walk_rows` inside one block of scales, of which `span` is the start and the length.

    The vector that `ends` a row is read apart if it is ragged or if the source wants it so.
    """
    start, length = span
    scales = [source.scales(row, start) for row in rows]

    def at(position: Val, values: Sequence[Val], last: int = 0) -> Sequence[Val]:
        read = source.tail if last else source.vector
        decoded = [read(row, position, scale) for row, scale in zip(rows, scales, strict=True)]
        return visit(position, decoded, values, last or LANES)

    vectors, rest = divmod(length, LANES)
    if ends and source.ends_apart and not rest:
        vectors, rest = vectors - 1, LANES
    carried: Sequence[Val] = carry
    if vectors <= UNROLLED:
        for index in range(vectors):
            carried = at(start + index * LANES, carried)
    else:
        turn = repeat(start, start + vectors * LANES, LANES, carry=carried)
        carried = turn(lambda position, *values: at(position, values))
    if rest:
        carried = at(start + vectors * LANES, carried, rest)
    return list(carried)
