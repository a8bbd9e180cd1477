"""
The launch plan of a program: what a host does to run it, as data.

A plan is read off the host function (read_plan.py), stored as JSON, and executed by the emulator or
through the CUDA driver. It needs neither MLIR nor torch.

    sizes       a table of integer expressions over earlier ones: [op, operands …]
    buffers     what pointers point to, each with its place and its bytes, an index into `sizes`
    steps       launches and copies, in order
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Expression = tuple[Any, ...]

OPERATIONS: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "ceildiv": lambda a, b: -(-a // b),
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
    "eq": lambda a, b: int(a == b),
    "ne": lambda a, b: int(a != b),
    "lt": lambda a, b: int(a < b),
    "le": lambda a, b: int(a <= b),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "select": lambda condition, a, b: a if condition else b,
}
"""
Of integers; divisions are those of numbers that are not negative. Beside them there are

    const N          a number
    input I AXIS     the extent of input I along an axis
    value I          the number in input I, an integer tensor of rank 0
    capacity         the positions that caches have room for
    processors       the multiprocessors of the device
"""


class Buffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Contiguous memory: `place` says whose.

    "input" and "output" `index`; "tensor" `name`, stored in the artifact; "constant" `name`, of the
    plan's own; "cache" `name`; "arena", alive from step `first` to step `last`.
    """

    place: str
    bytes: int
    name: str = ""
    index: int = 0
    first: int = 0
    last: int = 0


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a tensor map says of memory: `sizes[rows]` by `columns` elements of `element_bytes`, copied
    in boxes of so many rows and columns, with chunks exchanged within `swizzle` bytes.
    """

    rows: int
    columns: int
    element_bytes: int
    box: tuple[int, int]
    swizzle: int


class Argument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Of a kernel: a "pointer" `offset` bytes into buffer `index`, or with `box` a tensor map of what
    lies there; "counters" of `sizes[index]` bytes, a "number" `sizes[index]`, or a "float" `value`;
    `type` is that of a number's parameter.
    """

    kind: str
    index: int = 0
    offset: int = 0
    type: str = ""
    value: float = 0.0
    box: Box | None = None


class LaunchStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="launch"):
    """
    A kernel on `grid`, indices into `sizes`, if `sizes[condition]` is not 0.

    `layer` names what it computes, for people.
    """

    kernel: str
    family: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    arguments: tuple[Argument, ...]
    condition: int | None = None
    layer: str = ""


class CopyStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="copy"):
    """All of buffer `target` from buffer `source`, from byte `offset` on."""

    source: int
    target: int
    offset: int
    condition: int | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A result: its element type, its extents, and its buffer."""

    element: str
    extents: tuple[int, ...]
    buffer: int


class CacheSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State of a step: axis `grows` of `extents` is its capacity."""

    name: str
    element: str
    extents: tuple[int, ...]
    grows: int


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    How to run one function of a program; see the head of this file.

    `counts` are the sizes that are numbers of elements and depend on the call.
    """

    sizes: tuple[Expression, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[LaunchStep | CopyStep, ...]
    outputs: tuple[Output, ...]
    caches: tuple[CacheSpec, ...] = ()
    counts: tuple[int, ...] = ()

    def evaluated(
        self,
        shapes: Sequence[Sequence[int]],
        values: Mapping[int, int],
        capacity: int = 0,
        processors: int = 1,
    ) -> list[int]:
        """`sizes` for inputs of these shapes, whose scalars among them have these values."""
        of_device = {"capacity": capacity, "processors": processors}
        known: list[int] = []
        for op, *operands in self.sizes:
            if op == "const":
                known.append(operands[0])
            elif op == "input":
                known.append(shapes[operands[0]][operands[1]])
            elif op == "value":
                known.append(values[operands[0]])
            elif op in of_device:
                known.append(of_device[op])
            else:
                known.append(OPERATIONS[op](*(known[index] for index in operands)))
        return known

    def scalars(self) -> list[int]:
        """The inputs whose values sizes depend on."""
        return [operands[0] for op, *operands in self.sizes if op == "value"]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A program for the machine `target`: its functions by name, the stored tensors it reads.

    `families` are the sources that its kernels stand in.
    """

    target: str
    functions: dict[str, Function]
    tensors: tuple[str, ...]
    families: tuple[str, ...]
