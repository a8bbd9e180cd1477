"""
Emitted attention, plain and over packed caches, run by the emulator in all its modes against NumPy.

All kernels are one translation unit. Depths, rows and keys are no multiples of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qcc.codegen.cuda.emulator.launch import ALL_MODES, Mode
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats.decoding import row_codes
from qcc.dialects.tile.attention_problem import (
    KEYS,
    AttentionProblem,
    AttentionSchedule,
    Rows,
    default_attention,
    illegal,
)
from qcc.dialects.tile.cache_layout import cache_parts
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.warp_reference import run_warps
from qcc.passes.append_kernel import append_kernel
from qcc.passes.attention_fold import FOLD_ROWS, attention_fold
from qcc.passes.attention_kernel import attention_kernel
from tests.codegen.cuda import warp_kernels
from tests.codegen.cuda.warp_kernels import Built, Launches, fails, planted

DTYPES: dict[str, Any] = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}
UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}
SINGLE = UNIT["f32"]
PLANES, CAPACITY = 2, 3 * KEYS


@dataclass(frozen=True)
class Case:
    """A problem, its schedule, and the sizes it runs on; `past` keys are in the cache."""

    problem: AttentionProblem
    schedule: AttentionSchedule
    queries: int = 5
    past: int = 137
    target: str = "sm_80"

    @property
    def rows(self) -> int:
        return self.queries * self.problem.group

    @property
    def keys(self) -> int:
        return self.past + self.queries


def rows_of(name: str, depth: int, spelling: str | None, element: str = "f16") -> Rows:
    return Rows.of(name, depth, spelling, element)


def packed(key: str, value: str, depth: int = 72, value_depth: int = 40, **options: Any) -> Case:
    problem = AttentionProblem(
        rows_of("key", depth, key), rows_of("value", value_depth, value), depth**-0.5, group=3,
        **options,
    )  # fmt: skip
    return Case(problem, AttentionSchedule(2, 16, KEYS, 2, splits=2, share_keys=True))


def wide(
    key: str, value: str, depth: int, value_depth: int, warps: int = 4, **options: Any
) -> Case:
    """Many rows over a packed cache, multiplied by warp groups."""
    problem = AttentionProblem(
        rows_of("key", depth, key), rows_of("value", value_depth, value), depth**-0.5, group=2,
        **options,
    )  # fmt: skip
    schedule = AttentionSchedule(warps, 16, KEYS, 2, warp_groups=True)
    return Case(problem, schedule, 45, 90, "sm_90a")


def plain(depth: int, value_depth: int, element: str, **options: Any) -> AttentionProblem:
    keys, values = (
        rows_of("key", depth, None, element),
        rows_of("value", value_depth, None, element),
    )
    return AttentionProblem(keys, values, depth**-0.5, **options)


CASES = {
    "prompt": Case(plain(40, 24, "f16", group=2), AttentionSchedule(2, 16, 32, 2), 45, 0),
    "masked": Case(
        plain(16, 16, "f32", query="f32", result="f32", masked=True, causal=False),
        AttentionSchedule(1, 32, 16, 3), 37, 40),
    "deep": Case(plain(264, 136, "bf16", query="bf16", result="bf16", operand="bf16"),
                 AttentionSchedule(2, 16, 16, 2), 21, 3),
    "decoding": Case(plain(40, 24, "f16", group=4),
                 AttentionSchedule(4, 16, 16, 3, splits=3, share_keys=True), 1, 77),
    "int4": packed("int4", "int4"),
    "groups": packed("int8<group=32>", "nf4<group=16>", result="f32"),
    "half_scales": packed("int4<group=16,scale=fp16>", "uint4<scale=bf16>", 24),
    "signs": packed("mxfp4", "amxfp4", 40),
    "zeros": packed("int4<group=16,symmetric=false>", "dint4", 24),
    "floats": packed("fp8_e4m3", "int3<group=16>", 24, operand="bf16", query="bf16"),
    "parts": Case(
        AttentionProblem(rows_of("key", 16, "fp16"), rows_of("value", 136, "int8<group=32>"), 0.25),
        AttentionSchedule(2, 16, KEYS, 2), 33, 60),
    "warp_groups": Case(plain(64, 64, "f16", group=2),
                        AttentionSchedule(4, 16, KEYS, 2, warp_groups=True), 45, 90, "sm_90a"),
    "warp_groups_deep": Case(
        plain(128, 128, "f32", query="bf16", result="bf16", operand="bf16", masked=True,
              causal=False),
        AttentionSchedule(8, 16, 32, 3, warp_groups=True), 37, 40, "sm_90a"),
    "channels": packed("int4<group=none>", "int4"),
    "packed_groups": wide("int4<group=none>", "int8", 64, 128),
    "packed_groups_zeros": wide("int8<symmetric=false>", "uint4", 128, 64, warps=8),
    "packed_groups_tables": wide("nf4<group=channel>", "fp8_e4m3", 64, 64, operand="bf16",
                                 query="bf16", result="bf16"),
    "packed_groups_keys": wide("fp8_e5m2<group=channel>", "fp16", 192, 64),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    yield from warp_kernels.built(tmp_path_factory.mktemp("attention"), written)


def written() -> Launches:
    launches = {}
    for name, case in CASES.items():
        assert not list(illegal(case.problem, case.schedule, machine(case.target)))
        launches[name] = attention_kernel(case.problem, case.schedule, name, case.target)
        if case.schedule.splits > 1:
            fold = f"{name}_fold"
            launches[fold] = attention_fold(case.problem, case.schedule.splits, fold)
    for name in APPENDS:
        launches[f"{name}_append"] = append_kernel(CASES[name].problem, f"{name}_append")
    return launches


def stored(rng: np.random.Generator, problem: AttentionProblem, rows: Rows) -> tuple[Any, Any]:
    """A cache's arguments, and the values in it [planes, positions, depth]."""
    shape = (PLANES * CAPACITY, rows.depth)
    values = rng.normal(size=shape)
    if rows.format is None:
        held = values.astype(DTYPES[rows.element])
        return {rows.name: held}, held.astype(np.float64).reshape(PLANES, CAPACITY, -1)
    values *= np.exp2(rng.integers(-6, 6, size=(len(values), 1)))
    parts = rows.format.encode_rows(values.astype(np.float32))
    program = problem.program(rows)
    assert program is not None
    given = {f"{rows.name}_{role}": part
             for role, part in cache_parts(rows, program.order, parts).items()}  # fmt: skip
    if table := problem.table_name(rows):
        given[table] = np.array(program.table, np.uint32)
    wide = rows.format.decode_rows(parts, rows.depth).astype(np.float64)
    return given, wide.reshape(PLANES, CAPACITY, -1)


@dataclass(frozen=True)
class Wanted:
    """The exact result, and how far rounded factors, fp32 sums and exponentials may be from it."""

    result: np.ndarray
    bound: np.ndarray


def wanted(case: Case, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: Any) -> Wanted:
    """
    Weights w = e^score / total: an error e of a score is a factor e^±e, twice with the total's.

    Weights are rounded to the operand type, absolutely where they are subnormal; scales of values
    cost four more roundings.
    """
    p, keys = case.problem, case.keys
    q = query.astype(np.float64).reshape(PLANES, p.group, case.queries, -1)
    k, v = key[:, :keys], value[:, :keys]
    scores = np.einsum("bgtd,bsd->bgts", q, k) * p.scale
    size = np.einsum("bgtd,bsd->bgts", abs(q), abs(k)) * p.scale
    if mask is not None:
        scores = scores + mask
    if p.causal:
        visible = np.arange(keys) <= np.arange(case.queries)[:, None] + case.past
        scores = np.where(visible, scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = powers.sum(-1, keepdims=True)
    weights = powers / np.where(total == 0, 1, total)
    result = np.einsum("bgts,bse->bgte", weights, v)
    programs = [program.error if (program := p.program(rows)) else 0 for rows in (p.keys, p.values)]
    inputs = UNIT[p.operand] * sum(
        kind == "f32" and p.operand != "f32" for kind in (p.query, p.keys.element)
    )
    of_scores = (p.keys.depth + 16) * SINGLE + programs[0] + inputs
    finite = np.where(np.isinf(scores), 0, abs(scores))
    error = of_scores * size + 4 * SINGLE * (finite + finite.max(-1, keepdims=True) + 1)
    relative = 2 * error + UNIT[p.operand] + programs[1] + (2 * keys + 16) * SINGLE
    if p.values.element == "f32" and p.values.format is None:
        relative = relative + UNIT[p.operand]
    spread = np.einsum("bgts,bse->bgte", weights * relative, abs(v))
    shift = 2 * (weights * error).sum(-1, keepdims=True) * abs(result)
    floor = keys * 2.0**-24 * abs(v).max(axis=1)[:, None, None]
    bound = spread + shift + floor + UNIT[p.result] * abs(result) + 2.0**-24
    shape = PLANES * case.rows, p.values.depth
    return Wanted(result.reshape(shape), bound.reshape(shape))


def arguments(case: Case) -> tuple[dict[str, Any], Wanted]:
    rng = np.random.default_rng(len(case.problem.keys.spelling or ""))
    p = case.problem
    query = rng.normal(size=(PLANES * case.rows, p.keys.depth)).astype(DTYPES[p.query])
    keys, key = stored(rng, p, p.keys)
    values, value = stored(rng, p, p.values)
    parts = PLANES * case.rows * case.schedule.splits
    given = {
        "query": query, "planes": PLANES, "queries": case.queries, "keys": case.keys,
        "past": case.past, "capacity": CAPACITY, **keys, **values,
        "key_flags": np.zeros((PLANES * CAPACITY, 1), np.float32),
        "result": np.zeros((PLANES * case.rows, p.values.depth), DTYPES[p.result]),
        "sums": np.full((parts, p.values.depth), np.nan, np.float32),
        "tops": np.full((parts, 1), np.nan, np.float32),
        "totals": np.full((parts, 1), np.nan, np.float32),
    }  # fmt: skip
    mask = None
    if p.masked:
        mask = rng.normal(size=(PLANES, 1, case.queries, case.keys)).astype(np.float32)
        mask[:, :, 3] = -np.inf
        mask[:, :, :, ::5] = -np.inf
        given |= {"mask": mask, "heads": 1, "mask_rows": mask.size, "mask_head": 0, "mask_key": 1,
                  "mask_batch": mask[0].size, "mask_query": case.keys}  # fmt: skip
    return given, wanted(case, query, key, value, mask)


def grids(case: Case) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Of the kernel, and of its fold."""
    p, s = case.problem, case.schedule
    blocks = -(-case.rows // s.block_rows)
    folds = -(-case.rows // FOLD_ROWS)
    return (blocks * PLANES, 1, s.splits * p.parts), (folds * PLANES, 1, p.parts)


def launched(built: Built, name: str, given: dict[str, Any], mode: Mode) -> np.ndarray:
    case = CASES[name]
    given["result"][:] = 0
    for kernel, grid in zip((name, f"{name}_fold"), grids(case), strict=True):
        if kernel in built.launches:
            built.launch(kernel, grid, given, mode)
    return given["result"].astype(np.float64)


@pytest.mark.parametrize("name", CASES)
def test_attention(built: Built, name: str) -> None:
    given, expected = arguments(CASES[name])
    first = None
    for mode in ALL_MODES:
        result = launched(built, name, given, mode)
        assert (np.abs(result - expected.result) <= expected.bound).all(), mode
        first = result if first is None else first
        np.testing.assert_array_equal(result, first)


@pytest.mark.parametrize("name", ["prompt", "masked", "zeros", "signs", "warp_groups"])
def test_reference(built: Built, name: str) -> None:
    """The NumPy meaning of the same kernels keeps the same bound."""
    given, expected = arguments(CASES[name])
    for kernel, grid in zip((name, f"{name}_fold"), grids(CASES[name]), strict=True):
        if kernel in built.kernels:
            run_warps(built.kernels[kernel], given, grid)
    assert (np.abs(given["result"] - expected.result) <= expected.bound).all()


def test_rows_that_see_no_key_are_zero(built: Built) -> None:
    given, _ = arguments(CASES["masked"])
    result = launched(built, "masked", given, Mode()).reshape(PLANES, -1, 16)
    assert not result[:, 3].any()
    assert result[:, 4].all()


# ---- appending

APPENDS = ("int4", "zeros", "floats", "parts")
CALLS = ((0, 70), (70, 1), (71, 60), (131, 1))


def empty_cache(problem: AttentionProblem) -> dict[str, np.ndarray]:
    cache: dict[str, np.ndarray] = {"key_flags": np.zeros((PLANES * CAPACITY, 1), np.float32)}
    for rows in (problem.keys, problem.values):
        fmt = rows.format
        if fmt is None:
            cache[rows.name] = np.zeros((PLANES * CAPACITY, rows.depth), DTYPES[rows.element])
            continue
        specs = fmt.part_specs(PLANES * CAPACITY, rows.depth)
        cache |= stored_parts(problem, rows, {r: np.zeros(*spec) for r, spec in specs.items()})
    return cache


def stored_parts(problem: AttentionProblem, rows: Rows, parts: Any) -> dict[str, np.ndarray]:
    program = problem.program(rows)
    assert program is not None
    held = cache_parts(rows, program.order, parts)
    return {f"{rows.name}_{role}": part for role, part in held.items()}


def append(
    built: Built, name: str, cache: dict[str, Any], past: int, new: dict[str, Any], mode: Mode
) -> None:
    """The rows `new` [planes, queries, depth] behind the first `past` ones."""
    p = CASES[name].problem
    queries = new["key"].shape[1]
    given = {**cache, "planes": PLANES, "queries": queries, "past": past, "capacity": CAPACITY}
    for rows in (p.keys, p.values):
        flat = new[rows.name].reshape(PLANES * queries, -1)
        given[f"new_{rows.name}"] = flat
        if rows.format is not None:
            parts = rows.format.encode_rows(np.where(np.isfinite(flat), flat, 0))
            parts["codes"] = row_codes(rows.format, parts, rows.depth).astype(np.uint8)
            given |= {f"new_{rows.name}_{role}": part for role, part in parts.items()}
    grid = ((-(-(past + queries) // KEYS) - past // KEYS) * PLANES, 1, 1)
    built.launch(f"{name}_append", grid, given, mode)


@pytest.mark.parametrize("mode", ALL_MODES[:3], ids=["lazy", "eager", "reversed"])
@pytest.mark.parametrize("name", APPENDS)
def test_appended_rows_are_those_encoded_at_once(built: Built, name: str, mode: Mode) -> None:
    p, rng = CASES[name].problem, np.random.default_rng(1)
    cache = empty_cache(p)
    sides = (p.keys, p.values)
    whole = {r.name: np.zeros((PLANES, CAPACITY, r.depth), np.float32) for r in sides}
    for past, queries in CALLS:
        new = {r.name: rng.normal(size=(PLANES, queries, r.depth)).astype(np.float32)
               for r in sides}  # fmt: skip
        append(built, name, cache, past, new, mode)
        for side, part in new.items():
            whole[side][:, past : past + queries] = part
    for rows in sides:
        values = whole[rows.name].reshape(PLANES * CAPACITY, -1)
        if rows.format is None:
            np.testing.assert_array_equal(cache[rows.name], values.astype(DTYPES[rows.element]))
            continue
        parts = rows.format.encode_rows(values)
        for part in parts.values():
            by_plane = part.reshape(PLANES, CAPACITY, -1)
            by_plane[:, sum(CALLS[-1]) :] = 0
        for role, part in stored_parts(p, rows, parts).items():
            np.testing.assert_array_equal(cache[role], part, err_msg=role)
    assert not cache["key_flags"].any()


@pytest.mark.parametrize("side", ["key", "value"])
def test_rows_that_are_not_finite_reach_those_who_see_them(built: Built, side: str) -> None:
    case = CASES["int4"]
    p, rng = case.problem, np.random.default_rng(2)
    given, _ = arguments(case)
    cache = {name: given[name] for name in empty_cache(p)}
    new = {r.name: rng.normal(size=(PLANES, case.queries, r.depth)).astype(np.float32)
           for r in (p.keys, p.values)}  # fmt: skip
    new[side][1, 2, 7] = np.inf
    append(built, "int4", cache, case.past, new, Mode())
    result = launched(built, "int4", given, Mode()).reshape(PLANES, p.group, case.queries, -1)
    assert np.isfinite(result[0]).all()
    assert np.isfinite(result[1, :, :2]).all()
    assert np.isnan(result[1, :, 2:]).all()


# ---- schedules and refusals


@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_90a"])
@pytest.mark.parametrize("depth", [1, 64, 80, 128, 256, 512])
def test_every_shape_has_a_legal_schedule(target: str, depth: int) -> None:
    for spelling in (None, "int4", "int3<group=16>", "nf4"):
        for rows in (1, 8, 32, 33, 4096):
            problem = AttentionProblem(
                rows_of("key", depth, spelling), rows_of("value", depth, spelling), 1.0, rows=rows
            )
            schedule = default_attention(problem, target)
            assert not list(illegal(problem, schedule, machine(target)))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("int4<group=8>", "int4", "use group=16"),
        ("int4", "int4<group=40>", "use group=32"),
        ("int8<group=tensor>", "int4", "rows cannot be appended"),
        ("bf16", "fp16", "meet products of f16"),
    ],
)
def test_refusals_name_a_way_out(key: str, value: str, reason: str) -> None:
    problem = AttentionProblem(rows_of("key", 128, key), rows_of("value", 128, value), 1.0)
    with pytest.raises(UnsupportedError, match=reason):
        default_attention(problem)


FAULTS = {
    "no wait": ("wait_copies<1>();  // this", "wait_copies<2>();  // this"),
    "no barrier": ("sync_threads();  // everybody's", "// everybody's"),
    "no barrier of the warps": ("sync_threads();  // shared memory", "// shared memory"),
    "keys of another warp": ("k + warp * 16", "k + (warp * 0)"),
    "a maximum of half a row": ("maximum(reduced, shuffle_xor(reduced, 2))", "reduced"),
}


GROUP_FAULTS = {
    "no fence": ("fence_async_proxy();", ""),
    "no wait for products": ("wgmma_wait<0>();", ""),
    "the same columns of K": ("16 * (step % 4)", "16 * (step % 2)"),
    "chunks are not exchanged": ("j % 64 ^ i % 8 * 8", "j % 64"),
    "rows of K for columns": ("wgmma_m64k16_f16_columns", "wgmma_m64k16_f16"),
}


@pytest.mark.parametrize(("name", "faults"), [("decoding", FAULTS), ("warp_groups", GROUP_FAULTS)])
def test_planted_faults_are_found(
    built: Built, tmp_path: Any, name: str, faults: dict[str, tuple[str, str]]
) -> None:
    """Each in some mode: by the emulator's checks, or in the result."""
    kernels = [each for each in (name, f"{name}_fold") if each in built.kernels]
    given, expected = arguments(CASES[name])
    for fault, faulty in planted(built, kernels, faults, tmp_path).items():

        def holds(mode: Mode, faulty: Built = faulty) -> bool:
            result = launched(faulty, name, given, mode)
            return bool((np.abs(result - expected.result) <= expected.bound).all())

        assert fails(holds), fault
