"""The static geometry of a convolution."""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects import qcc
from ...dialects.bindings import ir
from .emit import Val


@dataclass(frozen=True, slots=True)
class Window:
    """Pairs are (rows, columns)."""

    channels: int  # input channels of a group
    outputs: int  # output channels of a group
    taps: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def key(self) -> str:
        return repr(self)

    @property
    def k(self) -> int:
        return self.channels * self.taps[0] * self.taps[1]

    def output(self, extent: Val, axis: int) -> Val:
        reach = self.dilation[axis] * (self.taps[axis] - 1) + 1
        return (extent + (2 * self.padding[axis] - reach)) // self.stride[axis] + 1


def window_of(op: qcc.Conv2dOp) -> Window:
    shape = qcc.logical_type(op.weight.type).shape
    groups = ir.IntegerAttr(op.groups).value
    return Window(
        channels=shape[1],
        outputs=shape[0] // groups,
        taps=(shape[2], shape[3]),
        stride=_pair(op.stride),
        padding=_pair(op.padding),
        dilation=_pair(op.dilation),
        groups=groups,
    )


def _pair(attribute: ir.Attribute) -> tuple[int, int]:
    rows, columns = ir.DenseI64ArrayAttr(attribute)
    return rows, columns


def static_extent(value: ir.Value, axis: int) -> int | None:
    """The size of one axis of a tensor, None where it is not known."""
    shaped = ir.RankedTensorType(value.type)
    return None if shaped.is_dynamic_dim(axis) else shaped.shape[axis]


def tile_columns(most: int, columns: int | None) -> int:
    """
    Of a row of `columns`: at best the tiles fill it, since the last one computes some again.

    What a tile costs beside its columns is about that of one more.
    """
    if columns is None:
        return most
    if columns <= most:
        return max(1, columns)
    return min(range(most, most // 2, -1), key=lambda count: -(-columns // count) * (count + 1))
