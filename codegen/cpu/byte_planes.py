"""
Images rounded to integers: planes of four channels, for convolutions by byte dot products.

    x f32 [N, C, H, W]   =>   planes i32 [N, planes, H + 2p, pitch], a byte a channel;
                              scales f32 [N, H + 2p]

A byte is the code plus 128, so that it has no sign; borders and missing channels hold the code 0.
The scale is the whole tensor's, repeated for each row: a row with a value that is not finite has
the scale NaN, and so has every output that reads the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.formats import Format
from ...dialects.formats.definition import Integer
from ...dialects.rounding.blocks import encoded
from ...dialects.rounding.scales import Scaling
from .emit import (
    LANES,
    Ptr,
    Val,
    branch,
    constant,
    f32,
    i32,
    lane_sum,
    repeat,
    size,
    splat,
    words,
)
from .library import Arguments, KernelLibrary
from .round_kernel import block_scaling
from .round_rows import Rounding, load, store, walk

CHANNELS = 4
ZERO_POINT = 128
ZERO_WORD = -0x7F7F7F80  # four bytes of 128


@dataclass(frozen=True, slots=True)
class BytePlanes:
    """
    How images of `channels` become planes; `unit` channels at a time have bytes.

    `padding` is (rows, columns); `spare` columns on the right may be read past the border.
    """

    format: Format
    channels: int
    unit: int
    padding: tuple[int, int]
    spare: int
    static: bool

    @property
    def planes(self) -> int:
        return -(-self.channels // self.unit) * self.unit // CHANNELS

    @property
    def rounding(self) -> Rounding:
        return Rounding(self.format, None, self.static)

    @property
    def key(self) -> str:
        return (
            f"byte planes {self.format.spelling} {self.channels} {self.unit} {self.padding} "
            f"{self.spare} {self.static}"
        )

    def rows(self, rows: Val) -> Val:
        return rows + 2 * self.padding[0]

    def pitch(self, columns: Val) -> Val:
        return columns + (2 * self.padding[1] + self.spare)


def byte_planes_launcher(library: KernelLibrary, planes: BytePlanes) -> str:
    """
    Arguments: x, planes, scales, rows, columns, and what is known of the tensor as for
    `rounding_launcher`; total is the number of images times their padded rows.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Body(planes, arguments).run(begin, end)

    return library.launcher(planes.key, 6, emit)


class _Body:
    """Emission of the rounding of rows, all channels of one at a time."""

    def __init__(self, planes: BytePlanes, arguments: Arguments) -> None:
        self.p = planes
        self.x, self.scales = arguments.address(0, f32()), arguments.address(2, f32())
        self.planes = arguments.address(1, i32())
        self.rows, self.columns = arguments.integer(3), arguments.integer(4)
        self.scaling = block_scaling(planes.rounding, arguments.address(5, f32()))

    def run(self, begin: Val, end: Val) -> None:
        padded, pitch = self.p.rows(self.rows), self.p.pitch(self.columns)
        top, left = self.p.padding

        @repeat(begin, end)
        def _(line: Val) -> None:
            image, row = line // padded, line % padded
            inside = row.compare("ge", top) & row.compare("lt", self.rows + top)
            source = self.x.at((image * (self.rows * self.p.channels) + row - top) * self.columns)
            first = self.planes.at((image * (padded * self.p.planes) + row) * pitch)

            @repeat(0, self.p.planes)
            def _(plane: Val) -> None:
                _fill(first.at(plane * padded * pitch), pitch)

            def encode(start: Val, length: Val | int, scaling: Scaling) -> None:
                factor = scaling.factors[0].decode * 2.0**-self._element.fraction_bits
                self.scales.at(line).store(factor)

                def each_plane() -> None:
                    poison = self._planes(source, first.at(left), padded * pitch, scaling)
                    self.scales.at(line).store(factor + poison)

                branch(inside, each_plane)

            self.scaling.each_block(source, self.columns, encode)

    @property
    def _element(self) -> Integer:
        element = self.p.format.element
        assert isinstance(element, Integer)
        return element

    def _planes(self, source: Ptr, target: Ptr, pitch: Val, scaling: Scaling) -> Val:
        """Store one row of every plane; NaN if a value is not finite, else 0."""
        wide, plane, spare = (
            scaling.widened(LANES),
            self.rows * self.columns,
            32 - self.p.format.bits,
        )
        whole, rest = divmod(self.p.channels, CHANNELS)

        def of_plane(index: Val, channels: int, poison: Val) -> Val:
            first = source.at(index * CHANNELS * plane)
            row = target.at(index * pitch)

            def encode(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
                word, (held,) = constant(ZERO_WORD, words()), carried
                for channel in range(channels):
                    values = load(first.at(plane * channel + k), mask)
                    code = (encoded(self.p.format, values, wide) << spare).shift_right_signed(spare)
                    word = word ^ ((code & 0xFF) << (8 * channel))
                    held = held + values * 0.0
                store(row.at(k), mask, word)
                return [held]

            return walk(self.columns, encode, [poison])[0]

        (poison,) = repeat(0, whole, carry=[splat(0.0)])(
            lambda index, held: of_plane(index, CHANNELS, held)
        )
        if rest:
            poison = of_plane(size(whole), rest, poison)
        return lane_sum(poison)


def _fill(target: Ptr, length: Val) -> None:
    empty = constant(ZERO_WORD, words())

    def clear(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        store(target.at(k), mask, empty)
        return carried

    walk(length, clear)
