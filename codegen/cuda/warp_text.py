"""What the rules of one warp kernel share: names, places in shared memory, loops over fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ...dialects.bindings import ir
from ...dialects.regions import walk
from ...dialects.tile.decode_program import TABLE_STRIDE, DecodeProgram
from ...dialects.tile.dialect import is_tile, note_of, tensor_of
from ...dialects.tile.operand_types import OPERAND_TYPES
from ...dialects.tile.warp_launch import WarpLaunch, argument_names, program_of, table_offset
from ...dialects.tile.warp_memory import (
    COMMENT,
    placed_bytes,
    placed_tiles,
    stage_places,
    tile_bytes,
)
from .kernel_text import C_TYPES, Functions
from .printer import Printer

LABEL = "label"
REGISTER_TYPES = {
    **C_TYPES,
    "index": "int",
    "i64": "s64",
    "i1": "bool",
    "ui16": "u32",
    "ui8": "u32",
    "si8": "s32",
}
"""Of one element that a lane holds."""
OPERANDS = ("a", "b")


@dataclass
class WarpText:
    """A kernel under way to text."""

    out: Printer
    functions: Functions
    op: Any
    rules: Callable[[WarpText, Any], None]
    names: dict[Any, str] = field(default_factory=dict)
    lazy: dict[Any, Any] = field(default_factory=dict)
    stage: str = "0"
    awaits_products: bool = True  # of warp groups, where they are multiplied
    offsets: dict[Any, int] = field(default_factory=dict)
    stage_bytes: dict[Any, int] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    windows: dict[Any, str] = field(default_factory=dict)

    @staticmethod
    def of(
        out: Printer, functions: Functions, op: Any, rules: Callable[[WarpText, Any], None]
    ) -> WarpText:
        text = WarpText(out, functions, op, rules)
        for name, argument in zip(argument_names(op), op.body.blocks[0].arguments, strict=True):
            text.names[argument] = out.fresh(name)
            if is_tile(argument.type, "global"):
                text.names[argument] += "_pointer"
        for loop in walk(op):
            if loop.operation.name == "scf.for":
                text._place(loop)
        behind = 0
        for placed in placed_tiles(op):
            text.offsets[placed.tile] = behind
            behind += tile_bytes(placed.tile.type)
        place = table_offset(op)
        for name, entries in WarpLaunch.of(op).tables.items():
            text.tables[name] = place
            place += len(entries) << TABLE_STRIDE
        return text

    def _place(self, loop: Any) -> None:
        total, places = 0, stage_places(loop)
        for tile, size in places.items():
            self.offsets[tile] = placed_bytes(self.op) + total
            total += size
        self.stage_bytes.update(dict.fromkeys(places, total))

    @property
    def warps(self) -> int:
        return self.op.warps.value

    @property
    def threads(self) -> int:
        return 32 * self.warps

    def name(self, value: ir.Value) -> str:
        return self.names[value]

    def tile(self, value: ir.Value) -> str:
        """A shared tile: that of the stage, if it is fetched."""
        name = self.names[value]
        return f"{name}({self.stage})" if value in self.stage_bytes else name

    def label(self, op: Any, default: str) -> str:
        """A name for the result of an op that no other value has."""
        attributes = op.operation.attributes
        wanted = ir.StringAttr(attributes[LABEL]).value if LABEL in attributes else default
        return self.out.fresh(wanted)

    def program(self, unpack: Any) -> DecodeProgram:
        return program_of(unpack)

    def run(self, block: Any) -> list[ir.Value]:
        """Print the ops of a block; what it yields."""
        for op in block.operations:
            if op.operation.name in ("tile.yield", "scf.yield", "tile.return"):
                return list(op.operation.operands)
            if COMMENT in op.operation.attributes:
                self.out.line()
                self.out.comment(ir.StringAttr(op.operation.attributes[COMMENT]).value)
            self.rules(self, op)
        return []


@dataclass(frozen=True)
class Shape:
    """A fragment in the registers of a lane."""

    role: str
    element: str
    extents: tuple[int, ...]

    @staticmethod
    def of(type_: ir.Type) -> Shape:
        tensor = tensor_of(type_)
        return Shape(note_of(type_), str(tensor.element_type), tuple(tensor.shape[1:]))

    @property
    def c_type(self) -> str:
        return "u32" if self.role in OPERANDS else REGISTER_TYPES[self.element]

    @property
    def per_register(self) -> int:
        known = OPERAND_TYPES.get(self.element)
        return 2 if known is None else known.per_register

    @property
    def dimensions(self) -> tuple[int, ...]:
        """
        Of the array that holds it.

        >>> Shape("c", "f32", (16, 64)).dimensions, Shape("rows", "f32", (32,)).dimensions
        ((1, 8, 4), (2, 2))
        """
        e = self.extents
        if self.role == "c":
            return e[0] // 16, e[1] // 8, 4
        if self.role in OPERANDS:
            return e[0] // 16, e[1] // (8 * self.per_register), 4
        if self.role == "rows":
            return e[0] // 16, 2
        return (e[0] // 8, 2) if self.role == "columns" else ()

    def declared(self, name: str) -> str:
        return f"{self.c_type} {name}" + "".join(f"[{n}]" for n in self.dimensions)


@dataclass(frozen=True)
class Place:
    """Where loops over a fragment are: texts of the indices of its array."""

    role: str
    indices: tuple[str, ...]

    @property
    def of(self) -> str:
        return "".join(f"[{index}]" for index in self.indices)

    def at(self, role: str) -> str:
        """The indices of what belongs to the same element in a fragment of `role`."""
        if role == self.role:
            return self.of
        if role == "one":
            return ""
        strip, tile, value = self.indices
        return f"[{strip}][{half(value)}]" if role == "rows" else f"[{tile}][{side(value)}]"

    @property
    def row(self) -> str:
        strip = self.indices[0]
        upper = half(self.indices[-1]) if self.role == "c" else self.indices[-1]
        return joined((16, strip), "lane / 4", (8, upper))

    @property
    def column(self) -> str:
        tile = self.indices[1] if self.role == "c" else self.indices[0]
        right = side(self.indices[-1]) if self.role == "c" else self.indices[-1]
        return joined((8, tile), "lane % 4 * 2", right)


def half(value: str) -> str:
    return str(int(value) // 2) if value.isdigit() else f"{value} / 2"


def side(value: str) -> str:
    return str(int(value) % 2) if value.isdigit() else f"{value} % 2"


def joined(*parts: str | tuple[int, str]) -> str:
    """A sum in which divisions and remainders keep their parentheses."""
    texts = []
    for part in parts:
        factor, value = (1, part) if isinstance(part, str) else part
        if value == "0":
            continue
        if value.isdigit():
            texts.append(str(factor * int(value)))
        elif factor == 1:
            texts.append(value)
        else:
            texts.append(f"{factor} * {value}" if " " not in value else f"{factor} * ({value})")
    return " + ".join(texts) or "0"


def scope(text: WarpText, turns: int) -> AbstractContextManager[None]:
    """Braces for what is declared inside of a loop that is not printed, since it turns once."""
    return text.out.block("") if turns == 1 else nullcontext()


LOOPS = {"c": ("strip", "tile", "value"), "rows": ("strip", "half"), "columns": ("tile", "side"),
         "one": ()}  # fmt: skip


@contextmanager
def over(text: WarpText, shape: Shape) -> Iterator[Place]:
    """Loops over what a lane holds of a fragment."""
    counts = list(zip(LOOPS[shape.role], shape.dimensions, strict=True))

    @contextmanager
    def nested(rest: list[tuple[str, int]], done: tuple[str, ...]) -> Iterator[Place]:
        if not rest:
            yield Place(shape.role, done)
            return
        with text.out.loop(*rest[0]) as index, nested(rest[1:], (*done, index)) as place:
            yield place

    with nested(counts, ()) as place:
        yield place
