"""qcc.attention on the CPU: shared heads, causality and masks of every broadcast."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import numpy as np
import pytest

from qcc.codegen.cpu.runtime import BufferType
from tests.codegen.run_guarded import guarded


@dataclass(frozen=True)
class Case:
    """Static facts of one attention; every other size is dynamic."""

    depth: int = 8
    value_depth: int = 8
    heads: int = 4
    key_heads: int = 2
    causal: bool = False
    mask: tuple[bool, ...] | None = None  # which axes the mask really has

    def mask_shape(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        assert self.mask is not None
        return tuple(n if kept else 1 for n, kept in zip(sizes, self.mask, strict=True))


PLAIN = {
    "plain": Case(),
    "causal": Case(causal=True),
    "one key head": Case(heads=3, key_heads=1),
    "own key heads": Case(heads=3, key_heads=3, causal=True),
    "odd depths": Case(depth=5, value_depth=19),
    "wide": Case(depth=64, value_depth=33, causal=True),
    "single": Case(depth=1, value_depth=1, heads=1, key_heads=1),
}
MASKS = {
    "".join("bhts"[i] if kept else "1" for i, kept in enumerate(axes)): Case(
        depth=5, value_depth=9, mask=axes, causal=sum(axes) == 4
    )
    for axes in itertools.product((False, True), repeat=4)
}
CASES = PLAIN | MASKS
NAMES = {case: f"a{i}" for i, case in enumerate(CASES)}
SIZES = [
    (1, 1, 1), (2, 3, 7), (1, 5, 16), (2, 33, 31), (1, 9, 3), (3, 4, 200), (1, 3, 600),
    (1, 101, 530),
]  # fmt: skip


def text_of(case: Case) -> tuple[str, str]:
    """The signature and the body of a function around one attention."""
    q, k, v, y = (
        f"tensor<?x{heads}x?x{depth}xf32>"
        for heads, depth in (
            (case.heads, case.depth), (case.key_heads, case.depth),
            (case.key_heads, case.value_depth), (case.heads, case.value_depth),
        )
    )  # fmt: skip
    extents = ["?", str(case.heads), "?", "?"]
    masked = case.mask is not None
    shape = [n if kept else "1" for n, kept in zip(extents, case.mask or [], strict=masked)]
    m = f"tensor<{'x'.join(shape)}xf32>"
    signature = f"(%q: {q}, %k: {k}, %v: {v}{f', %m: {m}' if masked else ''}) -> {y}"
    body = f"""
      %y = "qcc.attention"(%q, %k, %v{", %m" if masked else ""}) {{scale = 0.3 : f64, cache = "",
        causal = {str(case.causal).lower()},
        operandSegmentSizes = array<i32: 1, 1, 1, {int(masked)}, 0>}}
        : ({q}, {k}, {v}{f", {m}" if masked else ""}) -> {y}
      return %y : {y}"""
    return signature, body


@pytest.fixture(scope="module")
def attentions(programs):
    for key, case in CASES.items():
        programs.function(NAMES[key], *text_of(case))
    return programs


def operands(floats, case: Case, batch: int, queries: int, keys: int) -> list[np.ndarray]:
    query = floats(batch, case.heads, queries, case.depth, seed=1)
    key = floats(batch, case.key_heads, keys, case.depth, seed=2)
    value = floats(batch, case.key_heads, keys, case.value_depth, seed=3)
    given = [query, key, value]
    if case.mask is not None:
        mask = floats(*case.mask_shape((batch, case.heads, queries, keys)), seed=4)
        given.append(np.where(mask > 0.8, np.float32(-np.inf), mask))
    return given


def bound(case: Case, keys: int, *given: np.ndarray) -> np.ndarray:
    """
    A score's error is 2 (D + 2) u of its terms' magnitudes; weights and sums add 2 (S + 8) u.

    An error e of scores changes a softmax by a factor of at most exp(2 e).
    """
    unit = 2.0**-24
    query, key, value = (array.astype(np.float64) for array in given[:3])
    finite = [m[np.isfinite(m)] for m in given[3:]]
    extra = max((np.abs(m).max(initial=0) for m in finite), default=0)
    largest = 0.3 * np.abs(query).max() * np.abs(key).max() * case.depth + extra
    score_error = 2 * (case.depth + 2) * unit * largest
    return (2 * score_error + 2 * (keys + 8) * unit) * np.abs(value).max()


@pytest.mark.parametrize("key", CASES)
def test_matches_the_interpreter(attentions, floats, key: str) -> None:
    case = CASES[key]
    for batch, queries, keys in SIZES:
        given = operands(floats, case, batch, queries, keys)
        expected = attentions.check(NAMES[key], *given, bound=bound(case, keys, *given))
        assert np.isfinite(expected).all()


@pytest.mark.parametrize("key", ["bhts", "11ts", "b111"])
def test_a_row_without_visible_keys_is_zero(attentions, floats, key: str) -> None:
    case = CASES[key]
    given = operands(floats, case, 2, 6, 11)
    hidden = given[3].copy()
    hidden[-1, ..., -1, :] = -np.inf
    for found in attentions.run(NAMES[key], *given[:3], hidden, rank=4).values():
        assert (found[-1, -1, -1] == 0).all()
        assert np.isfinite(found).all()
        assert np.abs(found[0, 0, 0]).max() > 0 or key == "11ts"


def test_no_keys_at_all_give_zeros(attentions, floats) -> None:
    given = operands(floats, CASES["plain"], 2, 5, 0)
    for found in attentions.run(NAMES["plain"], *given, rank=4).values():
        assert found.shape == (2, 4, 5, 8)
        assert (found == 0).all()


def test_not_a_number_stays_visible(attentions, floats) -> None:
    query, key, value = operands(floats, CASES["plain"], 1, 5, 9)
    query[0, 1, 2, 3] = np.nan
    for found in attentions.run(NAMES["plain"], query, key, value, rank=4).values():
        assert np.isnan(found[0, 1, 2]).all()
        assert np.isfinite(found[0, 1, 3]).all()
        assert np.isfinite(found[0, 2]).all()


@pytest.mark.parametrize("queries", [1, 20])
def test_a_key_that_is_not_a_number_stays_visible(attentions, floats, queries: int) -> None:
    """One score of many, whichever lane and segment it is in."""
    for place in (0, 77, 299):
        query, key, value = operands(floats, CASES["plain"], 1, queries, 300)
        key[0, 1, place, 2] = np.nan
        for found in attentions.run(NAMES["plain"], query, key, value, rank=4).values():
            assert np.isfinite(found[0, :2]).all()
            assert np.isnan(found[0, 2:]).all()


def test_large_scores_do_not_overflow(attentions, floats) -> None:
    query, key, value = operands(floats, CASES["plain"], 1, 4, 9)
    for found in attentions.run(NAMES["plain"], query * 1e4, key * 1e4, value, rank=4).values():
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= np.abs(value).max()


@pytest.mark.parametrize("key", ["plain", "odd depths", "wide", "one key head", "bhts"])
def test_a_row_does_not_depend_on_the_others(attentions, floats, key: str) -> None:
    """Not one bit: few rows and many, whole segments of keys and none."""
    query, key_rows, values, *masks = operands(floats, CASES[key], 2, 60, 700)
    (whole, *_) = attentions.run(NAMES[key], query, key_rows, values, *masks, rank=4).values()
    for count in (1, 2, 9):
        part = slice(0, count)
        given = [query[:, :, part], key_rows, values, *(mask[:, :, part] for mask in masks)]
        for found in attentions.run(NAMES[key], *given, rank=4).values():
            np.testing.assert_array_equal(found, whole[:, :, part])


@pytest.mark.parametrize("queries", [1, 20])
def test_scratch_does_not_grow_with_the_keys(attentions, floats, queries: int) -> None:
    case, keys = CASES["single"], 300_000
    given = operands(floats, case, 1, queries, keys)
    attentions.check(NAMES["single"], *given, bound=bound(case, keys, *given))


def test_tiles_for_fewer_registers_give_the_same(attentions, make_programs, floats) -> None:
    narrow = make_programs(("avx2", "fma"))
    for key in ("wide", "bhts"):
        narrow.function(NAMES[key], *text_of(CASES[key]))
    for key in ("wide", "bhts"):
        for queries in (2, 40):
            given = operands(floats, CASES[key], 2, queries, 300)
            (expected, *_) = attentions.run(NAMES[key], *given, rank=4).values()
            for found in narrow.run(NAMES[key], *given, rank=4).values():
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("queries", [1, 40])
def test_no_byte_outside_the_operands_is_read(attentions, floats, queries: int) -> None:
    """Each ends at a page that may not be touched, in a child process."""
    keys = ("odd depths", "wide", "bhts", "111s", "b111")
    given = {key: operands(floats, CASES[key], 1, queries, 267) for key in keys}
    objects = attentions.objects
    child = os.fork()
    if not child:
        try:
            for key, arrays in given.items():
                result = [BufferType(np.dtype(np.float32), 4)]
                objects[1].call(NAMES[key], [guarded(array) for array in arrays], result)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
