"""
Ops of kernels whose warps hold a tile each: attention, products of two activations.

The first axis of every fragment counts the warps of the block, so [4, 16, 64] are four tiles of
16 x 64. A number may differ from warp to warp if it follows from `tile.index` "warp".

Loops are `scf.for`. With the attribute `stages`, tiles made inside exist that many times, and an
emitter may fetch those of later rounds ahead: what they are fetched by must follow from the loop's
index. With `unrolled` its extents are constants, and it is written out.
"""

from math import prod
from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..formats import parse_spelling
from ..regions import walk
from .decode_rules import decode_program
from .dialect import Tile, element_bytes, is_tile, tensor_of
from .fragments import INSTRUCTIONS
from .hardware import machine, require_native

ROW_PAD = 16  # bytes behind each row of a shared tile, so that 8 rows lie in different banks
REDUCTIONS = ("max", "add")
COPIES = ("tile.rows", "tile.patches")
STAGES, UNROLLED = "stages", "unrolled"


class WarpKernelOp(Tile.Operation, name="warp_kernel", traits=[ir.IsIsolatedFromAboveTrait]):
    """
    A function that every block of a grid runs, with `warps` warps.

    The body's arguments are tensors in global memory of rows and columns, and i32 numbers, called
    `arguments`. `writes` are the names of those that it writes.
    """

    symbol: ir.StringAttr
    target: ir.StringAttr
    warps: ir.IntegerAttr
    arguments: ir.ArrayAttr
    writes: ir.ArrayAttr
    body: ext.Region

    def verify_invariants(self) -> bool:
        block = self.body.blocks[0]
        if len(block.arguments) != len(self.arguments):
            self.location.emit_error(
                f"tile.warp_kernel: {len(self.arguments)} names for "
                f"{len(block.arguments)} arguments"
            )
            return False
        return _fits(self)


class IndexOp(Tile.Operation, name="index", traits=[ext.Pure]):
    """Which block of the grid this is along `axis`, "x", "y" or "z", or which "warp" of it."""

    axis: ir.StringAttr
    index: Result[Any]


class ViewOp(Tile.Operation, name="view", traits=[ext.Pure]):
    """A tensor argument, now known to have `rows` rows."""

    source: Operand[Any]
    rows: Operand[Any]
    view: Result[Any]


class RowsOp(Tile.Operation, name="rows"):
    """
    tile[i, j] = source[first + i, column + j] where i < count and j is inside, else 0.

    Asynchronous as `tile.copy` is, unless the element type changes: f32 is rounded to f16 or bf16.
    """

    source: Operand[Any]
    first: Operand[Any]
    column: Operand[Any]
    count: Operand[Any]
    cache: ir.StringAttr
    tile: Result[Any]

    def verify_invariants(self) -> bool:
        kinds = [str(tensor_of(each.type).element_type) for each in (self.source, self.tile)]
        if kinds[0] != kinds[1] and kinds not in (["f32", "f16"], ["f32", "bf16"]):
            self.location.emit_error(f"tile.rows does not make {kinds[1]} of {kinds[0]}")
            return False
        return True


class PatchesOp(Tile.Operation, name="patches"):
    """
    Columns k … of the windows of output pixels, one pixel a row: implicit im2col.

    tile[i, j] = source[image, channel, y, x], zero outside of the image and for i >= count. Output
    pixel first + i is (image, oy, ox) in an output of `out_height` x `out_width`; column k + j is
    (tap, c), the channels innermost if `by_tap`, else the taps; channel = first_channel + c,
    y = oy * stride + tap_y * dilation - padding, and x likewise. With `groups` = [size, padded],
    columns are counted with groups of `size` padded by zeros to `padded`.

    Channels of the source lie in blocks of `block`: [images, channels / block, height, width,
    block]; one block is NHWC, blocks of one are NCHW. Rows of pixels are padded to a multiple of
    `row_multiple`. The source is a view of one column.
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

    An operand out of shared memory, read where it is multiplied.
    """

    tile: Operand[Any]
    row: Operand[Any]
    column: Operand[Any]
    order: ir.StringAttr
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


class MultiplyOp(Tile.Operation, name="multiply", traits=[ext.Pure]):
    """
    result[w, i, j] = accumulator[w, i, j] + sum over c of a[w, i, k + c] * b[w, j, c].

    Products exact, sums fp32 in any order, or exact in i32.
    """

    a: Operand[Any]
    b: Operand[Any]
    accumulator: Operand[Any]
    k: Operand[Any]
    instruction: ir.StringAttr
    result: Result[Any]

    def verify_invariants(self) -> bool:
        record = INSTRUCTIONS.get(self.instruction.value)
        if record is None:
            self.location.emit_error(f"tile.multiply: no fragments of {self.instruction.value}")
            return False
        a, b, c = (tensor_of(each.type) for each in (self.a, self.b, self.accumulator))
        uneven = a.shape[1] % record.m or b.shape[1] % 16 or b.shape[2] % record.k
        if uneven or c.shape != [a.shape[0], a.shape[1], b.shape[1]]:
            self.location.emit_error(f"tile.multiply: {record.name} does not make {c} of {a}, {b}")
            return False
        return True


class FillOp(Tile.Operation, name="fill", traits=[ext.Pure]):
    """A fragment of one number."""

    number: ir.FloatAttr
    fragment: Result[Any]


class EachOp(Tile.Operation, name="each"):
    """
    result[w, i, j] = body at [w, i, j], or otherwise[w, i, j] where `condition` is 0.

    The body has scalar ops of arith and math, `tile.at`, `tile.position`, `tile.element` and
    `tile.scale`; numbers from outside are the same everywhere.
    """

    result: Result[Any]
    body: ext.Region
    condition: Optional[Operand[Any]] = None
    otherwise: Optional[Operand[Any]] = None


class AtOp(Tile.Operation, name="at"):
    """
    Inside `tile.each`: fragment[w, i, j] at the place of the result.

    Fragments may have fewer axes than it: "rows" one number for each i, "columns" for each j,
    "one" for each w.
    """

    fragment: Operand[Any]
    element: Result[Any]


class PositionOp(Tile.Operation, name="position", traits=[ext.Pure]):
    """Inside `tile.each`: i for `axis` "row", j for "column", both in the tile of the warp."""

    axis: ir.StringAttr
    index: Result[Any]


class ElementOp(Tile.Operation, name="element"):
    """Inside `tile.each`: the element of a view at `index`, all its rows one behind the other."""

    source: Operand[Any]
    index: Operand[Any]
    element: Result[Any]


class ScaleOp(Tile.Operation, name="scale", traits=[ext.Pure]):
    """Inside `tile.each`: a stored scale as fp32; `kind` is that of ScaleDecoding."""

    stored: Operand[Any]
    kind: ir.StringAttr
    value: Result[Any]


class ReduceOp(Tile.Operation, name="reduce"):
    """
    The largest or the sum ("max", "add") of `initial` and a fragment along `axis`.

    "columns" makes "rows" of a tile, and "one" of "columns". "warps" leaves the shape: every warp
    then holds what all of them together have, added in their order.
    """

    fragment: Operand[Any]
    kind: ir.StringAttr
    axis: ir.StringAttr
    result: Result[Any]
    initial: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        if self.kind.value not in REDUCTIONS or self.axis.value not in ("columns", "warps"):
            self.location.emit_error(
                f"tile.reduce has no {self.kind.value} along {self.axis.value}; it has "
                f"{', '.join(REDUCTIONS)} along columns and warps"
            )
            return False
        return True


class ConvertOp(Tile.Operation, name="convert", traits=[ext.Pure]):
    """An accumulator [w, i, k] as a left operand, rounded to its type: it stays in its lanes."""

    fragment: Operand[Any]
    result: Result[Any]


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

    Where row + i < limit and j < channels; the target is laid out in blocks as in `tile.patches`.
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


class SyncOp(Tile.Operation, name="sync"):
    """What threads of a block have written is seen by all of them."""


def row_pitch(tile: ir.Type) -> int:
    """Elements from one row of a shared tile to the next."""
    tensor = tensor_of(tile)
    size = element_bytes(tensor.element_type)
    if str(tensor.element_type) not in ("f16", "bf16", "i8"):
        return tensor.shape[1]
    return tensor.shape[1] + ROW_PAD // size


def tile_bytes(tile: ir.Type) -> int:
    """Bytes of a shared tile, a multiple of 16."""
    tensor = tensor_of(tile)
    size = tensor.shape[0] * row_pitch(tile) * element_bytes(tensor.element_type)
    return -(-size // 16) * 16


def fragment_numbers(type_: ir.Type) -> int:
    """32-bit registers of a lane that hold a fragment."""
    tensor = tensor_of(type_)
    lanes = 32 if len(tensor.shape) == 3 else 8
    count = prod(tensor.shape[1:])
    return max(1, count * element_bytes(tensor.element_type) // 4 // lanes)


def _fits(op: WarpKernelOp) -> bool:
    """Verifier part: what the target holds, and which instructions it has."""
    inside = walk(op)
    try:
        device = machine(op.target.value)
        for each in inside:
            if each.operation.name == "tile.multiply":
                require_native(device.name, each.instruction.value)
    except QccError as error:
        op.location.emit_error(f"tile.warp_kernel: {error.what}; {error.next_step}")
        return False
    threads = 32 * op.warps.value
    for what, need, most in (
        ("threads", threads, device.threads_per_block),
        ("bytes of shared memory", shared_need(op), device.shared_per_block),
        ("carried registers", _carried(inside) * threads, device.registers_per_processor),
    ):
        if need > most:
            op.location.emit_error(
                f"tile.warp_kernel: {need} {what} exceed the {most} of {device.name}"
            )
            return False
    return True


def shared_need(op: Any) -> int:
    """Bytes of shared memory of a block, tables of decoding left out."""
    stages, reduced = 0, 0
    for each in walk(op):
        name = each.operation.name
        if name == "scf.for" and STAGES in each.operation.attributes:
            tiles = [c for c in each.body.operations if c.operation.name in COPIES]
            stages = max(stages, stages_of(each) * sum(tile_bytes(c.tile.type) for c in tiles))
        if name == "tile.reduce" and each.axis.value == "warps":
            held = fragment_numbers(each.fragment.type)
            reduced = max(reduced, op.warps.value * 32 * 4 * held)
    return max(stages, reduced)


def stages_of(loop: Any) -> int:
    """Buffers of the tiles of a loop."""
    return ir.IntegerAttr(loop.operation.attributes[STAGES]).value


def _carried(inside: list[Any]) -> int:
    """Registers of a lane that live through the largest loop."""
    loops = [each for each in inside if each.operation.name == "scf.for"]
    return max(
        (
            sum(fragment_numbers(v.type) for v in loop.results if is_tile(v.type, "fragment"))
            for loop in loops
        ),
        default=0,
    )
