"""
Attention becomes launches of kernels over tiles.

    y = qcc.attention q, k, v, past {cache = "cache.0", key_format = "int4"}
      =>  c = qcc.quantize k; tile.launch @append (k, c, caches); y = tile.launch @attention (…)

Keys and values of a cache without formats are kept in the type that products have; those with one
in packets (dialects/tile/cache_layout.py), after `qcc.quantize` has encoded the rows of a call.
A step has two kernels, for few rows and for many, and the number of rows decides at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir, scf, tensor
from ..dialects.errors import UnsupportedError
from ..dialects.regions import walk
from ..dialects.tile.attention_problem import (
    FEW_ROWS,
    KEYS,
    AttentionProblem,
    AttentionSchedule,
    Rows,
    code_words,
    default_attention,
    row_parts,
)
from ..dialects.tile.warp_launch import WarpLaunch
from .append_kernel import append_kernel
from .attention_fold import FOLD_ROWS, PARTIALS, attention_fold
from .attention_kernel import MASK_STRIDES, attention_kernel
from .launching import (
    Argument,
    Kernels,
    Made,
    Number,
    Read,
    Scheduling,
    Shape,
    Size,
    Write,
    cache,
    capacity,
    launch,
    like,
    pieces,
    product,
    size_of,
    unsupported,
    words,
)

MANY_ROWS = 4096
"""What kernels for an unknown number of rows are chosen for."""


Chooser = Callable[[AttentionProblem, str], AttentionSchedule]


def schedule_attention(
    options: Scheduling, choose: Chooser = default_attention
) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels = _AttentionKernels(module, options.target, choose)
        for op in walk(module):
            if isinstance(op, qcc.AttentionOp):
                with ir.InsertionPoint(op), op.location:
                    _Site(op, kernels).replace()

    return apply


class _AttentionKernels(Kernels[WarpLaunch]):
    def __init__(self, module: Operation, target: str, choose: Chooser) -> None:
        super().__init__(module, target)
        self._choose = choose

    def attention(self, problem: AttentionProblem) -> tuple[WarpLaunch, AttentionSchedule]:
        schedule = self._choose(problem, self.target)
        key = ("attention", replace(problem, rows=0, planes=0), schedule)
        stem = "attention_few" if schedule.share_keys else "attention_many"
        return self.once(
            key, stem, lambda name: attention_kernel(problem, schedule, name, self.target)
        ), schedule

    def fold(self, problem: AttentionProblem, splits: int) -> WarpLaunch:
        key = ("fold", problem.values.depth, problem.scale, problem.masked, problem.group,
               problem.result, problem.value_unit, splits)  # fmt: skip
        return self.once(
            key, "attention_fold", lambda name: attention_fold(problem, splits, name, self.target)
        )

    def append(self, problem: AttentionProblem, given: str) -> WarpLaunch:
        key = ("append", problem.keys, problem.values, problem.operand, given)
        return self.once(
            key, "append", lambda name: append_kernel(problem, name, self.target, given)
        )


class _Site:
    """One attention op on its way to launches."""

    def __init__(self, op: qcc.AttentionOp, kernels: _AttentionKernels) -> None:
        self.op, self.kernels = op, kernels
        self.cached = qcc.is_cached(op)
        self.heads, self.key_heads = (self.static(value, 1) for value in (op.query, op.key))
        self.batch, self.queries = size_of(op.query, 0), size_of(op.query, 2)
        self.problem = self._problem()

    def static(self, value: ir.Value, axis: int) -> int:
        size = ir.RankedTensorType(value.type).shape[axis]
        if size < 0:
            raise self.refused("the number of heads is known at run time only", "make it static")
        return size

    def refused(self, why: str, next_step: str) -> UnsupportedError:
        return unsupported(self.op, "attention", "an attention", why, next_step)

    # ---- what is computed

    def _problem(self) -> AttentionProblem:
        op = self.op
        query, key, value = (_element(each) for each in (op.query, op.key, op.value))
        operand = next((kind for kind in (query, key, value) if kind != "f32"), "f16")
        others = {query, key, value} - {operand, "f32"}
        if others:
            raise self.refused(
                f"its operands are {query}, {key} and {value}", "use one type of half precision"
            )
        group = self.heads // self.key_heads
        rows = MANY_ROWS if not isinstance(self.queries, int) else self.queries * group
        batch = self.batch if isinstance(self.batch, int) else 1
        scale = ir.FloatAttr(op.scale).value
        return AttentionProblem(
            self._rows("key", "key_format", op.key, operand),
            self._rows("value", "value_format", op.value, operand),
            scale, group, rows, batch * self.key_heads, query, _element(op.result), operand,
            ir.BoolAttr(op.causal).value, op.mask is not None,
        )  # fmt: skip

    def _rows(self, name: str, attribute: str, value: ir.Value, operand: str) -> Rows:
        depth = ir.RankedTensorType(value.type).shape[3]
        if not self.cached:
            return Rows(name, depth, _element(value))
        spelling = qcc.cache_format(self.op, attribute)
        rows = Rows.of(name, depth, spelling, operand)
        # Plain rows are kept as they are multiplied: rounded once, now or later.
        return rows if rows.spelling else replace(rows, element=operand)

    # ---- launches

    def replace(self) -> None:
        op = self.op
        if self.cached:
            self.past: Size = arith.index_cast(
                ir.IndexType.get(), tensor.extract(_result(op.past), [])
            )
            room = pieces(capacity(), KEYS)
            self.capacity: Size = product([room, KEYS])
            self.keys = self.sum(self.past, self.queries)
            self.given = self._caches(room)
            self._append()
        else:
            self.past, self.keys = 0, size_of(op.key, 2)
            self.capacity = self.keys
            self.given = {"key": op.key, "value": op.value}
        result = self._choose()
        op.result.replace_all_uses_with(result)
        op.operation.erase()

    def sum(self, a: Size, b: Size) -> ir.Value:
        return arith.addi(_index(a), _index(b))

    def _choose(self) -> ir.Value:
        """The kernel for the rows there are: the number decides when it is known."""
        if isinstance(self.queries, int) or not self.cached:
            return self._attend(self.problem)
        most = _index(max(1, FEW_ROWS // self.problem.group))
        few = arith.cmpi(arith.CmpIPredicate.sle, _index(self.queries), most)
        branch = scf.IfOp(few, [self.op.result.type], has_else=True)
        blocks = (branch.then_block, self.problem.group), (branch.else_block, MANY_ROWS)
        for block, rows in blocks:
            with ir.InsertionPoint(block):
                scf.YieldOp([self._attend(replace(self.problem, rows=rows))])
        return branch.results[0]

    def _attend(self, problem: AttentionProblem) -> ir.Value:
        op = self.op
        found, s = self.kernels.attention(problem)
        rows = product([self.queries, problem.group])
        planes = product([self.batch, self.key_heads])
        blocks = product([pieces(rows, s.block_rows), planes])
        grid = (blocks, 1, s.splits * problem.parts)
        made = like(op.query, op.result.type)
        if s.splits == 1:
            return self._launch(found, grid, {"result": Write(0)}, [made])[0]
        count = product([planes, rows, s.splits])
        partials = [_floats(count, columns) for columns in (problem.values.depth, 1, 1)]
        writes: dict[str, Argument] = {name: Write(i) for i, name in enumerate(PARTIALS)}
        parts = self._launch(found, grid, writes, partials)
        fold = self.kernels.fold(problem, s.splits)
        reads: dict[str, Argument] = dict(zip(PARTIALS, map(Read, parts), strict=True))
        grid = (product([pieces(rows, FOLD_ROWS), planes]), 1, problem.parts)
        return self._launch(fold, grid, reads | {"result": Write(0)}, [made])[0]

    def _launch(
        self,
        found: WarpLaunch,
        grid: tuple[Size, Size, Size],
        named: dict[str, Argument],
        made: list[Made],
    ) -> list[ir.Value]:
        numbers = {
            "planes": product([self.batch, self.key_heads]), "queries": self.queries,
            "keys": self.keys, "past": self.past, "capacity": self.capacity,
        }  # fmt: skip
        arguments = named | {name: Number(size) for name, size in numbers.items()}
        arguments |= {"query": Read(self.op.query)}
        arguments |= {name: Read(value) for name, value in self.given.items()}
        arguments |= {name: Read(words(table)) for name, table in found.tables.items()}
        if "mask" in found.arguments:
            arguments |= self._mask()
        shape = Shape(grid, found.threads, found.shared_bytes)
        given = [arguments[name] for name in found.arguments]
        return launch(found.kernel, shape, given, made, self.op.operation)

    def _mask(self) -> dict[str, Argument]:
        """The mask and the distances of its elements along batch, heads, queries, keys."""
        mask = _result(self.op.mask)
        kind = ir.RankedTensorType(mask.type)
        if str(kind.element_type) != "f32":
            raise self.refused(f"its mask is {kind}", "add a mask of fp32")
        strides: list[Size] = []
        distance: Size = 1
        for axis in reversed(range(kind.rank)):
            extent = size_of(mask, axis)
            strides.append(_unless_one(extent, distance))
            distance = product([distance, extent])
        strides += [0] * (4 - kind.rank)
        numbers = dict(zip(MASK_STRIDES, reversed(strides), strict=True))
        numbers |= {"heads": self.key_heads, "mask_rows": distance}
        named: dict[str, Argument] = {name: Number(size) for name, size in numbers.items()}
        return named | {"mask": Read(mask)}

    # ---- caches

    def _caches(self, room: Size) -> dict[str, ir.Value]:
        """The state of this op, by the names of a kernel's arguments; `room` counts tiles."""
        stem = ir.StringAttr(self.op.cache).value
        given: dict[str, ir.Value] = {}
        sides = (self.problem.keys, self.problem.values)
        for rows in sides:
            name = f"{stem}.{rows.name}s"
            if rows.format is None:
                given[rows.name] = self._cache(name, self.capacity, rows.depth, rows.element)
                continue
            given[f"{rows.name}_codes"] = self._cache(
                f"{name}.codes", room, code_words(rows), "i32"
            )
            for role, (columns, kind) in row_parts(rows).items():
                given[f"{rows.name}_{role}"] = self._cache(
                    f"{name}.{role}", self.capacity, columns, STORED.get(kind, kind)
                )
        if any(rows.format is not None for rows in sides):
            given["key_flags"] = self._cache(f"{stem}.flags", self.capacity, 1, "f32")
        return given

    def _cache(self, name: str, positions: Size, columns: int, element: str) -> ir.Value:
        shape = [-1 if not isinstance(self.batch, int) else self.batch, self.key_heads, -1, columns]
        dynamic = ir.ShapedType.get_dynamic_size()
        kind = ir.RankedTensorType.get(
            [dynamic if extent < 0 else extent for extent in shape], ir.Type.parse(element)
        )
        extents = [positions] if isinstance(self.batch, int) else [self.batch, positions]
        return cache(name, kind, extents, grows=2)

    def _append(self) -> None:
        op, problem = self.op, self.problem
        given = _element(op.key)
        if _element(op.value) != given:
            raise self.refused("keys and values differ in type", "convert one to the other's")
        found = self.kernels.append(problem, given)
        named: dict[str, Argument] = {}
        for rows, value in ((problem.keys, op.key), (problem.values, op.value)):
            named[f"new_{rows.name}"] = Read(value)
            if rows.spelling is None:
                continue
            codes = qcc.QuantizeOp(value, qcc.packed(value.type, rows.spelling)).codes
            for role in ("codes", *row_parts(rows)):
                named[f"new_{rows.name}_{role}"] = Read(codes, role)
        tiles = arith.subi(
            _index(pieces(self.keys, KEYS)), arith.divui(_index(self.past), _index(KEYS))
        )
        grid = (product([tiles, self.batch, self.key_heads]), 1, 1)
        self._launch(found, grid, named, [])


STORED = {"ui8": "i8", "si8": "i8", "ui16": "i16", "ui32": "i32"}


def _element(value: ir.Value) -> str:
    return str(ir.RankedTensorType(value.type).element_type)


def _index(size: Size) -> ir.Value:
    return arith.constant(ir.IndexType.get(), size) if isinstance(size, int) else size


def _floats(rows: Size, columns: int) -> Made:
    extent = rows if isinstance(rows, int) else ir.ShapedType.get_dynamic_size()
    kind = ir.RankedTensorType.get([extent, columns], ir.F32Type.get())
    return Made(kind, () if isinstance(rows, int) else (rows,))


def _unless_one(extent: Size, distance: Size) -> Size:
    """The distance of elements along an axis, 0 where there is only one."""
    if isinstance(extent, int):
        return 0 if extent == 1 else distance
    single = arith.cmpi(arith.CmpIPredicate.eq, extent, _index(1))
    return arith.select(single, _index(0), _index(distance))


def _result(value: Any) -> ir.Value:
    assert value is not None
    return value
