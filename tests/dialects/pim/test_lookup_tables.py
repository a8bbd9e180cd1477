"""Combinatorics and tables against brute force, the numbers of pim.md, and its test vector."""

from itertools import permutations, product

import numpy as np
import pytest

from qcc.dialects.errors import QccError
from qcc.dialects.formats import format
from qcc.dialects.pim.combinatorics import (
    canonical_form,
    column_count,
    permutation_count,
    permutation_ids,
    rank_columns,
    sorted_tuples,
    stable_permutations,
)
from qcc.dialects.pim.lookup_tables import CodeBook, TablePair, digits, grouped, packed_codes

BOOKS = {
    1: (-1, 1),
    2: (0, 1, -2, -1),
    3: tuple(range(-4, 4)),
    4: tuple(range(8)) + tuple(range(-8, 0)),
}


def pair(weight_bits: int, activation_bits: int, p: int) -> TablePair:
    return TablePair(BOOKS[weight_bits], BOOKS[activation_bits], p)


@pytest.mark.parametrize(("values", "p"), [(2, 6), (3, 5), (4, 4), (8, 3), (16, 2), (5, 1)])
def test_ranks_are_a_bijection(values: int, p: int) -> None:
    expected = [t for t in product(range(values), repeat=p) if list(t) == sorted(t)]
    tuples = sorted_tuples(values, p)
    assert {tuple(t) for t in tuples} == set(expected)
    assert len(tuples) == column_count(values, p)
    assert rank_columns(tuples).tolist() == list(range(len(tuples)))


@pytest.mark.parametrize(("values", "p"), [(2, 5), (2, 7), (3, 5), (4, 5), (8, 4), (2, 1)])
def test_exactly_the_permutations_of_stable_sorts_are_numbered(values: int, p: int) -> None:
    groups = np.array(list(product(range(values), repeat=p)))
    occurring = {tuple(order) for order in np.argsort(groups, axis=1, kind="stable")}
    listed = stable_permutations(values, p)
    assert {tuple(order) for order in listed} == occurring
    assert len(listed) == permutation_count(values, p)
    assert permutation_ids(listed, values).tolist() == list(range(len(listed)))
    assert (permutation_ids(np.array(list(permutations(range(p)))), values) >= -1).all()


@pytest.mark.parametrize(
    ("bits", "p", "count"),
    [(1, 4, 12), (1, 6, 58), (1, 7, 121), (1, 8, 248), (2, 6, 662), (2, 7, 3728), (2, 8, 20160),
     (3, 8, 40320), (3, 5, 120)],
)  # fmt: skip
def test_counts_of_the_specification(bits: int, p: int, count: int) -> None:
    assert permutation_count(1 << bits, p) == count


def test_the_test_vector() -> None:
    """pim.md §1.4."""
    tables = TablePair((-1, 1), tuple(range(-4, 4)), 3)
    column, order = canonical_form(np.array([[5, 1, 3]]), 8)
    assert column.tolist() == [42]
    assert tables.columns == 120
    weights = int(packed_codes(np.array([[1, 0, 1]]), 1, 3, 0)[0, 0])
    permuted = int(tables.reorder()[order[0], weights])
    assert (weights, permuted) == (5, 6)
    assert int(tables.canonical()[42, permuted]) == 3


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "p"),
    [(1, 3, 4), (1, 3, 6), (1, 4, 3), (2, 2, 4), (2, 2, 5), (4, 4, 2), (3, 3, 2), (2, 4, 3),
     (1, 1, 8), (4, 4, 1)],
)  # fmt: skip
def test_lookups_are_products(weight_bits: int, activation_bits: int, p: int) -> None:
    tables, rng = pair(weight_bits, activation_bits, p), np.random.default_rng(0)
    k = 3 * p + 1
    w = rng.integers(0, 1 << weight_bits, (7, k))
    a = rng.integers(0, 1 << activation_bits, (5, k))
    book_w, book_a = np.array(tables.weights), np.array(tables.activations)
    zero_a = int(np.flatnonzero(book_a == 0)[0]) if 0 in book_a else None
    if zero_a is None:
        w, a = w[:, : 3 * p], a[:, : 3 * p]
    expected = book_a[a] @ book_w[w].T
    r = packed_codes(w, weight_bits, p, 0)
    groups = grouped(a, p, zero_a or 0)
    columns, orders = canonical_form(groups, 1 << activation_bits)
    canonical, reorder = tables.canonical(), tables.reorder()
    permuted = reorder[orders[:, None, :], r[None]]
    found = canonical[columns[:, None, :], permuted].sum(axis=-1, dtype=np.int64)
    assert np.array_equal(found, expected)
    packed_columns = packed_codes(groups.reshape(5, -1), activation_bits, p, 0)
    direct = tables.packed()[packed_columns[:, None, :], r[None]] if tables.bytes("packed") < 1e6 \
        else found[..., None]  # fmt: skip
    assert np.array_equal(direct.sum(axis=-1, dtype=np.int64), expected)


SIZES = [  # pim.md §1.7: weight bits, activation bits, p, packed, columns, canonical, reorder
    (1, 3, 5, 1048576, 792, 25344, 3840),
    (1, 3, 6, 16777216, 1716, 109824, 46080),
    (1, 3, 7, 268435456, 3432, 439296, 645120),
    (1, 3, 8, 4294967296, 6435, 1647360, 10321920),
    (1, 4, 3, 32768, 816, 6528, 48),
    (1, 4, 7, 34359738368, 170544, 21829632, 645120),
    (2, 2, 4, 65536, 35, 8960, 6144),
    (2, 2, 5, 1048576, 56, 57344, 245760),
    (2, 2, 6, 16777216, 84, 344064, 5898240),
    (2, 4, 5, 1073741824, 15504, 15876096, 245760),
    (4, 4, 2, 131072, 136, 69632, 512),
    (4, 4, 3, 33554432, 816, 6684672, 49152),
]


@pytest.mark.parametrize("row", SIZES)
def test_sizes_of_the_specification(row: tuple[int, ...]) -> None:
    weight_bits, activation_bits, p, packed, columns, canonical, reorder = row
    tables = pair(weight_bits, activation_bits, p)
    assert tables.bytes("packed") == packed
    assert tables.columns == columns
    assert tables.bytes("canonical") == canonical
    assert tables.bytes("full reorder") == reorder
    assert tables.bytes("reorder") <= reorder


def test_the_published_reduction() -> None:
    tables = pair(1, 3, 7)
    assert round(tables.bytes("packed") / tables.bytes("canonical"), 2) == 611.06


@pytest.mark.parametrize(
    ("bits", "plain", "canonical"),
    [((1, 3), (3, 6), (5, 8)), ((1, 4), (3, 5), (3, 7)), ((2, 2), (3, 6), (4, 6)),
     ((2, 4), (2, 4), (2, 5)), ((3, 3), (2, 4), (2, 4)), ((4, 4), (1, 3), (1, 3))],
)  # fmt: skip
def test_largest_feasible_groups(
    bits: tuple[int, int], plain: tuple[int, int], canonical: tuple[int, int]
) -> None:
    """pim.md §1.7, for shares of 32 KiB of WRAM and 32 MiB of MRAM and all p! permutations."""
    for share, want_plain, want in zip((1 << 15, 1 << 25), plain, canonical, strict=True):
        fits = [p for p in range(1, 17 // bits[0]) if pair(*bits, p).bytes("packed") <= share]
        assert max(fits) == want_plain
        fits = [
            p
            for p in range(1, min(10, 17 // bits[0]))
            if pair(*bits, p).bytes("canonical") + pair(*bits, p).bytes("full reorder") * (p > 1)
            <= share
        ]
        assert max(fits) == want


def test_ties_make_longer_groups_fit() -> None:
    """A1: 248 of 40,320 permutations; of p = 7, both tables take 16 KB of WRAM instead of 646."""
    tables = pair(1, 1, 8)
    assert tables.bytes("full reorder") / tables.bytes("reorder") > 162
    assert tables.canonical_bytes == (248 + 9) * 256
    assert pair(1, 1, 7).canonical_bytes < 1 << 15 < pair(1, 1, 7).bytes("full reorder")


def test_code_books_of_formats() -> None:
    assert CodeBook.of(format("int4")).values[15] == -1
    dint = CodeBook.of(format("dint4", symmetric=True))
    assert dint.scale == 2
    assert 1 in dint.values
    fp4 = CodeBook.of(format("lut4", table=tuple(float(v) / 2 for v in range(-8, 8)), group="none"))
    assert (fp4.values, fp4.scale) == (tuple(range(-8, 8)), 2)
    with pytest.raises(QccError, match="no small integers"):
        CodeBook.of(format("nf4"))
    with pytest.raises(QccError, match="codes of 16 bits"):
        CodeBook.of(format("fp16"))


def test_impossible_tables_are_refused() -> None:
    for books in (((0, 1, 2), (0, 1), 2), ((0, 1), (1,), 2), ((0, 1), (0, 1), 17)):
        with pytest.raises(QccError, match=r"power of two|exceed"):
            TablePair(*books)
    with pytest.raises(QccError, match="no reordering"):
        TablePair((0, 1), (0, 1), 10).reorder()


def test_digits_come_apart() -> None:
    codes = np.random.default_rng(1).integers(0, 4, (3, 8))
    assert np.array_equal(digits(packed_codes(codes, 2, 4, 0), 2, 4).reshape(3, 8), codes)
