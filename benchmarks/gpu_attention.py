"""Causal attention over caches, checked and timed on a GPU: decoding, prompts, grouped heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu_cases import DTYPES
from benchmarks.gpu_launches import SCRATCH, Call, Trial, worst
from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.compiler.tuning.attention_reference import Seen, exact
from qcc.compiler.tuning.one_attention import stored_rows
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.tile.attention_problem import (
    KEYS,
    AttentionProblem,
    AttentionSchedule,
    Rows,
    default_attention,
)
from qcc.dialects.tile.warp_launch import WarpLaunch
from qcc.passes.attention_fold import FOLD_ROWS, attention_fold
from qcc.passes.attention_kernel import attention_kernel

CACHES = ("fp16", "fp8_e4m3", "int8", "int4")
SAMPLED_QUERIES = 8
DISTINCT_PLANES = 2  # of a cache; more are repetitions, whose encoding would only take time


@dataclass(frozen=True)
class Attention:
    """`group` query heads for each of `planes` key heads; `past` keys before the `queries`."""

    cache: str
    planes: int
    group: int
    queries: int
    past: int
    depth: int = 128
    kind = "attention"
    math = "fp16"

    @property
    def name(self) -> str:
        what = "decode" if self.queries == 1 else "prefill"
        return (f"{what} {self.cache} heads={self.planes * self.group}/{self.planes} "
                f"depth={self.depth} queries={self.queries} keys={self.keys}")  # fmt: skip

    @property
    def keys(self) -> int:
        return self.past + self.queries

    @property
    def capacity(self) -> int:
        """Positions of a cache, whole tiles of them."""
        return -(-self.keys // KEYS) * KEYS

    @property
    def rows(self) -> int:
        return self.queries * self.group

    @property
    def seen(self) -> int:
        """Pairs of a query and a key that it sees, of one head."""
        return self.queries * self.past + self.queries * (self.queries + 1) // 2

    @property
    def operations(self) -> int:
        return 4 * self.depth * self.planes * self.group * self.seen

    @property
    def problem(self) -> AttentionProblem:
        keys, values = (Rows.of(name, self.depth, self.cache) for name in ("key", "value"))
        return AttentionProblem(keys, values, self.depth**-0.5, self.group, self.rows, self.planes)

    def trial(self, target: str, sampled: bool) -> Trial:
        """With `sampled` only a few queries of the last plane are compared."""
        p = self.problem
        schedule = default_attention(p, target)
        source, calls = self._emitted(p, schedule, target)
        rng = np.random.default_rng(self.keys)
        shape = (self.planes * self.rows, self.depth)
        query = rng.standard_normal(shape, np.float32).astype(DTYPES[p.query])
        keys, key = self._stored(rng, p, p.keys)
        values, value = self._stored(rng, p, p.values)
        parts = len(query) * schedule.splits
        given: dict[str, Any] = {
            "query": query, **keys, **values, "result": np.zeros(shape, DTYPES[p.result]),
            "planes": self.planes, "queries": self.queries, "keys": self.keys,
            "past": self.past, "capacity": self.capacity,
            "key_flags": np.zeros((self.planes * self.capacity, 1), np.float32),
            "sums": np.full((parts, self.depth), np.nan, np.float32),
            "tops": np.full((parts, 1), np.nan, np.float32),
            "totals": np.full((parts, 1), np.nan, np.float32),
        }  # fmt: skip
        planes = np.arange(self.planes)[-1:] if sampled else np.arange(self.planes)
        count = min(self.queries, SAMPLED_QUERIES) if sampled else self.queries
        picked = np.unique(np.linspace(0, self.queries - 1, count).astype(int))
        by_query = query.reshape(self.planes, self.group, self.queries, -1)
        seen = Seen(by_query[planes][:, :, picked], key[planes % len(key), : self.keys],
                    value[planes % len(value), : self.keys], self.past + picked)  # fmt: skip
        wanted, bound = exact(p, seen)

        def error(result: np.ndarray) -> float:
            found = result.reshape(by_query.shape)[planes][:, :, picked]
            return worst(found, wanted, bound)

        return Trial(source, calls, given, "result", error, self._moved(given))

    def _moved(self, given: dict[str, Any]) -> int:
        """Queries and results; of caches, the positions that are seen."""
        whole = {"query", "result"}
        arrays = {role: part.nbytes for role, part in given.items()
                  if isinstance(part, np.ndarray) and role not in SCRATCH}  # fmt: skip
        return sum(size if role in whole else size * self.keys // self.capacity
                   for role, size in arrays.items())  # fmt: skip

    def _emitted(
        self, problem: AttentionProblem, schedule: AttentionSchedule, target: str
    ) -> tuple[str, tuple[Call, ...]]:
        """Without splits, one kernel; else another one folds what the first one's blocks found."""
        p, s = problem, schedule
        grid = -(-self.rows // s.block_rows) * self.planes, 1, s.splits * p.parts
        with make_context(), ir.Location.unknown():
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                launches: list[tuple[WarpLaunch, tuple[int, int, int]]] = [
                    (attention_kernel(p, s, "attention", target), grid)
                ]
                if s.splits > 1:
                    fold = -(-self.rows // FOLD_ROWS) * self.planes, 1, p.parts
                    launches.append((attention_fold(p, s.splits, "fold", target), fold))
            source = emit_warps(list(module.body.operations))
        return source, tuple(Call.warps(*each) for each in launches)

    def _stored(
        self, rng: np.random.Generator, problem: AttentionProblem, rows: Rows
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """A cache's arguments, and the values in its distinct planes [planes, capacity, depth]."""
        distinct = min(self.planes, DISTINCT_PLANES)
        held, values = stored_rows(rng, problem, rows, distinct, self.capacity)
        program, tables = problem.program(rows), {}
        if program is not None and (table := problem.table_name(rows)):
            tables[table] = np.array(program.table, np.uint32)
        given = {role: self._planes(part, distinct) for role, part in held.items()} | tables
        return given, values

    def _planes(self, part: np.ndarray, distinct: int) -> np.ndarray:
        """The distinct planes, again and again."""
        by_plane = part.reshape(distinct, -1, *part.shape[1:])
        return by_plane[np.arange(self.planes) % distinct].reshape(-1, *part.shape[1:])

    def peer(self, torch: Any, copies: int) -> list[Callable[[], Any]]:
        """torch's own attention over keys and values in fp16, the best kernel that it has."""
        heads = self.planes * self.group
        query_shape = (1, heads, self.queries, self.depth)
        shape = (1, self.planes, self.keys, self.depth)
        # A triangle from the last key: torch's own flag begins at the first one.
        causal = self.queries > 1 and self.past == 0
        mask = None
        if self.queries > 1 and self.past:
            seen = torch.arange(self.keys, device="cuda")
            mask = seen <= self.past + torch.arange(self.queries, device="cuda")[:, None]
        options = {"attn_mask": mask, "is_causal": causal, "enable_gqa": self.group > 1}
        attention = torch.nn.functional.scaled_dot_product_attention
        sets = [[torch.randn(each, dtype=torch.float16, device="cuda")
                 for each in (query_shape, shape, shape)] for _ in range(copies)]  # fmt: skip
        return [partial(attention, *given, **options) for given in sets]


def checked() -> Iterator[Attention]:
    for cache in CACHES:
        yield Attention(cache, 2, 3, 1, 137, 64)
        yield Attention(cache, 2, 2, 37, 0, 80)
        yield Attention(cache, 1, 1, 21, 70)


def timed() -> Iterator[Attention]:
    """Decoding of Llama 7B and of 8B, whose heads are grouped, of 16 sequences too; prompts."""
    for cache in CACHES:
        for planes, group in ((32, 1), (8, 4), (8 * 16, 4)):
            yield Attention(cache, planes, group, 1, 4095)
        yield Attention(cache, 8, 4, 2048, 0)
        yield Attention(cache, 8, 4, 512, 3584)
