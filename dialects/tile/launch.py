"""What a host must launch, read from a kernel: arguments by name, grid, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..bindings import ir
from ..formats import parse_spelling
from ..regions import walk
from .block_work import LEAST_STEPS, SHARED_TILES
from .control import shared_copies
from .decode_program import TABLE_STRIDE, DecodeProgram
from .decode_rules import decode_program
from .dialect import BANK_ROW, element_bytes, shared_size, tensor_of
from .hardware import MULTIPROCESSORS
from .schedule import Schedule
from .schedule_memory import TENSOR_ALIGNMENT, barrier_bytes, with_epilogue
from .tensor_memory import placed_operands


@dataclass(frozen=True)
class TensorBox:
    """
    An argument that is no pointer but a tensor map: what one tensor copy brings of it.

    `box` counts elements of `element_bytes`, innermost last; chunks of 16 bytes are exchanged
    within `swizzle` bytes. Zeros come from outside of the tensor.
    """

    argument: str
    box: tuple[int, int]
    element_bytes: int
    swizzle: int


@dataclass(frozen=True)
class Launch:
    """
    One kernel of a linear layer of `n` channels.

    `arguments` in order: "x", the roles of the packed weight (packets.py), "x_scale" (fp32
    [tokens]), "bias", "table" (see `table`), "y", "workspace", "arrivals", "tokens" (an i32).
    `arrivals` is u32, zero before the first launch, and zero again after each. `table` is what the
    argument of that name holds, u32, empty where there is none. `maps` are the arguments that are
    passed as tensor maps. `steps` are those of K that a tile takes.
    """

    kernel: str
    target: str
    arguments: tuple[str, ...]
    schedule: Schedule
    n: int
    shared_bytes: int
    table: tuple[int, ...]
    maps: tuple[TensorBox, ...] = ()
    steps: int = 1

    @staticmethod
    def of(kernel: Any) -> Launch:
        """The launch of a `tile.kernel`."""
        names = tuple(ir.StringAttr(name).value for name in kernel.arguments)
        [range_] = [op for op in walk(kernel) if op.operation.name == "tile.block_range"]
        return Launch(
            kernel.symbol.value, kernel.target.value, names, Schedule.of(kernel.schedule),
            _result(kernel).shape[1], shared_plan(kernel).total,
            next((program.table for program in programs(kernel) if program.table), ()),
            tensor_boxes(kernel), -(-range_.extent.value // range_.step.value),
        )  # fmt: skip

    @property
    def threads(self) -> int:
        return self.schedule.threads

    @property
    def strips(self) -> int:
        """Tiles of channels."""
        return -(-self.n // self.schedule.channels)

    @property
    def splits(self) -> int:
        return self.schedule.splits

    @property
    def places(self) -> int:
        """Places in the workspace of a tile, or of a block where these share steps of tiles."""
        if self.schedule.stream_k:
            return SHARED_TILES
        return self.splits * (self.splits > 1)

    @property
    def place_words(self) -> int:
        """Words of 4 bytes for the sums of a tile."""
        return self.schedule.channels * self.schedule.padded_tokens

    def grid(self, tokens: int, processors: int | None = None) -> tuple[int, int, int]:
        """
        Tiles of tokens, which run together and share weights; tiles of channels; splits.

        Of persistent blocks as many as `processors` multiprocessors, by default those of the usual
        product, hold at once and find work.
        """
        s, columns = self.schedule, -(-tokens // self.schedule.tokens)
        if not s.persistent:
            return columns, self.strips, self.splits
        tiles = columns * self.strips
        work = -(-tiles * self.steps // LEAST_STEPS) if s.stream_k else tiles
        return min((processors or MULTIPROCESSORS[self.target]) * s.persistent, work), 1, 1

    def workspace_words(self, tokens: int, processors: int | None = None) -> int:
        """Words of 4 bytes for partial sums: of blocks that share steps of tiles, or of tiles."""
        x, y, _ = self.grid(tokens, processors)
        return x * y * self.places * self.place_words

    def arrival_words(self, tokens: int) -> int:
        """A counter for each tile."""
        return -(-tokens // self.schedule.tokens) * self.strips * (self.places > 0)


@dataclass(frozen=True)
class SharedPlan:
    """
    Where a block's shared memory goes: stages one behind the other, then the table of decoding.

    Barriers of the stages, for warp groups, come before the table. The epilogue reuses the
    stages, or follows them. `offsets` are those of the copied tiles in a stage, `operands` of what
    the tensor unit reads beside them (`placed_operands`).
    """

    offsets: tuple[int, ...]
    operands: tuple[int, ...]
    stage_bytes: int
    epilogue: int
    barriers: int
    table: int
    total: int


def shared_plan(kernel: Any) -> SharedPlan:
    s, offsets, stage = Schedule.of(kernel.schedule), [], 0
    for copy in shared_copies(kernel):
        offsets.append(stage)
        stage += shared_size(copy.tile.type)
    if s.groups:
        stage = -(-stage // TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT
    operands = []
    for _, size in placed_operands(kernel):
        operands.append(stage)
        stage += size
    if operands:
        stage = -(-stage // TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT
    barriers = with_epilogue(s, stage * s.buffers, element_bytes(_result(kernel).element_type))
    table = barriers + barrier_bytes(s)
    entries = max((len(program.table) for program in programs(kernel)), default=0)
    return SharedPlan(
        tuple(offsets), tuple(operands), stage, stage * s.buffers * s.keeps_stages, barriers, table,
        table + (entries << TABLE_STRIDE),
    )  # fmt: skip


def _result(kernel: Any) -> ir.RankedTensorType:
    names = [ir.StringAttr(name).value for name in kernel.arguments]
    return tensor_of(kernel.body.blocks[0].arguments[names.index("y")].type)


def tensor_boxes(kernel: Any) -> tuple[TensorBox, ...]:
    """The arguments of a kernel of warp groups that tensor copies read: the activations."""
    if not Schedule.of(kernel.schedule).groups:
        return ()
    names = dict(zip(kernel.body.blocks[0].arguments, kernel.arguments, strict=True))
    boxes = []
    for copy in shared_copies(kernel):
        tensor = tensor_of(copy.tile.type)
        name, size = ir.StringAttr(names[copy.source]).value, element_bytes(tensor.element_type)
        if name == "x":
            boxes.append(TensorBox(name, (tensor.shape[0], BANK_ROW // size), size, BANK_ROW))
    return tuple(boxes)


def programs(kernel: Any) -> list[DecodeProgram]:
    """The decode programs of a kernel, in order."""
    return [program_of(op) for op in walk(kernel) if op.operation.name == "tile.decode"]


def program_of(decode: Any) -> DecodeProgram:
    operand = str(tensor_of(decode.fragment.type).element_type)
    return decode_program(parse_spelling(decode.format.value), operand)
