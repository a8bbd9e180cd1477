"""
A program of one attention over keys and values as they are stored, to be tried by itself.

    main(query, keys, values) = tile.launch @attention (…), and @fold where blocks share the keys
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from ...codegen.cuda.program import CudaCode
from ...codegen.cuda.read_plan import read_function
from ...dialects.bindings import func, ir
from ...dialects.context import make_context
from ...dialects.tile.attention_problem import KEYS, AttentionProblem, AttentionSchedule, Rows
from ...dialects.tile.cache_layout import cache_parts
from ...dialects.tile.warp_launch import WarpLaunch
from ...passes.attention_fold import FOLD_ROWS, PARTIALS, attention_fold
from ...passes.attention_kernel import attention_kernel
from ...passes.launching import Argument, Made, Number, Read, Shape, Write, launch, words
from ..cuda.build import code_of
from .attention_reference import Seen, exact
from .layer_data import LayerData

MOST_SCORES = 1 << 24
"""That the reference computes."""
MOST_EXCERPT = 1 << 14
"""Keys of what the emulator checks."""
DTYPES: dict[str, Any] = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}


@dataclass(frozen=True, slots=True)
class OneAttention:
    """
    `queries` of each of the problem's heads, the last ones of `keys` positions.

    The problem has no mask, and `rows` that are its queries times heads of a group.
    """

    problem: AttentionProblem
    keys: int

    @property
    def queries(self) -> int:
        return self.problem.rows // self.problem.group

    @property
    def past(self) -> int:
        return self.keys - self.queries

    @property
    def capacity(self) -> int:
        """Positions that are stored, whole tiles of them."""
        return -(-self.keys // KEYS) * KEYS

    def data(self) -> LayerData:
        p, rng = self.problem, np.random.default_rng(0)
        shape = (p.planes * p.rows, p.keys.depth)
        query = rng.standard_normal(shape, np.float32).astype(DTYPES[p.query])
        keys, key = stored_rows(rng, p, p.keys, p.planes, self.capacity)
        values, value = stored_rows(rng, p, p.values, p.planes, self.capacity)
        by_query = query.reshape(p.planes, p.group, self.queries, -1)
        planes, queries = self._sampled()
        positions = self.past + queries if p.causal else np.full(len(queries), self.keys - 1)
        some = by_query[planes][:, :, queries]
        seen = Seen(some, key[planes, : self.keys], value[planes, : self.keys], positions)
        expected, bound = exact(p, seen)
        places = np.arange(p.planes * p.rows).reshape(by_query.shape[:3])
        picked = places[planes][:, :, queries].reshape(-1)
        flags = {"key_flags": np.zeros((p.planes * self.capacity, 1), np.float32)}
        given = {"query": query, **keys, **values, **flags}
        inputs = [given[name] for name in self.inputs]
        wide = (len(picked), -1)
        return LayerData(inputs, {}, expected.reshape(wide), bound.reshape(wide), picked)

    def _sampled(self) -> tuple[np.ndarray, np.ndarray]:
        """Planes and queries to compare: all, or of many scores some, the last ones included."""
        p, scores = self.problem, max(1, MOST_SCORES // self.keys)
        planes = np.arange(p.planes)[-max(1, scores // p.rows) :]
        count = min(self.queries, max(1, scores // (len(planes) * p.group)))
        return planes, np.unique(np.linspace(0, self.queries - 1, count).round().astype(int))

    @property
    def inputs(self) -> list[str]:
        """What the program takes, by the names of the kernel's arguments."""
        rows = (self.problem.keys, self.problem.values)
        parts = [name for each in rows for name in _parts(each)]
        packed = any(each.format is not None for each in rows)
        return ["query", *parts, *(["key_flags"] if packed else [])]

    def code(self, schedule: AttentionSchedule, machine: str) -> CudaCode:
        """The kernels of a schedule and their launches."""
        p, s = self.problem, schedule
        with make_context(), ir.Location.unknown():
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                attention = attention_kernel(p, s, "attention", machine)
                fold = attention_fold(p, s.splits, "fold", machine) if s.splits > 1 else None
                types = [_tensor(array) for array in self.data_types()]
                result = _type((p.planes * p.rows, p.values.depth), p.result)
                main = func.FuncOp("main", (types, [result]))
            block = main.add_entry_block()
            with ir.InsertionPoint(block):
                given = dict(zip(self.inputs, block.arguments, strict=True))
                func.ReturnOp([self._launched(attention, fold, s, given, result)])
            constants: dict[str, np.ndarray] = {}
            functions = {"main": read_function(module, "main", constants)}
            return code_of(module, machine, functions, constants)

    def data_types(self) -> list[np.ndarray]:
        """Arrays like those of `data`, with nothing in them."""
        p = self.problem
        shape = (p.planes * p.rows, p.keys.depth)
        found: dict[str, np.ndarray] = {"query": np.empty(shape, DTYPES[p.query])}
        for rows in (p.keys, p.values):
            one, _ = stored_rows(np.random.default_rng(0), p, rows, 1, KEYS)
            count = p.planes * self.capacity // KEYS
            for name, part in one.items():
                found[name] = np.empty((count * part.shape[0], *part.shape[1:]), part.dtype)
        found["key_flags"] = np.empty((p.planes * self.capacity, 1), np.float32)
        return [found[name] for name in self.inputs]

    def _launched(
        self,
        attention: WarpLaunch,
        fold: WarpLaunch | None,
        schedule: AttentionSchedule,
        given: dict[str, ir.Value],
        result: ir.Type,
    ) -> ir.Value:
        p, s = self.problem, schedule
        grid = -(-p.rows // s.block_rows) * p.planes, 1, s.splits * p.parts
        if fold is None:
            return self._launch(attention, grid, given, {"result": Write(0)}, [Made(result)])[0]
        count = p.planes * p.rows * s.splits
        partials = [Made(_type((count, n), "f32")) for n in (p.values.depth, 1, 1)]
        writes: dict[str, Argument] = {name: Write(place) for place, name in enumerate(PARTIALS)}
        parts = self._launch(attention, grid, given, writes, partials)
        folded = given | dict(zip(PARTIALS, parts, strict=True))
        grid = -(-p.rows // FOLD_ROWS) * p.planes, 1, p.parts
        return self._launch(fold, grid, folded, {"result": Write(0)}, [Made(result)])[0]

    def _launch(
        self,
        kernel: WarpLaunch,
        grid: tuple[int, int, int],
        given: dict[str, ir.Value],
        written: dict[str, Argument],
        made: list[Made],
    ) -> list[ir.Value]:
        numbers = {"planes": self.problem.planes, "queries": self.queries, "keys": self.keys,
                   "past": self.past, "capacity": self.capacity}  # fmt: skip
        known: dict[str, Argument] = {name: Number(size) for name, size in numbers.items()}
        known |= {name: Read(value) for name, value in given.items()}
        known |= {name: Read(words(table)) for name, table in kernel.tables.items()}
        known |= written
        shape = Shape(grid, kernel.threads, kernel.shared_bytes)
        return launch(kernel.kernel, shape, [known[name] for name in kernel.arguments], made)

    def excerpt(self, schedule: AttentionSchedule) -> OneAttention:
        """A few blocks, and for each a few turns of the pipeline over keys."""
        s, p = schedule, self.problem
        keys = min(self.keys, s.splits * s.block_keys * (s.stages + 1), MOST_EXCERPT)
        queries = min(self.queries, max(1, 2 * s.block_rows // p.group), keys)
        small = replace(p, planes=min(p.planes, 2), rows=queries * p.group)
        return OneAttention(small, max(keys - 5, queries))


def stored_rows(
    rng: np.random.Generator, problem: AttentionProblem, rows: Rows, planes: int, capacity: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random rows as kernels read them, by argument, and their values [planes, capacity, depth]."""
    values = rng.standard_normal((planes * capacity, rows.depth), np.float32)
    program = problem.program(rows)
    if rows.format is None or program is None:
        plain = values.astype(DTYPES[rows.element])
        return {rows.name: plain}, plain.astype(np.float64).reshape(planes, capacity, -1)
    encoded = rows.format.encode_rows(values)
    wide = rows.format.decode_rows(encoded, rows.depth).astype(np.float64)
    parts = cache_parts(rows, program.order, encoded)
    given = {f"{rows.name}_{role}": part for role, part in parts.items()}
    return given, wide.reshape(planes, capacity, -1)


def _parts(rows: Rows) -> list[str]:
    if rows.format is None:
        return [rows.name]
    problem = AttentionProblem(rows, rows, 1.0)
    given, _ = stored_rows(np.random.default_rng(0), problem, rows, 1, KEYS)
    return list(given)


def _type(shape: tuple[int, ...], element: str) -> ir.Type:
    return ir.RankedTensorType.get(list(shape), ir.Type.parse(element))


def _tensor(array: np.ndarray) -> ir.Type:
    """Codes are words without a sign."""
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    element = names.get(array.dtype, f"i{8 * array.dtype.itemsize}")
    return _type(array.shape, element)
