"""
The body of a linear layer's kernel.

Codes are decoded to the type of the activations, rounded at most once (DecodeProgram.error); the
sums of a group are fp32, or exact in i32, and multiplied by the group's fp32 scale: no product of
scale and weight is rounded to 16 bits.

Where the instruction multiplies blocks of both sides by their scales, these are operands, and
nothing is rescaled. A side with a scale for each sign is the sum of its parts above and below zero,
so that there are two products, or four.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import tile
from ..dialects.bindings import arith, ir, scf
from ..dialects.formats import Format
from ..dialects.formats.packets import LOWER
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.problem import (
    SCALE_ELEMENTS,
    LinearProblem,
    chunk_of,
    row_roles,
    signed_scales,
    tensor_roles,
    x_roles,
)
from ..dialects.tile.schedule import PACKET_COLUMNS, PACKET_ROWS, Schedule
from ..dialects.tile.schedule_memory import stage_tiles
from .kernel_values import copied, element_type, fragment, global_tensor, integer, shared_tile

DYNAMIC = ir.ShapedType.get_dynamic_size()
BOXES = "boxes8"
NO_GROUP = 1 << 30
Values = dict[str, ir.Value]


@dataclass(frozen=True)
class LinearWriter:
    problem: LinearProblem
    schedule: Schedule

    def argument_types(self) -> dict[str, ir.Type]:
        p = self.problem
        kinds = {"x": global_tensor([DYNAMIC, p.x_columns(p.k)], p.memory)}
        if p.x_format is not None:
            for name, role in x_roles(p).items():
                blocks = p.x_format.part_specs(1, p.k)[role][0][1]
                kinds[name] = global_tensor([DYNAMIC, blocks], "ui8")
        for role, bits in p.code_parts.items():
            kinds[role] = global_tensor([p.strips, p.units, 32 * bits], "ui32")
        for role, kind in row_roles(p).items():
            kinds[role] = global_tensor([p.groups, p.strips * PACKET_ROWS], SCALE_ELEMENTS[kind][0])
        for role, kind in tensor_roles(p.format).items():
            kinds[role] = global_tensor([1], SCALE_ELEMENTS[kind][0])
        if p.token_scale is not None:
            kinds["x_scale"] = global_tensor([1 if p.token_scale.tensor else DYNAMIC], "f32")
        if p.bias is not None:
            kinds["bias"] = global_tensor([p.n], p.bias)
        if p.program.table:
            kinds["table"] = global_tensor([len(p.program.table)], "ui32")
        kinds["y"] = global_tensor([DYNAMIC, p.n], p.result)
        kinds["workspace"] = global_tensor([DYNAMIC], self.sum_type)
        kinds["arrivals"] = global_tensor([DYNAMIC], "ui32")
        return kinds | {"tokens": ir.IndexType.get()}

    @property
    def part_type(self) -> str:
        return self.schedule.record.accumulator

    @property
    def sum_type(self) -> str:
        """Of the whole sum over K: integers become fp32 where groups have scales."""
        return self.part_type if self.problem.group is None else "f32"

    def write(self, given: Values) -> None:
        """One tile of the result, or those of a persistent block in a loop."""
        if self.schedule.persistent:
            index, steps = ir.IndexType.get(), -(-self.problem.stored_k // self.schedule.depth)
            tiles = tile.BlockTilesOp(
                given["tokens"], integer(self.problem.n), integer(steps), index, index, index
            )
            loop = scf.ForOp(tiles.first, tiles.last, tiles.stride)
            with ir.InsertionPoint(loop.body):
                self.write_tile(given, loop.induction_variable)
                scf.YieldOp([])
        else:
            self.write_tile(given)
        tile.ReturnOp()

    def write_tile(self, given: Values, number: ir.Value | None = None) -> None:
        s, index = self.schedule, ir.IndexType.get()
        n, m = ir.StringAttr.get("n"), ir.StringAttr.get("m")
        n0 = tile.BlockOffsetOp(n, index, tile=number, **self.last_tile()).offset
        m0 = tile.BlockOffsetOp(m, index, tile=number).offset
        share = tile.BlockRangeOp(
            integer(self.problem.stored_k), integer(s.depth), index, index, tile=number
        )
        given, initial = self.started(given)
        whole_share = self.copies(given, n0, m0, share.first) if s.streams else {}
        pipeline = tile.PipelineOp(
            share.first, share.last, initial, integer(s.depth), integer(s.stages), initial.type
        )
        body = pipeline.body.blocks.append(index, initial.type)
        with ir.InsertionPoint(body):
            k, carried = body.arguments
            if s.streams:
                tiles = whole_share | self.fetched(given, n0, k) | {"first": share.first}
            else:
                tiles = self.copies(given, n0, m0, k)
            tile.YieldOp([self.steps(given, tiles, k, carried)])
        sums = self.finished(given, pipeline.result)
        whole = tile.CombineOp(
            sums, given["workspace"], given["arrivals"], sums.type, tile=number
        ).result
        own = None
        if s.stream_k and self.last_tile():
            own = tile.BlockOffsetOp(n, index, tile=number).offset
        tile.StoreOp(self.epilogue(given, whole, n0, m0), given["y"], [m0, n0], first=own)

    def started(self, given: Values) -> tuple[Values, ir.Value]:
        """What else the steps are given, and the sums that they add to."""
        return given, tile.ZerosOp(self.accumulator(self.sum_type)).fragment

    def finished(self, _given: Values, sums: ir.Value) -> ir.Value:
        """The sums of all steps, in registers."""
        return sums

    @property
    def chunk(self) -> int:
        """Columns of K that a step of `tile.steps` takes."""
        return chunk_of(self.problem)

    def last_tile(self) -> dict[str, ir.IntegerAttr]:
        """Bulk copies bring whole tiles: the last one ends where the stored channels do."""
        stored, channels = self.problem.strips * PACKET_ROWS, self.schedule.channels
        if not self.schedule.groups or stored % channels == 0:
            return {}
        return {"most": integer(max(0, stored - channels))}

    def accumulator(self, element: str) -> ir.Type:
        return fragment([self.schedule.channels, self.schedule.padded_tokens], element, "c")

    def copies(self, given: Values, n0: ir.Value, m0: ir.Value, k: ir.Value) -> Values:
        """Shared tiles of one iteration, by role."""
        p, s = self.problem, self.schedule
        stream = "evict_first" if s.stream_weights else "normal"
        stored = s.share(p.stored_k) if s.streams else s.depth  # columns of the tiles
        made: Values = {}
        for each in stage_tiles(p, s):
            if each.name == "x":
                order = BOXES if s.groups else f"swizzle{s.swizzle}"
                kind = shared_tile([each.rows, each.columns], each.element, order)
                divisors = [1, p.x_per_element]
                made["x"] = copied(given["x"], [m0, k], divisors, "normal", kind, self.groups())
            elif each.name in x_roles(p):
                kind = shared_tile([each.rows, each.columns], each.element, "rows")
                divisors = [1, stored // each.columns]
                made[each.name] = copied(given[each.name], [m0, k], divisors, "normal", kind)
            elif each.name in p.code_parts:
                units = s.depth // PACKET_COLUMNS
                kind = shared_tile([each.rows, units, each.columns // units], each.element, "rows")
                divisors = [PACKET_ROWS, PACKET_COLUMNS]
                role = "codes" if each.name == p.format.code_part else each.name
                made[role] = copied(given[each.name], [n0, k], divisors, stream, kind)
            else:
                kind = shared_tile([each.rows, each.columns], each.element, "rows")
                divisors = [p.stored_group or NO_GROUP, 1]
                made[each.name] = copied(given[each.name], [k, n0], divisors, "normal", kind)
        return made

    def fetched(self, given: Values, n0: ir.Value, k: ir.Value) -> Values:
        """The packets of one step, one of each strip for each warp along K."""
        p, s = self.problem, self.schedule
        cache = ir.StringAttr.get("evict_first" if s.stream_weights else "normal")
        divisors = ir.DenseI64ArrayAttr.get([PACKET_ROWS, PACKET_COLUMNS])
        made: Values = {}
        for role, bits in p.code_parts.items():
            shape = [s.channels // PACKET_ROWS, s.depth // PACKET_COLUMNS, 32 * bits]
            kind = fragment(shape, "ui32", "packets")
            fetch = tile.FetchOp(given[role], [n0, k], divisors, cache, kind)
            made["codes" if role == p.format.code_part else role] = fetch.packets
        return made

    def groups(self) -> list[int]:
        """Columns of a group of activations in memory and as stored, if these are more."""
        p = self.problem
        padded = p.group is not None and p.group != p.stored_group
        return [p.group or 0, p.stored_group or 0] if padded else []

    def steps(self, given: Values, tiles: Values, k: ir.Value, carried: ir.Value) -> ir.Value:
        count = integer(self.schedule.depth // self.chunk)
        steps = tile.StepsOp(k, carried, integer(self.chunk), count, carried.type)
        body = steps.body.blocks.append(k.type, carried.type)
        with ir.InsertionPoint(body):
            at, total = body.arguments
            if self.problem.x_format is not None:
                total = self.scaled_products(given, tiles, at, total, self.problem.x_format)
            else:
                columns = self.loaded(tiles, at, "all")
                for sign, role in self.rescaled_signs():
                    total = self.accumulate(given, tiles, at, columns, total, sign, role)
            tile.YieldOp([total])
        return steps.result

    @property
    def rescales(self) -> bool:
        """Whether sums of groups are multiplied by their scales, and the program's factor."""
        p = self.problem
        return p.group is not None and bool(p.format.block_scales) and p.x_format is None

    def rescaled_signs(self) -> list[tuple[str, str | None]]:
        """For each scale of a group, whom it serves; one without a role where rows have one."""
        return list(signed_scales(self.problem.format)) if self.rescales else [("all", None)]

    def loaded(self, tiles: Values, k: ir.Value, sign: str) -> ir.Value:
        """Activations of a chunk as right operands."""
        shape = [self.schedule.padded_tokens, self.chunk]
        kind = fragment(shape, self.problem.activation, "b")
        return tile.LoadOp(
            tiles["x"], k, kind, first=tiles.get("first"), sign=ir.StringAttr.get(sign)
        ).fragment

    def decoded(self, given: Values, tiles: Values, k: ir.Value, sign: str) -> ir.Value:
        """Weights of a chunk as left operands."""
        p = self.problem
        return tile.DecodeOp(
            tiles["codes"], k, ir.StringAttr.get(p.weight), ir.StringAttr.get(sign),
            integer(p.stored_group or NO_GROUP),
            fragment([self.schedule.channels, self.chunk], p.weight_operand, "a"),
            zeros=tiles.get("zero_point"), table=given.get("table"), first=tiles.get("first"),
            lower=tiles.get(LOWER),
        ).fragment  # fmt: skip

    def scaled_products(
        self, given: Values, tiles: Values, k: ir.Value, total: ir.Value, x_format: Format
    ) -> ir.Value:
        """The products of all signs of weights with all signs of activations."""
        p, s = self.problem, self.schedule
        lefts = [
            (self.decoded(given, tiles, k, sign), self.scales(given, tiles, role, k, "a", p.format))
            for sign, role in signed_scales(p.format)
        ]
        rights = [
            (self.loaded(tiles, k, sign), self.scales(given, tiles, f"x_{role}", k, "b", x_format))
            for sign, role in signed_scales(x_format)
        ]
        name = ir.StringAttr.get(s.instruction)
        for a, a_scales in lefts:
            for b, b_scales in rights:
                total = tile.MmaScaledOp(a, b, a_scales, b_scales, total, name, total.type).result
        return total

    def scales(
        self, _given: Values, tiles: Values, name: str, k: ir.Value, side: str, fmt: Format
    ) -> ir.Value:
        """Scales of the blocks of a chunk; groups of one side may be several blocks."""
        s, block = self.schedule, self.schedule.record.block
        rows = s.channels if side == "a" else s.padded_tokens
        kind = fragment([rows, self.chunk // block], "ui8", f"{side}_scales")
        assert isinstance(fmt.block_size, int)
        return tile.LoadScalesOp(
            tiles[name], k, ir.StringAttr.get(side), integer(fmt.block_size), integer(block), kind,
            first=tiles.get("first"),
        ).fragment  # fmt: skip

    def accumulate(
        self,
        given: Values,
        tiles: Values,
        k: ir.Value,
        columns: ir.Value,
        total: ir.Value,
        sign: str,
        role: str | None,
    ) -> ir.Value:
        p = self.problem
        rows = self.decoded(given, tiles, k, sign)
        if role is None:
            name = ir.StringAttr.get(self.schedule.instruction)
            return tile.MmaOp(rows, columns, total, name, total.type).result
        part = self.part(given, rows, columns, sign)
        decoding = p.format.scale_decoding(role)
        apply = "divide" if decoding.divide else "multiply"
        return tile.RescaleOp(
            total, part, tiles[role], k, ir.StringAttr.get(decoding.kind),
            ir.StringAttr.get(apply), integer(p.stored_group or NO_GROUP),
            ir.FloatAttr.get_f64(p.program.factor), total.type, first=tiles.get("first"),
        ).result  # fmt: skip

    def part(self, _given: Values, rows: ir.Value, columns: ir.Value, _sign: str) -> ir.Value:
        """The products of a group."""
        zeros = tile.ZerosOp(self.accumulator(self.part_type)).fragment
        name = ir.StringAttr.get(self.schedule.instruction)
        return tile.MmaOp(rows, columns, zeros, name, zeros.type).result

    def epilogue(self, given: Values, whole: ir.Value, n0: ir.Value, m0: ir.Value) -> ir.Value:
        """Scales of rows, tokens and the tensor; bias; one rounding to the type of the result."""
        p = self.problem
        factors = [] if p.group is not None else [(role, "n") for role in self.row_scales()]
        factors += [(role, "one") for role in tensor_roles(p.format)]
        if p.token_scale is not None:
            factors.append(("x_scale", "one" if p.token_scale.tensor else "m"))
        factors += [("bias", "n")] * ("bias" in given)
        result = fragment([self.schedule.channels, self.schedule.padded_tokens], p.result, "c")
        mapped = tile.MapOp(whole, result)
        with ir.InsertionPoint(mapped.body.blocks.append(element_type(self.sum_type))) as inside:
            value = inside.block.arguments[0]
            value = value if self.sum_type == "f32" else arith.sitofp(ir.F32Type.get(), value)
            if not self.rescales and p.program.factor != 1:
                value = arith.mulf(value, arith.constant(value.type, p.program.factor))
            for role, axis in factors:
                kind = tensor_of(given[role].type).element_type
                offset = m0 if axis == "m" else n0
                factor = tile.ReadOp(given[role], offset, ir.StringAttr.get(axis), kind).element
                value = self.applied(value, role, factor)
            if p.result != "f32":
                value = arith.truncf(element_type(p.result), value)
            tile.YieldOp([value])
        return mapped.result

    def applied(self, value: ir.Value, role: str, factor: ir.Value) -> ir.Value:
        """The value with the bias added, or multiplied by a scale, as its format decodes it."""
        p = self.problem
        if role == "bias":
            return arith.addf(value, factor if p.bias == "f32" else arith.extf(value.type, factor))
        if role == "x_scale":
            divide = p.token_scale is not None and p.token_scale.divide
        else:
            decoding = p.format.scale_decoding(role)
            divide = decoding.divide
            if decoding.kind != "fp32":
                kind = ir.StringAttr.get(decoding.kind)
                factor = tile.ScaleOp(factor, kind, ir.F32Type.get()).value
        return arith.divf(value, factor) if divide else arith.mulf(value, factor)

    def row_scales(self) -> list[str]:
        return [scale.role for scale in self.problem.format.block_scales
                if scale.role not in self.problem.format.tensor_roles]  # fmt: skip
