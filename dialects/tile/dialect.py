"""The `tile` dialect: kernels over the tiles of a block, in global, shared and register memory."""

from math import prod

from ..bindings import ext, ir

BANK_ROW = 128  # bytes: 32 banks of 4
BARRIER_BYTES = 8  # of an mbarrier


class Tile(ext.Dialect, name="tile"):
    """One block of a kernel; ops speak of its whole tiles, lanes appear only in the emitter."""


class GlobalType(Tile.Type, name="global"):
    """An argument in device memory, row-major: `!tile.global<tensor<?x4096xf16>>`."""

    tensor: ir.TypeAttr


class SharedType(Tile.Type, name="shared"):
    """
    A tile in shared memory: `!tile.shared<tensor<16x64xf16>, "swizzle8">`.

    `order` is "rows", or "swizzle<p>": the 16-byte vectors of a row are exchanged by row mod p.
    "boxes8" is "swizzle8" in boxes of 128 bytes of the rows, one behind the other.
    """

    tensor: ir.TypeAttr
    order: ir.StringAttr


class FragmentType(Tile.Type, name="fragment"):
    """
    A tile in the registers of all warps: `!tile.fragment<tensor<64x16xf32>, "c">`.

    `role` is that of a matrix instruction's operand, "a", "b" or "c".
    """

    tensor: ir.TypeAttr
    role: ir.StringAttr


def global_of(tensor: ir.Type) -> ir.Type:
    return GlobalType.get(ir.TypeAttr.get(tensor))


def shared_of(tensor: ir.Type, order: str) -> ir.Type:
    return SharedType.get(ir.TypeAttr.get(tensor), ir.StringAttr.get(order))


def fragment_of(tensor: ir.Type, role: str) -> ir.Type:
    return FragmentType.get(ir.TypeAttr.get(tensor), ir.StringAttr.get(role))


def tensor_of(type_: ir.Type) -> ir.RankedTensorType:
    """The tensor in a tile type."""
    return ir.RankedTensorType(ir.TypeAttr(ir.DynamicType(type_).params[0]).value)


def note_of(type_: ir.Type) -> str:
    """The order of a shared tile, the role of a fragment."""
    return ir.StringAttr(ir.DynamicType(type_).params[1]).value


def is_tile(type_: ir.Type, kind: str) -> bool:
    return str(type_).startswith(f"!tile.{kind}<")


def swizzle_period(order: str) -> int:
    """
    Rows after which the exchange of vectors repeats; 1 without one.

    >>> swizzle_period("rows"), swizzle_period("swizzle8")
    (1, 8)
    """
    return 1 if order == "rows" else int(order.removeprefix("swizzle").removeprefix("boxes"))


def element_bytes(type_: ir.Type) -> int:
    """Bytes of an element; all have whole ones."""
    if isinstance(type_, ir.IntegerType):
        return type_.width // 8
    return {"f32": 4, "f16": 2, "bf16": 2}.get(str(type_), 1)


def shared_size(type_: ir.Type) -> int:
    """Bytes of a shared tile, in whole rows of banks."""
    tensor = tensor_of(type_)
    size = prod(tensor.shape) * element_bytes(tensor.element_type)
    return -(-size // BANK_ROW) * BANK_ROW
