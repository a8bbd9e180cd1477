"""Attention over KV caches in every kind of format: what a step sees is what the whole sees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest

from qcc.codegen.cpu import library
from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.lower import lower_to_llvm
from qcc.codegen.cpu.program import CacheShape, Code
from qcc.codegen.cpu.runtime import BufferType, CacheTable, CompiledObject
from qcc.compiler.running import KeyValueCaches
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import parse_spelling
from qcc.dialects.interpreter import interpret
from qcc.passes.pack_kv_cache import pack_kv_cache
from tests.codegen.run_guarded import guarded

RESULT = [BufferType(np.dtype(np.float32), 4)]
LADDER = "table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]"
SPELLINGS = (
    *(f"int{bits}" for bits in range(2, 9)), "uint4", "uint7", "int8<symmetric=false>",
    "int4<group=5>", "int6<group=8,symmetric=false>", "int3<rounding=floor>",
    "fp8_e4m3", "fp8_e5m2<group=7>", "fp8_152", "fp16", "bf16", "fp32",
    "mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "mxint8", "nvfp4", "amxfp4",
    "amxfp4<scale=e4m3,two_level=false>", "nf4<group=channel>", f"lut4<{LADDER},group=none>",
    "dint3", "dint4<group=12>", "int4<group=8,scale=fp16>", "uint4<scale=bf16>",
    "pact4<group=channel>", "sawb4<group=channel,alpha=1.5>",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Formats (None: fp32) and static sizes of an attention; batch and length are dynamic."""

    keys: str | None
    values: str | None
    heads: int = 4
    key_heads: int = 2
    depth: int = 40
    value_depth: int = 40


CASES = [
    *(Case(spelling, spelling) for spelling in SPELLINGS),
    Case(None, None),
    Case("int8", None, depth=64, value_depth=19),
    Case(None, "mxfp4", heads=3, key_heads=1, depth=5, value_depth=33),
    Case("int4", "nvfp4", heads=9, key_heads=3, depth=64, value_depth=64),
    Case("int3<group=16>", "fp8_e5m2", heads=5, key_heads=5, depth=48, value_depth=1),
    Case("mxint8", "uint2<group=32>", heads=6, key_heads=1, depth=72, value_depth=96),
]


def text_of(case: Case, index: int, cached: bool) -> str:
    """`main_i` rounds and attends; `step_i` does so over a cache, before any pass."""
    q, k, v, y = (
        f"tensor<?x{heads}x?x{depth}xf32>"
        for heads, depth in (
            (case.heads, case.depth), (case.key_heads, case.depth),
            (case.key_heads, case.value_depth), (case.heads, case.value_depth),
        )
    )  # fmt: skip
    lines, names = [], []
    for name, type_, spelling in (("k", k, case.keys), ("v", v, case.values)):
        names.append(name if spelling is None else f"{name}_rounded")
        if spelling is not None:
            packed = f'!qcc.packed<{type_}, "{parse_spelling(spelling).spelling}">'
            lines += [
                f'%{name}_codes = "qcc.quantize"(%{name}) : ({type_}) -> {packed}',
                f'%{name}_rounded = "qcc.dequantize"(%{name}_codes) : ({packed}) -> {type_}',
            ]
    past = (", %past: tensor<i64>", ", %past", ", tensor<i64>") if cached else ("", "", "")
    return f"""
    func.func @{"step" if cached else "main"}_{index}(%q: {q}, %k: {k}, %v: {v}{past[0]}) -> {y} {{
      {" ".join(lines)}
      %y = "qcc.attention"(%q, %{names[0]}, %{names[1]}{past[1]}) {{scale = 0.2 : f64,
        causal = true, cache = "cache.{index}",
        operandSegmentSizes = array<i32: 1, 1, 1, 0, {int(cached)}>}}
        : ({q}, {k}, {v}{past[2]}) -> {y}
      return %y : {y}
    }}"""


@dataclass
class Attentions:
    """All cases in one loaded object."""

    object: CompiledObject
    shapes: tuple[CacheShape, ...]

    def whole(self, index: int, inputs: Sequence[np.ndarray]) -> np.ndarray:
        return self.object.call(f"main_{index}", inputs, RESULT)[0]

    def steps(self, index: int, inputs: Sequence[np.ndarray], lengths: Sequence[int]) -> np.ndarray:
        """The results of calls on that many positions each, one behind the other."""
        caches = self.caches(index, len(inputs[0]))
        return np.concatenate(list(self.pieces(caches, index, inputs, lengths)), 2)

    def caches(self, index: int, batch: int) -> KeyValueCaches:
        code = Code(b"", (), (), (self.shapes[index],))
        return KeyValueCaches(code, batch)

    def pieces(
        self,
        caches: KeyValueCaches,
        index: int,
        inputs: Sequence[np.ndarray],
        lengths: Sequence[int],
    ) -> Iterator[np.ndarray]:
        for length in lengths:
            past, after = caches.length, caches.length + length
            caches.reserve(after)
            counts = [shape.keys.array_count + shape.values.array_count for shape in self.shapes]
            unused = [np.zeros(0, np.int64)]
            held = unused * sum(counts[:index]) + caches.arrays + unused * sum(counts[index + 1 :])
            table = CacheTable(caches.capacity, held)
            piece = [array[:, :, past:after] for array in inputs]
            yield self.object.call(f"step_{index}", [*piece, np.array(past)], RESULT, table)[0]
            caches.length = after


@pytest.fixture(scope="module")
def attentions() -> Iterator[Attentions]:
    texts = [
        text_of(case, index, cached) for index, case in enumerate(CASES) for cached in (False, True)
    ]
    # Work as small as this would be left to one thread.
    shared = patch.object(library, "SMALL", 0)
    with make_context(), ir.Location.unknown(), shared:
        module = ir.Module.parse("\n".join(texts))
        pack_kv_cache(module.operation)
        site = lower_to_llvm(module)
        object_ = build_object(module)
    loaded = CompiledObject(object_, [], 2)
    yield Attentions(loaded, tuple(site.caches.all))
    loaded.close()


def operands(case: Case, batch: int, length: int) -> list[np.ndarray]:
    random = np.random.default_rng(batch * 1000 + length)
    shapes = (
        (case.heads, case.depth), (case.key_heads, case.depth), (case.key_heads, case.value_depth)
    )  # fmt: skip
    query, key, value = (
        random.standard_normal((batch, heads, length, depth), np.float32) for heads, depth in shapes
    )
    key[:, :, ::3] *= 30
    value[:, :, 1::4] = 0
    return [query, key, value]


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_steps_are_the_whole_bit_for_bit(attentions: Attentions, index: int) -> None:
    case = CASES[index]
    for batch, lengths in ((1, (1,) * 9), (3, (5, 1, 1, 4)), (2, (13,))):
        inputs = operands(case, batch, sum(lengths))
        whole = attentions.whole(index, inputs)
        np.testing.assert_array_equal(attentions.steps(index, inputs, lengths), whole)
        assert np.isfinite(whole).all()


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_a_cache_holds_what_the_encoder_stores(attentions: Attentions, index: int) -> None:
    """Byte for byte the parts of `Format.encode_rows`, and nothing behind the last position."""
    case, batch, lengths = CASES[index], 2, (3, 1, 7)
    inputs = operands(case, batch, sum(lengths))
    caches = attentions.caches(index, batch)
    list(attentions.pieces(caches, index, inputs, lengths))
    arrays = iter(caches.arrays)
    for spelling, rows in ((case.keys, inputs[1]), (case.values, inputs[2])):
        expected = {"values": rows.reshape(-1, rows.shape[-1])}
        if spelling is not None:
            expected = parse_spelling(spelling).encode_rows(expected["values"])
        for role, part in expected.items():
            held = next(arrays)
            stored = held[:, :, : sum(lengths)].reshape(part.shape)
            np.testing.assert_array_equal(stored.view(part.dtype), part, role)
            assert not held[:, :, sum(lengths) :].any()
        if spelling is not None:
            assert not next(arrays).any()
    assert next(arrays, None) is None


def test_a_cache_grows_with_what_it_holds(attentions: Attentions) -> None:
    index = CASES.index(Case("int4", "nvfp4", heads=9, key_heads=3, depth=64, value_depth=64))
    inputs = operands(CASES[index], 2, 600)
    lengths = (255, 1, 1, 255, 1, 87)
    caches = attentions.caches(index, 2)
    found = np.concatenate(list(attentions.pieces(caches, index, inputs, lengths)), 2)
    assert caches.capacity == 1024
    np.testing.assert_array_equal(found, attentions.whole(index, inputs))


def test_packed_caches_are_smaller(attentions: Attentions) -> None:
    """Rows of 64 in int4 with an fp32 scale, and in nvfp4; marks of 8 bytes a head."""
    index = CASES.index(Case("int4", "nvfp4", heads=9, key_heads=3, depth=64, value_depth=64))
    shape = attentions.shapes[index]
    assert shape.position_bytes == 3 * ((32 + 4) + (32 + 4))
    assert shape.position_floats == 3 * 128
    caches = attentions.caches(index, 2)
    caches.reserve(1)
    assert caches.nbytes == 2 * (256 * shape.position_bytes + 2 * 3 * 8)


@pytest.mark.parametrize("spelling", ["int8", "fp8_e4m3", "mxfp4", "nvfp4", "fp16", "fp8_152"])
def test_rows_that_are_not_finite_stay_visible(attentions: Attentions, spelling: str) -> None:
    """A query that sees one gives NaN, in later calls and a larger cache too; others do not."""
    index = CASES.index(Case(spelling, spelling))
    for operand, bad in ((1, np.nan), (2, np.inf)):
        inputs = operands(CASES[index], 2, 300)
        inputs[operand][1, 0, 4, 9] = bad
        found = attentions.steps(index, inputs, (3, 6, 1, 280, 10))
        assert np.isnan(found[1, :2, 4:]).all()
        assert np.isfinite(found[0]).all()
        assert np.isfinite(found[1, 2:]).all()
        assert np.isfinite(found[1, :, :4]).all()


def test_overflow_to_infinity_stays_visible(attentions: Attentions) -> None:
    index = CASES.index(Case("fp8_152", "fp8_152"))
    inputs = operands(CASES[index], 1, 5)
    inputs[1][0, 1, 2, 3] = 1e9
    found = attentions.steps(index, inputs, (5,))
    assert np.isnan(found[0, 2:, 2:]).all()
    assert np.isfinite(found[0, :2]).all()


def test_positions_written_again_are_forgotten(attentions: Attentions) -> None:
    """Going back to an earlier length replaces what followed, marks included."""
    index = CASES.index(Case("int8", "int8"))
    inputs = operands(CASES[index], 1, 8)
    spoilt = [array.copy() for array in inputs]
    spoilt[1][0, :, 5] = np.nan
    caches = attentions.caches(index, 1)
    list(attentions.pieces(caches, index, spoilt, (8,)))
    caches.length = 5
    (found,) = attentions.pieces(caches, index, inputs, (3,))
    np.testing.assert_array_equal(found, attentions.whole(index, inputs)[:, :, 5:])


def test_no_byte_outside_a_cache_is_touched(attentions: Attentions) -> None:
    """A full cache whose arrays each end at a page that may not be touched, in a child process."""
    child = os.fork()
    if not child:
        try:
            fill_guarded_caches(attentions)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def fill_guarded_caches(attentions: Attentions) -> None:
    for index, case in enumerate(CASES):
        inputs = operands(case, 1, 256)
        caches = attentions.caches(index, 1)
        caches.reserve(256)
        caches.arrays = [guarded(array) for array in caches.arrays]
        list(attentions.pieces(caches, index, inputs, (252, 3, 1)))
        assert caches.capacity == 256


def test_the_interpreter_agrees(attentions: Attentions) -> None:
    index = CASES.index(Case("int8", None, depth=64, value_depth=19))
    inputs = operands(CASES[index], 2, 9)
    caches, results = {}, []
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text_of(CASES[index], index, True))
        pack_kv_cache(module.operation)
        for span in (slice(0, 6), slice(6, 9)):
            piece = [array[:, :, span] for array in inputs]
            given = [*piece, np.array(span.start)]
            results += interpret(module, given, {}.__getitem__, f"step_{index}", caches)
    found = attentions.steps(index, inputs, (6, 3))
    np.testing.assert_allclose(found, np.concatenate(results, 2), rtol=1e-4, atol=1e-5)


def test_formats_that_need_statistics_are_refused() -> None:
    case = Case("sawb4<group=channel>", None)
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text_of(case, 0, True))
        pack_kv_cache(module.operation)
        with pytest.raises(UnsupportedError) as refused:
            lower_to_llvm(module)
    assert refused.value.code == "cpu-activation-format"
