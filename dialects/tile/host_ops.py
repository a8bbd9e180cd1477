"""
Ops of the host function: launches, what kernels are given, what they make, memory of caches.

    %x = tile.pointer %0                 : !tile.argument
    %y = tile.result {index = 0}          : !tile.argument
    %n = tile.number %tokens {kind = "i32"}
    %l = tile.launch [%gx, %gy, %gz], [%x, %y, %n] {kernel = "linear_int4_0", threads = 128 …}
    %1 = tile.made %l, [%tokens] {index = 0} : tensor<?x48xf16>

Sizes are of type `index`, and computed from the sizes and the integer scalars that the function
takes. Tensors are contiguous, rows first. Launches run in program order.
"""

from collections.abc import Sequence
from typing import Any

from ..bindings import Operand, Result, ext, ir
from .dialect import Tile

NUMBER_KINDS = ("i32", "i64", "f32", "f64")


class ArgumentType(Tile.Type, name="argument"):
    """What one parameter of a kernel is given: a pointer, or a number."""


class LaunchedType(Tile.Type, name="launched"):
    """A launch, as the values that it makes name it."""


class PointerOp(Tile.Operation, name="pointer", traits=[ext.Pure]):
    """
    A pointer to `source`: a tensor, or of a packed value the part that `part` names.

    A cache may be written through it, other values may not.
    """

    source: Operand[Any]
    part: ir.StringAttr
    argument: Result[Any]


class TensorMapOp(Tile.Operation, name="tensor_map", traits=[ext.Pure]):
    """
    `source` as a tensor of `rows` by `columns` elements of `element_bytes`, for tensor copies.

    A copy brings a `box` of rows and columns, zeros from outside; chunks of 16 bytes are exchanged
    within `swizzle` bytes. `part` is as of `tile.pointer`.
    """

    source: Operand[Any]
    rows: Operand[Any]
    part: ir.StringAttr
    columns: ir.IntegerAttr
    element_bytes: ir.IntegerAttr
    box: Any
    swizzle: ir.IntegerAttr
    argument: Result[Any]


class ResultOp(Tile.Operation, name="result", traits=[ext.Pure]):
    """A pointer to what the launch makes as `tile.made` `index`, or to its part `part`."""

    index: ir.IntegerAttr
    part: ir.StringAttr
    argument: Result[Any]


class ScratchOp(Tile.Operation, name="scratch", traits=[ext.Pure]):
    """A pointer to `size` bytes of the launch alone."""

    size: Operand[Any]
    argument: Result[Any]


class CountersOp(Tile.Operation, name="counters", traits=[ext.Pure]):
    """A pointer to `size` bytes that are zeros before the launch; the kernel leaves zeros."""

    size: Operand[Any]
    argument: Result[Any]


class NumberOp(Tile.Operation, name="number", traits=[ext.Pure]):
    """A size, or a constant of a float type, by value: `kind` is the type of the parameter."""

    value: Operand[Any]
    kind: ir.StringAttr
    argument: Result[Any]

    def verify_invariants(self) -> bool:
        known = self.kind.value in NUMBER_KINDS
        if not known:
            self.location.emit_error(
                f"tile.number: no parameter is {self.kind.value!r}, only {', '.join(NUMBER_KINDS)}"
            )
        return known


class LaunchOp(Tile.Operation, name="launch"):
    """
    The kernel `kernel` on grid blocks of `threads` threads with `arguments` in its order.

    A grid with a size of 0 launches nothing.
    """

    grid: Sequence[Operand[Any]]
    arguments: Sequence[Operand[Any]]
    kernel: ir.StringAttr
    threads: ir.IntegerAttr
    shared_bytes: ir.IntegerAttr
    launched: Result[Any]

    def verify_invariants(self) -> bool:
        if len(self.grid) != 3:
            self.location.emit_error(f"tile.launch: a grid has 3 sizes, not {len(self.grid)}")
        return len(self.grid) == 3


class MadeOp(Tile.Operation, name="made", traits=[ext.Pure]):
    """What a launch made, where `tile.result` `index` points; `extents` are its dynamic sizes."""

    launched: Operand[Any]
    extents: Sequence[Operand[Any]]
    index: ir.IntegerAttr
    value: Result[Any]


class CacheOp(Tile.Operation, name="cache"):
    """
    Memory that outlives the call, by name: zeros at first, then what launches left there.

    `extents` are its dynamic sizes; axis `grows` is that of positions, `tile.capacity` long.
    """

    extents: Sequence[Operand[Any]]
    symbol: ir.StringAttr
    grows: ir.IntegerAttr
    value: Result[Any]


class ProcessorsOp(Tile.Operation, name="processors", traits=[ext.Pure]):
    """How many multiprocessors the device has."""

    value: Result[Any]


class CapacityOp(Tile.Operation, name="capacity", traits=[ext.Pure]):
    """How many positions caches have room for; the caller decides."""

    value: Result[Any]
