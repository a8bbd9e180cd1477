"""How warps get their tiles, from global or shared memory, and how they put them back."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..formats import parse_spelling
from .decode_rules import decode_program
from .dialect import Tile, element_bytes, tensor_of
from .warp_memory import is_bulk

STORES = ("each", "pairs", "words")


class ViewOp(Tile.Operation, name="view", traits=[ext.Pure]):
    """A tensor argument, now known to have `rows` rows."""

    source: Operand[Any]
    rows: Operand[Any]
    view: Result[Any]


class RowsOp(Tile.Operation, name="rows"):
    """
    tile[i, j] = source[first + i, column + j] where i < count and j is inside, else 0.

    Asynchronous as `tile.copy` is, unless the element type changes: f32 is rounded to f16 or bf16.
    With `pieces` = [size, jump], columns come in pieces of `size` that lie `jump` apart in the
    source: j stands for j / size * jump + j mod size. With `bulk`, hardware copies whole rows
    (sm_90): all of the tile must be inside then, and each row has whole vectors of 16 bytes.
    """

    source: Operand[Any]
    first: Operand[Any]
    column: Operand[Any]
    count: Operand[Any]
    cache: ir.StringAttr
    tile: Result[Any]
    pieces: Any = ext.attribute(default_factory=lambda: ir.DenseI64ArrayAttr.get([]))
    bulk: Any = ext.attribute(default_factory=lambda: ir.BoolAttr.get(False))

    def verify_invariants(self) -> bool:
        kinds = [str(tensor_of(each.type).element_type) for each in (self.source, self.tile)]
        if kinds[0] != kinds[1] and kinds not in (["f32", "f16"], ["f32", "bf16"]):
            self.location.emit_error(f"tile.rows does not make {kinds[1]} of {kinds[0]}")
            return False
        if is_bulk(self) and (kinds[0] != kinds[1] or len(self.pieces) or _cut_vectors(self)):
            self.location.emit_error("tile.rows: bulk copies have whole rows of vectors, unchanged")
            return False
        return True


def _cut_vectors(op: RowsOp) -> bool:
    tile = tensor_of(op.tile.type)
    return bool(tile.shape[1] * element_bytes(tile.element_type) % 16)


class PatchesOp(Tile.Operation, name="patches"):
    """
    Columns k … of the windows of output pixels, one pixel a row: implicit im2col.

    tile[i, j] = source[image, channel, y, x], zero outside of the image and for i >= count. Output
    pixel first + i is (image, oy, ox) in an output of `out_height` x `out_width`; column k + j is
    (tap, c), the channels innermost if `by_tap`, else the taps; channel = first_channel + c,
    y = oy * stride + tap_y * dilation - padding, and x likewise. With `groups` = [size, padded],
    columns are counted with groups of `size` padded by zeros to `padded`.

    Channels of the source lie in blocks of `block`: [images, channels / block, height, width,
    block]; one block is NHWC, blocks of one are NCHW. With `images` = n, images lie in blocks too:
    [images / n, channels / block, height, width, n, block], and so do output pixels. Rows of pixels
    are padded to a multiple of `row_multiple`. The source is a view of one column. Where an element
    of memory holds two channels, all numbers of channels and columns count elements.

    With `image`, `top` and `left`, windows begin there: at block `image` of n images, and with
    oy + top and ox + left in place of oy and ox.
    """

    source: Operand[Any]
    first: Operand[Any]
    count: Operand[Any]
    k: Operand[Any]
    first_channel: Operand[Any]
    height: Operand[Any]
    width: Operand[Any]
    out_height: Operand[Any]
    out_width: Operand[Any]
    window: ir.DictAttr
    tile: Result[Any]
    image: Optional[Operand[Any]] = None
    top: Optional[Operand[Any]] = None
    left: Optional[Operand[Any]] = None


class PickOp(Tile.Operation, name="pick"):
    """
    fragment[w, i, j] = source[row + i, column + j] where row + i < limit and j is inside, else 0.

    Straight from global memory. f32 is rounded to the type of an operand.
    """

    source: Operand[Any]
    row: Operand[Any]
    column: Operand[Any]
    limit: Operand[Any]
    fragment: Result[Any]


class OperandOp(Tile.Operation, name="operand"):
    """
    fragment[w, i, j] = tile[row + i, column + j], or tile[row + j, column + i] if `order` is
    "transposed" and not "straight".

    An operand out of shared memory, read where it is multiplied. Of an operand of 4 bits, a tile of
    bytes holds two columns in each, the first one lower; `column` counts bytes.
    """

    tile: Operand[Any]
    row: Operand[Any]
    column: Operand[Any]
    order: ir.StringAttr
    fragment: Result[Any]


class WindowsOp(Tile.Operation, name="windows"):
    """
    fragment[w, i, j] = tile[place(row + i) + shift, column + j]: a left operand out of pixels.

    The tile holds a rectangle of pixels, `columns` wide, n = `images` side by side in each, and
    output pixels are numbered in a rectangle `width` wide: place(m) is where the window of pixel m
    begins, (m / (width n) * stride_y * columns + m / n mod width * stride_x) * n + m mod n, and
    `shift` what a tap is further. Columns are as in `tile.operand`.
    """

    tile: Operand[Any]
    row: Operand[Any]
    shift: Operand[Any]
    column: Operand[Any]
    width: ir.IntegerAttr
    columns: ir.IntegerAttr
    images: ir.IntegerAttr
    stride: Any
    fragment: Result[Any]


class UnpackOp(Tile.Operation, name="unpack"):
    """
    fragment[w, i, j]: what codes of `format` mean without scales, over the decode program's factor.

    `tile` holds packets of 16 x 64 codes: with `strips` = "rows", packet (i / 16, j / 64) in row
    first + i / 16; with "columns", where first + j / 64 is the row, in column i / 16.
    `zeros` are subtracted: one for each of the rows i, or of the columns j with "columns", down
    column `zero_column` of their tile, or along its row with `zero_along` "row".
    `k` is the column where the fragment begins; `sign` is as in `tile.decode`.
    """

    tile: Operand[Any]
    first: Operand[Any]
    k: Operand[Any]
    strip: Operand[Any]
    format: ir.StringAttr
    sign: ir.StringAttr
    strips: ir.StringAttr
    zero_along: ir.StringAttr
    fragment: Result[Any]
    zeros: Optional[Operand[Any]] = None
    zero_column: Optional[Operand[Any]] = None
    table: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        operand = str(tensor_of(self.fragment.type).element_type)
        try:
            decode_program(parse_spelling(self.format.value), operand)
        except QccError as error:
            self.location.emit_error(f"tile.unpack: {error.what}")
            return False
        return True


class ColumnsOp(Tile.Operation, name="columns"):
    """
    vector[w, j] = tile[row + j, column], as it is stored, or tile[row, column + j] with `along`
    "row" in place of "column".
    """

    tile: Operand[Any]
    row: Operand[Any]
    column: Operand[Any]
    along: ir.StringAttr
    vector: Result[Any]


class SaveOp(Tile.Operation, name="save"):
    """
    target[row + i, column + j] = fragment[w, i, j] where row + i < limit and j is inside.

    A number for each row is stored in column `column`.
    """

    fragment: Operand[Any]
    target: Operand[Any]
    row: Operand[Any]
    column: Operand[Any]
    limit: Operand[Any]


class SaveImageOp(Tile.Operation, name="save_image"):
    """
    target[image, column + j, y, x] = fragment[w, i, j]: row + i is output pixel (image, y, x).

    Where row + i < limit and j < channels; pixels are counted with `images` side by side in each,
    and the target is laid out in blocks as in `tile.patches` with `target_images`. With `bits` = 4,
    two channels are in a byte, the first one lower.

    With `image`, `top` and `left`, row + i counts the pixels of a rectangle, `width` wide and
    `images` deep, that begins there in an output `out_width` wide, `pixels` in all; `limit` is then
    the number of its rows.

    `store` says how lanes, which have two neighbouring channels each, write: "each" by itself,
    "pairs" both at once, "words" those of eight channels after an exchange between four lanes.
    """

    fragment: Operand[Any]
    target: Operand[Any]
    row: Operand[Any]
    limit: Operand[Any]
    column: Operand[Any]
    channels: Operand[Any]
    pixels: Operand[Any]
    all_channels: ir.IntegerAttr
    block: ir.IntegerAttr
    images: ir.IntegerAttr
    target_images: ir.IntegerAttr
    width: ir.IntegerAttr
    bits: ir.IntegerAttr
    store: ir.StringAttr
    image: Optional[Operand[Any]] = None
    top: Optional[Operand[Any]] = None
    left: Optional[Operand[Any]] = None
    out_width: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        if self.store.value not in STORES or self.bits.value not in (4, 8, 16, 32):
            self.location.emit_error(
                f"tile.save_image stores {', '.join(STORES)}, not {self.store.value!r} of "
                f"{self.bits.value} bits"
            )
            return False
        return True


class MoveOp(Tile.Operation, name="move"):
    """
    target[to + i, j] = source[first + i, j] for i < count, rounded to the type of the target.

    With `flags`, flags[to + i, 0] is added: zero, or NaN.
    """

    source: Operand[Any]
    first: Operand[Any]
    target: Operand[Any]
    to: Operand[Any]
    count: Operand[Any]
    flags: Optional[Operand[Any]] = None


class RepackOp(Tile.Operation, name="repack"):
    """
    Rows of codes into a tile of packets, at positions begin … end - 1 of its KEYS positions.

    The codes of position p are those of row first + p - begin of `source`, a byte each, and zeros
    where flags[flag_row + p, 0] is NaN. The tile begins in row `row` of
    `target`; its packets lie by `strips` as in `tile.unpack`. Codes of other positions stay.
    """

    source: Operand[Any]
    first: Operand[Any]
    begin: Operand[Any]
    end: Operand[Any]
    target: Operand[Any]
    row: Operand[Any]
    flags: Operand[Any]
    flag_row: Operand[Any]
    format: ir.StringAttr
    operand: ir.StringAttr
    depth: ir.IntegerAttr
    strips: ir.StringAttr
