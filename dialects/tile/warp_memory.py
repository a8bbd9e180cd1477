"""What a warp kernel holds: shared tiles, fragments in registers, buffers of its loops."""

from math import prod
from typing import Any

from ..bindings import ir
from ..regions import walk
from .dialect import BANK_ROW, BARRIER_BYTES, element_bytes, is_tile, note_of, tensor_of

BOXES = "boxes8"  # the order of tiles that products of warp groups read (dialect.py)
SWIZZLE_ATOM = 8 * BANK_ROW  # bytes of which boxes begin on multiples
ROW_PAD = 16  # bytes behind each row of a shared tile, so that 8 rows lie in different banks
PACKED_CHANNELS = 32  # that four lanes exchange to make words of their own
COPIES = ("tile.rows", "tile.patches")
PLACE = "tile.place"
COMMENT, STAGES, UNROLLED = "comment", "stages", "unrolled"


def row_pitch(tile: ir.Type) -> int:
    """Elements from one row of a shared tile to the next; of boxes, their columns all together."""
    tensor = tensor_of(tile)
    size = element_bytes(tensor.element_type)
    if note_of(tile) == BOXES:
        return tensor.shape[1]
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


def placed_tiles(op: Any) -> list[Any]:
    """The `tile.place` ops of a kernel; their tiles lie before the stages of its loops."""
    return [each for each in walk(op) if each.operation.name == PLACE]


def placed_bytes(op: Any) -> int:
    return sum(tile_bytes(each.tile.type) for each in placed_tiles(op))


def shared_need(op: Any) -> int:
    """Bytes of shared memory of a block, tables of decoding left out."""
    stages, reduced, placed = 0, 0, placed_bytes(op)
    for each in walk(op):
        name = each.operation.name
        if name == "scf.for" and STAGES in each.operation.attributes:
            barriers = BARRIER_BYTES * stages_of(each) * any(map(is_bulk, copies_of(each)))
            stages = max(stages, barriers_place(each) + barriers)
        if name == "tile.reduce" and each.axis.value == "warps":
            held = fragment_numbers(each.fragment.type)
            reduced = max(reduced, op.warps.value * 32 * 4 * held)
    return max(placed + stages, reduced)


def is_bulk(op: Any) -> bool:
    """Whether a copy of a loop is made by hardware, which arrives at a barrier of its stage."""
    return op.operation.name == "tile.rows" and ir.BoolAttr(op.bulk).value


def copies_of(loop: Any) -> list[Any]:
    return [op for op in loop.body.operations if op.operation.name in COPIES]


def stage_places(loop: Any) -> dict[Any, int]:
    """Bytes of a stage that each of its tiles takes, boxes first, up to the next tile or stage."""
    tiles = sorted(
        (op.tile for op in copies_of(loop)), key=lambda tile: note_of(tile.type) != BOXES
    )
    places = {tile: tile_bytes(tile.type) for tile in tiles}
    if tiles and note_of(tiles[0].type) == BOXES:
        places[tiles[-1]] += -sum(places.values()) % SWIZZLE_ATOM
    return places


def barriers_place(loop: Any) -> int:
    """Where the barriers of a loop's stages are: behind these."""
    return stages_of(loop) * sum(stage_places(loop).values())


def stages_of(loop: Any) -> int:
    """Buffers of the tiles of a loop."""
    return ir.IntegerAttr(loop.operation.attributes[STAGES]).value


def carried_registers(inside: list[Any]) -> int:
    """Registers of a lane that live through the largest loop."""
    loops = [each for each in inside if each.operation.name == "scf.for"]
    return max(
        (
            sum(fragment_numbers(v.type) for v in loop.results if is_tile(v.type, "fragment"))
            for loop in loops
        ),
        default=0,
    )
