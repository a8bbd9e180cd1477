"""
The kernels of attention, over tiles: online softmax, a tile of keys at a time.

    y = qcc.attention q, k, v
      =>  tile.warp_kernel { loop over keys { rows of keys, values; multiply; each (scale, mask);
                             reduce max; each exp2; convert; multiply } each (divide); save }

A row carries the highest score m so far, the sum l of the weights e^(score - m), and the sum o of
values by weight; a step with a higher score multiplies l and o by e^(m - new m) (Milakov and
Gimelshein 2018, arXiv 1805.02867). The rows of a plane are the queries of all heads that share a
key head, so that grouped heads fill one product. Where few rows have many keys, warps and blocks
share the keys, and what they found is folded in their order: results repeat.

Numerics: factors of both products are f16 or bf16, sums and softmax fp32; weights are rounded once
to the operand type, relative to the largest weight of their row.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import tile
from ..dialects.bindings import arith, ir, math
from ..dialects.tile.attention_problem import (
    RESIDENT_DEPTH,
    AttentionProblem,
    AttentionSchedule,
)
from ..dialects.tile.warp_launch import WarpLaunch
from .attention_fold import LOG2_E, LOWEST, PARTIALS, quotients
from .attention_packets import keys_for, values_for
from .tile_builder import (
    Number,
    block_along,
    each,
    fill,
    fragment,
    index,
    loop,
    position,
    reduced,
    remark,
    rows_of,
    single,
    text,
    write_kernel,
)

MASK_STRIDES = ("mask_batch", "mask_head", "mask_query", "mask_key")
NUMBERS = ("planes", "queries", "keys", "past", "capacity")


@dataclass(frozen=True)
class _State:
    """What is carried over the keys."""

    top: ir.Value
    total: ir.Value
    sums: list[ir.Value]
    units: list[ir.Value]

    def listed(self) -> list[ir.Value]:
        return [self.top, self.total, *self.sums, *self.units]


def attention_kernel(
    problem: AttentionProblem, schedule: AttentionSchedule, name: str, target: str = "sm_80"
) -> WarpLaunch:
    """
    Write `tile.warp_kernel @name` at the insertion point; what the host must launch.

    Its grid is (tiles of rows, planes, splits * parts). With splits, `attention_fold` ends it.
    """
    writer = _Attention(problem, schedule)
    kinds = writer.argument_types()
    writes = PARTIALS if schedule.splits > 1 else ("result",)
    about = (target, schedule.warps)
    return write_kernel(name, about, kinds, writes, writer.write, _comment(problem, schedule))


def _comment(p: AttentionProblem, s: AttentionSchedule) -> str:
    """What the kernel computes, and its tiles."""
    sides = [rows.spelling or rows.element for rows in (p.keys, p.values)]
    whose = f"the same {s.rows} rows, keys of their own" if s.share_keys else f"{s.rows} rows each"
    lines = [
        f"Attention, depth {p.keys.depth} and {p.values.depth}, keys in {sides[0]}, values in "
        f"{sides[1]}, {p.group} query heads for a key head{', causal' * p.causal}",
        f"{s.warps} warps, {whose}; {s.keys} keys a step, {s.stages} stages"
        + f"; {s.splits} blocks share the keys" * (s.splits > 1),
    ]
    return "\n".join(lines)


@dataclass
class _Attention:
    problem: AttentionProblem
    schedule: AttentionSchedule

    def __post_init__(self) -> None:
        p, s = self.problem, self.schedule
        self.keys = keys_for(p, s)
        self.values = values_for(p, s)

    def argument_types(self) -> dict[str, ir.Type]:
        p = self.problem
        kinds = {"query": rows_of(p.keys.depth, p.query)}
        kinds |= self.keys.argument_types() | self.values.argument_types()
        if p.masked:
            kinds["mask"] = rows_of(1, "f32")
        if self.schedule.splits > 1:
            kinds |= {"sums": rows_of(p.values.depth, "f32")}
            kinds |= dict.fromkeys(("tops", "totals"), rows_of(1, "f32"))
        else:
            kinds["result"] = rows_of(p.values.depth, p.result)
        numbers = NUMBERS + (("heads", "mask_rows", *MASK_STRIDES) if p.masked else ())
        return kinds | dict.fromkeys(numbers, ir.IndexType.get())

    # ---- types

    def tile_type(self, columns: int, kind: str = "f32") -> ir.Type:
        return fragment([self.schedule.warps, self.schedule.rows, columns], kind, "c")

    def per_row(self, kind: str = "f32") -> ir.Type:
        return fragment([self.schedule.warps, self.schedule.rows], kind, "rows")

    # ---- the kernel

    def write(self, given: dict[str, ir.Value]) -> None:
        p, s = self.problem, self.schedule
        self.given = given
        self.number = {name: Number(given[name]) for name in given if given[name].type ==
                       ir.IndexType.get()}  # fmt: skip
        self.warp = Number(index("warp", "warp"))
        self.rows = (self.number["queries"] * p.group).named("rows")
        blocks = self.rows.pieces(s.block_rows).named("row_blocks")
        row_block, self.plane = block_along([("row_block", blocks)], "plane")
        first = row_block * s.block_rows
        self.block_row = first.named("block_row")
        self.row = first if s.share_keys else (first + self.warp * s.rows).named("row")
        self.split, self.part = self._third_axis()
        self.view_arguments()
        self.limits()
        query = self.query_fragment() if p.keys.depth <= RESIDENT_DEPTH else None
        self.query_view_row = self.plane * self.rows
        begin, end = self.shares()
        state = loop(begin, end, self.initial().listed(), s.block_keys, s.stages,
                     lambda k, carried: self.step(query, k, self.state_of(carried)))  # fmt: skip
        self.finish(self.state_of(state))

    def _third_axis(self) -> tuple[Number, Number]:
        """Which split of the keys, and which part of a value's columns."""
        s, parts = self.schedule, self.problem.parts
        if s.splits * parts == 1:
            return Number(0), Number(0)
        z = Number(index("z", "share"))
        if parts == 1:
            return z, Number(0)
        return (z // parts).named("split"), (z % parts).named("part")

    def view_arguments(self) -> None:
        p, given, number = self.problem, self.given, self.number
        all_rows = (number["planes"] * self.rows).named("all_rows")
        self.query = tile.ViewOp(given["query"], all_rows.value, given["query"].type).view
        for rows in (self.keys, self.values):
            rows.view(given, number["planes"], number["capacity"], self.plane)
        if p.masked:
            mask = given["mask"]
            self.mask = tile.ViewOp(mask, number["mask_rows"].value, mask.type).view
        if self.schedule.splits > 1:
            partial_rows = all_rows * self.schedule.splits
            self.targets = [tile.ViewOp(given[name], partial_rows.value, given[name].type).view
                            for name in PARTIALS]  # fmt: skip
        else:
            result = given["result"]
            self.targets = [tile.ViewOp(result, all_rows.value, result.type).view]

    def limits(self) -> None:
        """Keys that each row sees; the most that a row of this block does; those all of it do."""
        p, s, number = self.problem, self.schedule, self.number
        keys, queries, past = number["keys"], number["queries"], number["past"]
        self.limit, self.visible, self.everywhere = keys.value, keys, keys
        if not p.causal:
            return
        row = self.row

        def limit(r: ir.Value) -> ir.Value:
            token = (Number(r) + row) % queries
            return (token + past + 1).least(keys).value

        where = fragment([s.warps, s.rows], "index", "rows")
        self.limit = each([], where, lambda: limit(position("row")), "limit")
        token = self.block_row % queries
        end = (token + (s.block_rows - 1)).named("last_token")
        seen = (end.least(queries - 1) + past + 1).named("seen_by_last")
        self.visible = seen.least(keys).named("visible")
        # Rows that begin another head's queries see as little as its first token.
        within = end.above(queries - 1)
        first = Number(arith.select(within, Number(0).value, token.value)).named("least_token")
        self.everywhere = (first + past + 1).least(keys).named("everywhere")

    def shares(self) -> tuple[Number, Number]:
        """The keys of this block."""
        s = self.schedule
        if s.splits == 1:
            return Number(0), self.visible
        steps = (self.visible + (s.block_keys - 1)) // s.block_keys
        begin = self.split * steps // s.splits * s.block_keys
        end = (self.split + 1) * steps // s.splits * s.block_keys
        return begin.named("first_key"), end.least(self.visible).named("last_key")

    def query_fragment(self) -> ir.Value:
        return self.picked(0, self.keys.columns, "query_tile")

    def picked(self, column: Number | int, columns: int, name: str) -> ir.Value:
        """Columns of this warp's queries as a left operand; zeros behind the last row."""
        p, s = self.problem, self.schedule
        base = self.plane * self.rows
        kind = fragment([s.warps, s.rows, columns], p.operand, "a")
        limit = (base + self.rows).value
        row = (base + self.row).value
        op = tile.PickOp(self.query, row, Number.of(column).value, limit, kind)
        op.operation.attributes["label"] = text(name)
        return op.fragment

    def initial(self) -> _State:
        top = fill(LOWEST, self.per_row(), "top")
        total = fill(0.0, self.per_row(), "total")
        sums = [fill(0.0, self.tile_type(n), "sums") for n in self.values.widths()]
        one = fragment([self.schedule.warps], "f32", "one")
        units = [fill(0.0, one, "unit") for _ in range(self.values.units)]
        return _State(top, total, sums, units)

    def state_of(self, carried: list[ir.Value]) -> _State:
        top, total, *rest = carried
        count = len(self.values.widths())
        return _State(top, total, rest[:count], rest[count:])

    # ---- one step

    def step(self, query: ir.Value | None, k: Number, state: _State) -> list[ir.Value]:
        s = self.schedule
        mine = (k + self.warp * s.keys).named("key") if s.share_keys else k
        end = self.number["keys"]
        self.keys.fetch(k, end)
        self.values.fetch(k, end, self.part)
        at = self.warp * s.keys if s.share_keys else Number(0)
        for side in (self.keys, self.values):
            side.place()
        if self.keys.placed or self.values.placed:
            tile.SyncOp()
        scores = self.scores(query, at, mine)
        top = reduced(scores, "max", "columns", self.per_row(), state.top, "highest")
        remark(top, "Weights, relative to the highest score of their row so far")
        factor = self.exponent_factor
        scaled = each([top], self.per_row(), lambda m: arith.mulf(m, single(-factor)), "offset")
        weights = each([scores, scaled], self.tile_type(s.keys), self.weight, "weights")
        turn = each([state.top, top], self.per_row(), self.turned, "turn")
        remark(turn, "What was summed before weighs less by this")
        total = each([state.total, turn], self.per_row(), arith.mulf)
        total = reduced(weights, "add", "columns", self.per_row(), total, "total")
        sums, units = [], []
        for group, held in enumerate(state.sums):
            unit, by = self.values.rescaling(group, at, state.units, turn, self.per_row())
            held = remark(each([held, by], held.type, arith.mulf), "Values by weight")
            sums.append(self.values.add(group, weights, at, unit, held))
            units += [unit] * (unit is not None)
        return _State(top, total, sums, units).listed()

    @property
    def exponent_factor(self) -> float:
        """Scores times this are exponents of 2; a mask is added to scores that are scaled."""
        return LOG2_E if self.problem.masked else self.problem.scale * LOG2_E

    def weight(self, score: ir.Value, offset: ir.Value) -> ir.Value:
        return math.exp2(math.fma(score, single(self.exponent_factor), offset))

    def turned(self, before: ir.Value, after: ir.Value) -> ir.Value:
        """By how much what was summed before weighs less."""
        return math.exp2(arith.mulf(arith.subf(before, after), single(self.exponent_factor)))

    def scores(self, query: ir.Value | None, at: Number, key: Number) -> ir.Value:
        s, p = self.schedule, self.problem
        said = f"Scores: {s.rows} rows of queries by {s.keys} keys for each warp"
        products = remark(fill(0.0, self.tile_type(s.keys), "scores"), said)
        products = self.keys.multiply(query, self.picked, at, products)
        if p.masked:
            return self.masked(products, key)
        condition = (key + s.keys).above(self.everywhere)
        limit = self.limit

        def seen(score: ir.Value, limit: ir.Value, key: ir.Value) -> ir.Value:
            return self.seen(score, limit, (Number(position("column")) + Number(key)).value)

        seen_ = each([products, limit, key.value], products.type, seen, condition=condition)
        return remark(seen_, "Keys behind what a row sees weigh nothing")

    def seen(self, score: ir.Value, limit: ir.Value, key: ir.Value) -> ir.Value:
        inside = arith.cmpi(arith.CmpIPredicate.slt, key, limit)
        return arith.select(inside, score, single(float("-inf")))

    def masked(self, products: ir.Value, key: Number) -> ir.Value:
        """Scaled scores with the mask added."""
        scale, last = self.problem.scale, self.number["keys"] - 1
        stride = self.number["mask_key"]

        def added(score: ir.Value, limit: ir.Value, key: ir.Value, place: ir.Value) -> ir.Value:
            column = Number(position("column")) + Number(key)
            at = Number(place) + column.least(last).wide() * stride.wide()
            mask = tile.ElementOp(self.mask, at.value, ir.F32Type.get()).element
            score = arith.addf(arith.mulf(score, single(scale)), mask)
            return self.seen(score, limit, column.value)

        inputs = [products, self.limit, key.value, self.mask_rows()]
        return each(inputs, products.type, added, "masked")

    def mask_rows(self) -> ir.Value:
        """Where the mask of each row begins; its elements lie at the strides of its axes."""
        p, s, number, row = self.problem, self.schedule, self.number, self.row
        batch, head, query = (number[name].wide() for name in MASK_STRIDES[:3])
        in_batch = (self.plane // number["heads"]).wide() * batch
        of_plane = in_batch + (self.plane % number["heads"] * p.group).wide() * head

        def place(r: ir.Value) -> ir.Value:
            at = (Number(r) + row).least(self.rows - 1)
            of_head = (at // number["queries"]).wide() * head
            return (of_plane + of_head + (at % number["queries"]).wide() * query).value

        where = fragment([s.warps, s.rows], "i64", "rows")
        return each([], where, lambda: place(position("row")), "mask_row")

    # ---- the end

    def finish(self, state: _State) -> None:
        restored = self.schedule.share_keys
        if restored:
            state = self.folded(state)
        base = self.plane * self.rows
        split = self.schedule.splits > 1
        if split:
            base = (base * self.schedule.splits + self.split * self.rows).named("partial")
        rows = self.rows
        if self.schedule.share_keys:
            # All warps hold the same, and the first one stores it.
            others = self.warp.above(0)
            rows = Number(arith.select(others, Number(0).value, rows.value)).named("stored")
        row, end = (base + self.row).value, (base + rows).value
        for group, sums in enumerate(state.sums):
            column = self.values.first_column(group, self.part).value
            held = sums if restored else self.values.restored(group, state.units, sums)
            if not split:
                held = self.divided(held, state.total)
            tile.SaveOp(held, self.targets[0], row, column, end)
        if split:
            for value, target in zip((state.top, state.total), self.targets[1:], strict=True):
                tile.SaveOp(value, target, row, Number(0).value, end)

    def folded(self, state: _State) -> _State:
        """What the warps found of other keys, together."""
        top = reduced(state.top, "max", "warps", self.per_row(), name="top_of_all")
        turn = each([state.top, top], self.per_row(), self.turned, "turn_of_warp")
        total = each([state.total, turn], self.per_row(), arith.mulf)
        total = reduced(total, "add", "warps", self.per_row(), name="total_of_all")
        sums = []
        for group, held in enumerate(state.sums):
            held = each([held, turn], held.type, arith.mulf)
            held = self.values.restored(group, state.units, held)
            sums.append(reduced(held, "add", "warps", held.type, name="sums_of_all"))
        return _State(top, total, sums, [])

    def divided(self, sums: ir.Value, total: ir.Value) -> ir.Value:
        return quotients(sums, total, self.per_row(), self.problem.result)
