"""
The kernels of quantization: y = decode(encode(x)) for rows of fp32, block by block.

A block is read twice: once for its extent, from which its scales are derived, and once to round
its elements; nothing but fp32 values reaches memory. Scales of the whole tensor need a kernel
before that, which leaves the extents of a fixed number of pieces; each thread of the rounding
kernel then folds those few numbers. Maxima are exact, so neither the number of threads nor the
order of their work shows in a result. Where the tensor's range is known beforehand, its scales
are too: they come from a constant table, and the values are read once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dialects.rounding.blocks import rounded
from ...dialects.rounding.elements import keep_non_finite
from ...dialects.rounding.scales import Extent, Scaling
from .emit import LANES, Ptr, Val, f32, minimum, repeat
from .library import Arguments, KernelLibrary
from .round_rows import BlockScaling, Length, Rounding, extent_of, load, store, walk

PIECES = 64


def rounding_launcher(library: KernelLibrary, rounding: Rounding) -> str:
    """
    Arguments: x, y, the row length, what is known of the tensor; total is the number of rows.

    The last argument is the address of `static_numbers` where the rounding is static, else of
    the extents of the tensor's pieces (0 where not needed).
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, y, known = (arguments.address(index, f32()) for index in (0, 1, 3))
        length = arguments.integer(2) if rounding.row is None else rounding.row
        scales = block_scaling(rounding, known)

        @repeat(begin, end)
        def _(row: Val) -> None:
            _round_row(scales, x.at(row * length), y.at(row * length), length)

    return library.launcher(rounding.key, 4, emit)


def extent_launcher(library: KernelLibrary) -> str:
    """
    Arguments: x, the extents to write, the number of elements of x; total is PIECES.

    Piece p's largest magnitudes below and above zero go to places p and PIECES + p.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, pieces = arguments.address(0, f32()), arguments.address(1, f32())
        count = arguments.integer(2)
        step = (count + (PIECES * LANES - 1)) // (PIECES * LANES) * LANES

        @repeat(begin, end)
        def _(piece: Val) -> None:
            start = minimum(piece * step, count)
            length = minimum(count - start, step)
            extent = extent_of(x.at(start), length, magnitudes_only=False)
            pieces.at(piece).store(extent.low)
            pieces.at(piece + PIECES).store(extent.high)

    return library.launcher("extent", 3, emit)


def _round_row(scales: BlockScaling, x: Ptr, y: Ptr, length: Length) -> None:
    def round_block(start: Val, length: Length, scaling: Scaling) -> None:
        source, target, wide = x.at(start), y.at(start), scaling.widened(LANES)

        def round_one(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
            values = load(source.at(k), mask)
            nearest = keep_non_finite(values, rounded(scales.format, values, wide))
            store(target.at(k), mask, nearest)
            return carried

        walk(length, round_one)

    scales.each_block(x, length, round_block)


def block_scaling(rounding: Rounding, known: Ptr) -> BlockScaling:
    if rounding.static:
        return BlockScaling(rounding, numbers=known)
    return BlockScaling(rounding, _tensor_extent(known) if rounding.reads_tensor else None)


def _tensor_extent(pieces: Ptr) -> Extent:
    return Extent(
        extent_of(pieces, PIECES, magnitudes_only=True).high,
        extent_of(pieces.at(PIECES), PIECES, magnitudes_only=True).high,
    )
