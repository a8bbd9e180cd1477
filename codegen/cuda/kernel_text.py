"""What the rules of one kernel share: names of values, places in shared memory, C++ types."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.formats.packets import PACKET_COLUMNS
from ...dialects.regions import walk
from ...dialects.tile.control import shared_copies
from ...dialects.tile.decode_program import DecodeProgram
from ...dialects.tile.dialect import element_bytes, tensor_of
from ...dialects.tile.launch import SharedPlan, program_of, shared_plan, tensor_boxes
from ...dialects.tile.schedule import Schedule
from ...dialects.tile.tensor_memory import placed_operands
from .decode_text import function_name
from .printer import Printer, divided, linear

DYNAMIC = ir.ShapedType.get_dynamic_size()
C_TYPES = {
    "f32": "float", "f16": "u16", "bf16": "u16", "i32": "s32", "ui32": "u32", "i8": "u8",
    "ui16": "u16", "ui8": "u8", "si8": "s8", "f8E4M3FN": "u8", "f8E5M2": "u8",
}  # fmt: skip


def c_type(element: ir.Type) -> str:
    return C_TYPES[str(element)]


class Functions:
    """Names of decode functions in one source text: one for each program."""

    def __init__(self) -> None:
        self._names: dict[DecodeProgram, str] = {}
        self._taken = Printer()

    def name(self, program: DecodeProgram) -> str:
        if program not in self._names:
            self._names[program] = self._taken.fresh(function_name(program))
        return self._names[program]


@dataclass
class Walk:
    """
    The loops over a packet, as texts of their indices: packet, chunk, unit, step, token.

    A chunk is the columns that share a scale, a unit what a decode program makes at once
    (`columns`), a step one instruction (`depth`). Chunks may be shorter than units. `token` counts
    columns of 8 tokens.
    """

    chunk_columns: int
    columns: int
    depth: int
    packet: str = "0"
    chunk: str = "0"
    unit: str = "0"
    step: str = "0"
    token: str = "0"

    @property
    def units(self) -> int:
        return max(1, self.chunk_columns // self.columns)

    @property
    def steps(self) -> int:
        return min(self.columns, self.chunk_columns) // self.depth

    @property
    def column(self) -> str:
        """Of the step, in the tile."""
        return linear(self.chunk_column, (self.columns, self.unit), (self.depth, self.step))

    @property
    def chunk_column(self) -> str:
        return linear((PACKET_COLUMNS, self.packet), (self.chunk_columns, self.chunk))

    @property
    def unit_of_packet(self) -> str:
        if self.columns <= self.chunk_columns:
            return linear((self.units, self.chunk), self.unit)
        return divided(self.chunk, self.columns // self.chunk_columns)

    @property
    def step_of_unit(self) -> str:
        if self.columns <= self.chunk_columns:
            return self.step
        chunks = self.columns // self.chunk_columns
        within = (
            self.chunk
            if chunks * self.chunk_columns == PACKET_COLUMNS
            else (f"({self.chunk} % {chunks})")
        )
        return linear((self.steps, within), self.step)


@dataclass
class KernelText:
    """A kernel under way to text."""

    out: Printer
    functions: Functions
    op: Any
    schedule: Schedule
    plan: SharedPlan
    names: dict[Any, str] = field(default_factory=dict)
    stage_offsets: dict[Any, int] = field(default_factory=dict)
    walk: Walk = field(default_factory=lambda: Walk(1, 1, 1))
    operand_offsets: dict[Any, int] = field(default_factory=dict)
    element_body: Any = None

    @staticmethod
    def of(out: Printer, functions: Functions, op: Any) -> KernelText:
        text = KernelText(out, functions, op, Schedule.of(op.schedule), shared_plan(op))
        for name, argument in zip(op.arguments, op.body.blocks[0].arguments, strict=True):
            text.names[argument] = ir.StringAttr(name).value
        for copy, offset in zip(shared_copies(op), text.plan.offsets, strict=True):
            text.stage_offsets[copy.tile] = offset
        for (value, _), offset in zip(placed_operands(op), text.plan.operands, strict=True):
            text.operand_offsets[value] = offset
        return text

    def name(self, value: ir.Value) -> str:
        return self.names[value]

    def enter(self, pipeline: Any) -> list[Any]:
        """Names the index and the sums of a `tile.pipeline`; returns the copies of a stage."""
        block = pipeline.body.blocks[0]
        k, carried = block.arguments
        self.names[k] = "k"
        self.names[carried] = self.names[pipeline.result] = self.name(pipeline.initial)
        return self.copies(pipeline)

    def copies(self, pipeline: Any) -> list[Any]:
        """Of a stage."""
        operations = pipeline.body.blocks[0].operations
        return [each for each in operations if each.operation.name == "tile.copy"]

    @property
    def maps(self) -> set[str]:
        """Arguments that are tensor maps."""
        return {box.argument for box in tensor_boxes(self.op)}

    @property
    def sync(self) -> str:
        """A barrier of the threads that multiply."""
        s = self.schedule
        return f"sync_named(1, {s.workers});" if s.groups else "sync_threads();"

    @property
    def strips(self) -> int:
        """Tiles of channels of a kernel whose blocks are persistent."""
        return -(-self._tiles.channels.value // self.schedule.channels)

    @property
    def steps(self) -> int:
        """Of K, that such a kernel takes for a tile."""
        return self._tiles.steps.value

    @property
    def _tiles(self) -> Any:
        [tiles] = [op for op in walk(self.op) if op.operation.name == "tile.block_tiles"]
        return tiles

    def declared_sums(self) -> str:
        """The extents of this thread's accumulators; those of warp groups are one strip."""
        s = self.schedule
        return f"[{4 * s.columns}]" if s.groups else f"[{s.strips}][{s.columns}][4]"

    def sum(self, strip: str, token: str, value: str) -> str:
        """The subscripts of an accumulator."""
        if self.schedule.groups:
            return f"[{linear((4, token), value)}]"
        return f"[{strip}][{token}][{value}]"

    @property
    def decodes(self) -> list[Any]:
        return [op for op in walk(self.op) if op.operation.name == "tile.decode"]

    @property
    def programs(self) -> dict[str, DecodeProgram]:
        """Decode programs by the name of their function."""
        return {self.function(op): self.program(op) for op in self.decodes}

    def program(self, decode: Any) -> DecodeProgram:
        return program_of(decode)

    def function(self, decode: Any) -> str:
        return self.functions.name(self.program(decode))

    def extents(self, value: ir.Value) -> list[str]:
        """The extents of a global tensor; a dynamic one is the number of tokens."""
        shape = tensor_of(value.type).shape
        return ["tokens" if extent == DYNAMIC else str(extent) for extent in shape]

    def static_size(self, value: ir.Value) -> int:
        return prod(extent for extent in tensor_of(value.type).shape if extent != DYNAMIC)

    def element_bytes(self, value: ir.Value) -> int:
        return element_bytes(tensor_of(value.type).element_type)

    @property
    def columns_at_once(self) -> int:
        """Columns of 8 tokens that one ldmatrix brings."""
        return 2 if self.schedule.columns % 2 == 0 else 1

    def warp(self, name: str) -> str:
        """The index of this warp along an axis: `warp_n`, `warp_m`, `warp_k`, or 0."""
        return name if getattr(self.schedule, name.replace("warp", "warps")) > 1 else "0"

    def stage_tile(self, tile: ir.Value, stage: str = "stage") -> str:
        return self.name(tile) if self.schedule.streams else f"{self.name(tile)}({stage})"
