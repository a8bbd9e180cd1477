"""
The kernels that append rows to a KV cache: copied, or encoded in a format.

A row is encoded into a scratch of one word a code and then packed, eight codes at a time, so that
blocks may begin anywhere in a pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.bindings import ir
from ...dialects.formats import Format
from ...dialects.formats.definition import Minifloat
from ...dialects.rounding.blocks import encoded
from ...dialects.rounding.elements import EXPONENT_BITS, SIGN_BIT, bits_of
from ...dialects.rounding.scales import Scaling
from .decode import stored_type
from .emit import (
    LANES,
    Ptr,
    Val,
    constant,
    f32,
    float_to_signed,
    floats,
    i8,
    i16,
    i32,
    i64,
    lane_constants,
    lane_max,
    lane_or,
    maximum,
    read,
    reinterpret,
    repeat,
    select,
    size,
    splat,
    truncate,
    vectors,
    widen,
    words,
    write,
)
from .library import Arguments, KernelLibrary, scratch
from .round_rows import BlockScaling, Length, Rounding, load, store, walk

ARGUMENTS = 4


def append_launcher(library: KernelLibrary, depth: int) -> str:
    """
    The launcher that copies rows of `depth` floats into a cache.

    Arguments: rows, rows a plane, the first free row, the capacity in rows, the cache; total is
    the number of planes (batch * heads).
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        rows, cache = arguments.address(0, f32()), arguments.address(ARGUMENTS, f32())
        count, past, capacity = (arguments.integer(index) for index in range(1, ARGUMENTS))

        @repeat(begin, end)
        def _(plane: Val) -> None:
            @repeat(0, count)
            def _(row: Val) -> None:
                source = rows.at((plane * count + row) * depth)
                target = cache.at((plane * capacity + past + row) * depth)
                for k, lanes in vectors(depth):
                    write(target, k, lanes, read(source, k, lanes))

    return library.launcher(f"append {depth}", ARGUMENTS + 1, emit)


def encode_launcher(library: KernelLibrary, fmt: Format, depth: int) -> str:
    """
    The launcher that encodes rows of `depth` floats into the parts of a cache.

    Arguments as for `append_launcher`, with the parts of the format in the cache's place, and
    then the marks: one i64 a plane, 1 + the first position whose row is not finite, 0 without one.
    """
    parts = fmt.part_specs(1, depth)

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Encoding(fmt, depth, arguments).run(begin, end)

    return library.launcher(f"encode {depth} {fmt.spelling}", ARGUMENTS + len(parts) + 1, emit)


class _Encoding:
    """Emission of the body that encodes rows."""

    def __init__(self, fmt: Format, depth: int, arguments: Arguments) -> None:
        self.format, self.depth = fmt, depth
        self.specs = fmt.part_specs(1, depth)
        self.rows = arguments.address(0, f32())
        self.count, self.past, self.capacity = (arguments.integer(index) for index in (1, 2, 3))
        self.parts = {
            role: arguments.address(ARGUMENTS + index, stored_type(kind))
            for index, (role, (_, kind)) in enumerate(self.specs.items())
        }
        self.marks = arguments.address(ARGUMENTS + len(self.specs), i64())
        self.scaling = BlockScaling(Rounding(fmt, depth))

    def run(self, begin: Val, end: Val) -> None:
        last_vector = (self.depth - 1) // LANES * LANES
        values, codes = scratch(last_vector + LANES), scratch(last_vector + LANES)
        codes.at(last_vector).store(splat(0.0))  # the codes that pad a row are zero

        @repeat(begin, end)
        def _(plane: Val) -> None:
            marked = self.marks.at(plane).load()
            outlived = marked.compare("gt", self.past)

            @repeat(0, self.count, carry=(select(outlived, size(0), marked),))
            def mark(row: Val, mark: Val) -> Val:
                position = self.past + row
                target = plane * self.capacity + position
                finite = self._copy_finite(
                    self.rows.at((plane * self.count + row) * self.depth), values
                )
                self._encode_row(values, codes, target)
                self._pack_row(codes, target)
                bad = (finite & self._codes_finite(codes)).compare("eq", 0)
                return select(bad & mark.compare("eq", 0), position + 1, mark)

            self.marks.at(plane).store(mark[0])

    def _copy_finite(self, x: Ptr, values: Ptr) -> Val:
        """
        The row with zeros for what is not finite; 1 (i32) if all of it is, else 0.

        Zeros, because a query that does not see the row multiplies it by zero nevertheless.
        """

        def copy(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
            value = load(x.at(k), mask)
            magnitude = bits_of(value) & ~SIGN_BIT
            kept = select(magnitude.compare("lt", EXPONENT_BITS), value, splat(0.0))
            store(values.at(k), mask, kept)
            return [maximum(magnitude, carried[0])]

        (largest,) = walk(self.depth, copy, [constant(0, words())])
        return widen(lane_max(largest).compare("lt", EXPONENT_BITS), i32())

    def _codes_finite(self, codes: Ptr) -> Val:
        """1 (i32) if no code of the row means infinity, else 0."""
        element = self.format.element
        if not isinstance(element, Minifloat) or element.overflow != "infinity":
            return constant(1, i32())

        def widest(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
            magnitude = bits_of(load(codes.at(k), mask)) & ((1 << (element.bits - 1)) - 1)
            return [maximum(magnitude, carried[0])]

        (largest,) = walk(self.depth, widest, [constant(0, words())])
        return widen(lane_max(largest).compare("le", element.max_code), i32())

    def _encode_row(self, x: Ptr, codes: Ptr, row: Val) -> None:
        """Codes to the scratch, scales to the cache."""

        def encode_block(start: Val, length: Length, scaling: Scaling) -> None:
            source, target, wide = x.at(start), codes.at(start), scaling.widened(LANES)

            def encode_one(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
                found = encoded(self.format, load(source.at(k), mask), wide)
                store(target.at(k), mask, reinterpret(found, f32()))
                return carried

            walk(length, encode_one)
            self._store_scales(row, start, scaling)

        self.scaling.each_block(x, self.depth, encode_block)

    def _store_scales(self, row: Val, start: Val, scaling: Scaling) -> None:
        block = self.format.block_size
        position = start // block if isinstance(block, int) else size(0)
        stored = {
            scale.role: factor.stored
            for scale, factor in zip(self.format.block_scales, scaling.factors, strict=True)
        }
        if scaling.zero_point is not None:
            stored["zero_point"] = float_to_signed(scaling.zero_point, i32())
        for role, value in stored.items():
            (_, columns), kind = self.specs[role]
            self.parts[role].at(row * columns + position).store(_as_stored(value, kind))

    def _pack_row(self, codes: Ptr, row: Val) -> None:
        width = self.specs["codes"][0][1]
        target, bits = self.parts["codes"].at(row * width), self.format.stored_bits

        @repeat(0, self.depth, LANES)
        def _(k: Val) -> None:
            lanes_of_codes = bits_of(codes.at(k).load(floats()))
            _store_pack(target.at((k >> 3) * bits), lanes_of_codes, bits)


def _as_stored(value: Val, kind: np.dtype) -> Val:
    return value if kind == np.float32 else truncate(value, stored_type(kind))


def _store_pack(target: Ptr, codes: Val, bits: int) -> None:
    """Eight codes of `bits` bits each as `bits` bytes, the first code in the lowest bits."""
    if bits >= 8:
        kind = {8: i8, 16: i16, 32: i32}[bits]()
        target.store(codes if bits == 32 else truncate(codes, kind))
        return
    shifts = lane_constants([lane * bits for lane in range(LANES)], i64())
    pack, done = lane_or(widen(codes, i64()) << shifts), 0
    for piece in (4, 2, 1):
        if bits & piece:
            kind = ir.IntegerType.get_signless(8 * piece)
            target.at(done).store(truncate(pack >> (8 * done), kind))
            done += piece
