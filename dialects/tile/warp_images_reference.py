"""The NumPy meaning of the ops of warps that read windows of images and write images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..bindings import ir
from .dialect import tensor_of
from .warp_block import Array, Block, rounded, shape_of
from .warp_movement_reference import operand_columns

WINDOW_LISTS = ("taps", "stride", "padding", "dilation", "groups")
WINDOW_NUMBERS = ("channels", "all_channels", "block", "by_tap", "k", "row_multiple", "images")


def _patches(block: Block, op: Any) -> Array:
    w = {name: list(ir.DenseI64ArrayAttr(op.window[name])) for name in WINDOW_LISTS}
    n = {name: ir.IntegerAttr(op.window[name]).value for name in WINDOW_NUMBERS}
    given = (op.first, op.count, op.k, op.first_channel, op.height, op.width, op.out_height,
             op.out_width)  # fmt: skip
    first, count, k, first_channel, height, width, out_height, out_width = (
        int(block.get(v)) for v in given
    )
    image0, top, left = (0 if v is None else int(block.get(v)) for v in (op.image, op.top, op.left))
    rows, columns = shape_of(op.tile.type)
    pitch = -(-width // n["row_multiple"]) * n["row_multiple"]
    images = block.get(op.source).reshape(
        -1, n["all_channels"] // n["block"], height, pitch, n["images"], n["block"]
    )
    pixel, stored = first + np.arange(rows)[:, None], k + np.arange(columns)[None]
    at, valid = stored, (stored < n["k"]) & (np.arange(rows)[:, None] < count)
    if w["groups"]:
        size, padded = w["groups"]
        at, valid = stored // padded * size + stored % padded, valid & (stored % padded < size)
    taps = w["taps"][0] * w["taps"][1]
    tap, channel = divmod(at, n["channels"]) if n["by_tap"] else divmod(at, taps)[::-1]
    pixel, inner = divmod(pixel, n["images"])
    image, rest = divmod(pixel, out_height * out_width)
    y = (
        rest // out_width * w["stride"][0]
        - w["padding"][0]
        + tap // w["taps"][1] * w["dilation"][0]
    )
    x = rest % out_width * w["stride"][1] - w["padding"][1]
    x = x + tap % w["taps"][1] * w["dilation"][1]
    image, y, x = image + image0, y + top, x + left
    valid = valid & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = [np.where(valid, v, 0) for v in (image, first_channel + channel, y, x, inner)]
    image, channel, y, x, inner = index
    found = images[image, channel // n["block"], y, x, inner, channel % n["block"]]
    tile = np.where(valid, found, np.zeros((), images.dtype))
    kind = str(tensor_of(op.tile.type).element_type)
    return tile if str(tensor_of(op.source.type).element_type) == kind else rounded(tile, kind)


def _save_image(block: Block, op: Any) -> None:
    per_byte = 2 if op.bits.value == 4 else 1
    size, all_, n = op.block.value, op.all_channels.value, op.target_images.value
    pixels, target = int(block.get(op.pixels)), block.get(op.target)
    images = target.reshape(-1, all_ // size, pixels, n, size // per_byte)
    numbers = (block.number(v) for v in (op.row, op.limit, op.column, op.channels))
    for tile, row, limit, column, channels in zip(block.get(op.fragment), *numbers, strict=True):
        image, at, inside = _results_of(block, op, row + np.arange(len(tile)), int(limit))
        held = tile[inside][:, : max(0, channels)]
        if per_byte == 2:
            held = (held[:, ::2] & 15) | held[:, 1::2] << 4
        channel = column // per_byte + np.arange(held.shape[1])[None]
        image, at = image[inside][:, None], at[inside][:, None]
        images[image // n, channel * per_byte // size, at, image % n,
               channel % (size // per_byte)] = held  # fmt: skip


def _results_of(block: Block, op: Any, row: Array, limit: int) -> tuple[Array, Array, Array]:
    """The image and the place in it of each row of a result, and whether it has one."""
    n, pixels = op.images.value, int(block.get(op.pixels))
    if not op.width.value:
        pixel, inner = divmod(row, n)
        return pixel // pixels * n + inner, pixel % pixels, row < limit
    across = int(block.get(op.out_width))
    pixel, inner = divmod(row, n)
    y = int(block.get(op.top)) + pixel // op.width.value
    x = int(block.get(op.left)) + pixel % op.width.value
    image = int(block.get(op.image)) * n + inner
    return image, y * across + x, (y < limit) & (x < across)


def _windows(block: Block, op: Any) -> Array:
    tile, (_, rows, columns) = operand_columns(block, op), shape_of(op.fragment.type)
    n, width = op.images.value, op.width.value
    down, right = ir.DenseI64ArrayAttr(op.stride)
    found = []
    numbers = (block.number(v) for v in (op.row, op.shift, op.column))
    for row, shift, column in zip(*numbers, strict=True):
        pixel, inner = divmod(row + np.arange(rows), n)
        place = pixel // width * down * op.columns.value + pixel % width * right
        first = column * (tile.shape[1] // block.get(op.tile).shape[1])
        found.append(tile[place * n + inner + shift][:, first : first + columns])
    return np.stack(found).astype(np.float64)


IMAGES: dict[str, Callable[[Block, Any], Any]] = {
    "tile.patches": _patches,
    "tile.windows": _windows,
    "tile.save_image": _save_image,
}
