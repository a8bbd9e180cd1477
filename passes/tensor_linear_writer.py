"""
The body of a linear layer's kernel whose products add up in tensor memory (sm_100a).

    memory = tmem_allocate; sums = tmem_view memory
    pipeline over K { copy x, codes, scales
      steps { place (decode codes); tmem_copy (load_scales …); mma_scaled or mma } }
    tmem_load sums; tmem_release memory; combine; map; store

Both operands are read from shared memory: decoded weights are placed there, and activations of one
sign. Where groups have scales that no instruction takes, each group has sums of its own in tensor
memory, which are loaded, and added in fp32 registers times the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import tile
from ..dialects.bindings import ir
from ..dialects.formats import Format
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.problem import signed_scales, x_roles
from ..dialects.tile.tensor_memory import tensor_memory_of
from ..dialects.tile.tensor_tiles import (
    COPY_COLUMNS,
    is_rescaled,
    scale_copies,
    sum_buffers,
    tensor_chunk,
    tensor_columns,
)
from .kernel_values import element_type, integer, shared_tile
from .linear_writer import BOXES, LinearWriter, Values

MEMORY, SUMS, TOKENS = "tensor_memory", "tensor_sums", "first_token"


@dataclass(frozen=True)
class TensorLinearWriter(LinearWriter):
    @property
    def chunk(self) -> int:
        return tensor_chunk(self.problem, self.schedule)

    def started(self, given: Values) -> tuple[Values, ir.Value]:
        """Sums in tensor memory; those of groups are added to registers."""
        p, s = self.problem, self.schedule
        columns = integer(tensor_columns(p, s))
        whole = ir.Type.parse(f'!tile.tmem<tensor<128x{columns.value}xui32>, "all">')
        memory = tile.TmemAllocateOp(columns, whole).memory
        if is_rescaled(p):
            each = s.tokens * sum_buffers(p, s) // len(self.rescaled_signs())
            views = {
                f"{SUMS} {sign}": self.view(memory, each * index, each // s.tokens)
                for index, (sign, _) in enumerate(self.rescaled_signs())
            }
        else:
            views = {SUMS: self.view(memory, 0, 1)}
        given = given | views | {MEMORY: memory} | self.scale_views(memory)
        if is_rescaled(p):
            return super().started(given)
        return given, given[SUMS]

    def view(self, memory: ir.Value, column: int, buffers: int) -> ir.Value:
        s = self.schedule
        tensor = ir.RankedTensorType.get([s.channels, s.tokens], element_type(self.part_type))
        kind = tensor_memory_of(tensor, "sums")
        return tile.TmemViewOp(memory, integer(column), integer(buffers), kind).piece

    def scale_views(self, memory: ir.Value) -> Values:
        """Pieces for the scales of a step, by side and part."""
        p, s = self.problem, self.schedule
        if p.x_format is None:
            return {}
        column, views = s.tokens, {}
        sides = (("a", p.format, s.channels), ("b", p.x_format, s.tokens))
        for side, fmt, rows in sides:
            for _, role in signed_scales(fmt):
                tensor = ir.RankedTensorType.get(
                    [rows, s.depth // s.record.block], element_type("ui8")
                )
                kind = tensor_memory_of(tensor, "scales")
                view = tile.TmemViewOp(memory, integer(column), integer(1), kind)
                views[f"{side} {role}"] = view.piece
                column += COPY_COLUMNS * scale_copies(s, rows)
        return views

    def finished(self, given: Values, sums: ir.Value) -> ir.Value:
        if not is_rescaled(self.problem):
            sums = self.in_registers(sums)
        tile.TmemReleaseOp(given[MEMORY])
        return sums

    def in_registers(self, sums: ir.Value) -> ir.Value:
        return tile.TmemLoadOp(sums, self.accumulator(self.part_type)).fragment

    def copies(self, given: Values, n0: ir.Value, m0: ir.Value, k: ir.Value) -> Values:
        """Scales of activations are not copied as they are: see `scales`."""
        return super().copies(given, n0, m0, k) | {TOKENS: m0}

    def decoded(self, given: Values, tiles: Values, k: ir.Value, sign: str) -> ir.Value:
        return self.placed(super().decoded(given, tiles, k, sign))

    def loaded(self, tiles: Values, k: ir.Value, sign: str) -> ir.Value:
        """Activations as they were copied, or a part of them placed beside."""
        loaded = super().loaded(tiles, k, sign)
        return loaded if sign == "all" else self.placed(loaded)

    def placed(self, operand: ir.Value) -> ir.Value:
        tensor = tensor_of(operand.type)
        kind = shared_tile(list(tensor.shape), str(tensor.element_type), BOXES)
        return tile.PlaceOp(operand, kind).tile

    def scales(
        self, given: Values, tiles: Values, name: str, k: ir.Value, side: str, fmt: Format
    ) -> ir.Value:
        """Scales of the blocks of a step, in tensor memory."""
        s, block = self.schedule, self.schedule.record.block
        rows = s.channels if side == "a" else s.tokens
        kind = shared_tile([rows, self.chunk // block], "ui8", "scales")
        assert isinstance(fmt.block_size, int)
        from_memory = name in x_roles(self.problem)
        scales = tile.LoadScalesOp(
            given[name] if from_memory else tiles[name], k, ir.StringAttr.get(side),
            integer(fmt.block_size), integer(block), kind,
            row=tiles[TOKENS] if from_memory else None,
        ).fragment  # fmt: skip
        view = given[f"{side} {name.removeprefix('x_')}"]
        return tile.TmemCopyOp(scales, view, view.type).scales

    def part(self, given: Values, rows: ir.Value, columns: ir.Value, sign: str) -> ir.Value:
        view = given[f"{SUMS} {sign}"]
        name = ir.StringAttr.get(self.schedule.instruction)
        return self.in_registers(tile.MmaOp(rows, columns, view, name, view.type).result)
