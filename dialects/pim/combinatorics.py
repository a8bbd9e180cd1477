"""
Sorted tuples and the permutations that sort them, numbered without gaps (spec pim.md §1.3, §1.8).

A group of p codes below `values` is a sorted tuple and the permutation of a *stable* sort. The
tuples are numbered by the combinatorial number system; of the p! permutations only those with
fewer than `values` descents occur, because a descent needs a strictly greater code.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray

MOST_PERMUTED = 9
"""Longest group whose permutations are listed: 9! = 362,880."""


def column_count(values: int, p: int) -> int:
    """
    Multisets of p codes below `values`.

    >>> column_count(8, 7), column_count(8, 3)
    (3432, 120)
    """
    return comb(values + p - 1, p)


def rank_columns(codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """
    Numbers of sorted tuples [..., p]: Σ C(x_i + i, i + 1), a bijection onto 0 … column_count - 1.

    >>> int(rank_columns(np.array([1, 3, 5])))
    42
    """
    p = codes.shape[-1]
    largest = int(codes.max(initial=0)) + p
    terms = np.array([[comb(x, i + 1) for x in range(largest)] for i in range(p)], np.int64)
    return sum((terms[i][codes[..., i] + i] for i in range(p)), np.zeros(codes.shape[:-1], int))


def sorted_tuples(values: int, p: int) -> NDArray[np.int64]:
    """All sorted tuples [column_count, p], in the order of their numbers."""
    tuples = np.zeros((1, 0), np.int64)
    for position in range(p):
        # A tuple of one more code: each last code in turn, behind all tuples that end no higher.
        parts = []
        for last in range(values):
            before = tuples[: comb(last + position, position)]
            parts.append(np.column_stack([before, np.full(len(before), last)]))
        tuples = np.concatenate(parts)
    return tuples


def permutation_count(values: int, p: int) -> int:
    """
    Permutations that a stable sort of p codes below `values` can make, a sum of Eulerian numbers.

    >>> [permutation_count(2, p) for p in (4, 6, 7, 8)], permutation_count(4, 8)
    ([12, 58, 121, 248], 20160)
    """
    return sum(eulerian(p, j) for j in range(min(values, p)))


@lru_cache(maxsize=256)
def eulerian(p: int, descents: int) -> int:
    """Permutations of p with this many descents."""
    if p == 0:
        return int(descents == 0)
    if descents < 0 or descents >= p:
        return 0
    more = (p - descents) * eulerian(p - 1, descents - 1)
    return more + (descents + 1) * eulerian(p - 1, descents)


@lru_cache(maxsize=16)
def stable_permutations(values: int, p: int) -> NDArray[np.int64]:
    """The permutations [permutation_count, p] that occur, in lexicographic order."""
    everything = np.array(list(permutations(range(p))), np.int64).reshape(factorial(p), p)
    descents = (everything[:, 1:] < everything[:, :-1]).sum(axis=1)
    found = everything[descents < values]
    found.flags.writeable = False
    return found


def permutation_ids(order: NDArray[np.integer], values: int) -> NDArray[np.int64]:
    """Numbers of permutations [..., p] among `stable_permutations`."""
    p = order.shape[-1]
    return _dense_ids(values, p)[_lexicographic(order, p)]


@lru_cache(maxsize=16)
def _dense_ids(values: int, p: int) -> NDArray[np.int64]:
    """For each of the p! permutations its number among those that occur, or -1."""
    ids = np.full(factorial(p), -1, np.int64)
    found = stable_permutations(values, p)
    ids[_lexicographic(found, p)] = np.arange(len(found))
    return ids


def _lexicographic(order: NDArray[np.integer], p: int) -> NDArray[np.int64]:
    """Lehmer's number of permutations [..., p]."""
    number = np.zeros(order.shape[:-1], np.int64)
    for i in range(p):
        smaller = (order[..., i + 1 :] < order[..., i : i + 1]).sum(axis=-1)
        number += smaller * factorial(p - 1 - i)
    return number


def canonical_form(
    groups: NDArray[np.integer], values: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """
    Column ranks and permutation numbers of groups [..., p] of codes.

    Position i of the sorted tuple holds the code at position π(i) of the group.
    """
    order = np.argsort(groups, axis=-1, kind="stable")
    ranks = rank_columns(np.take_along_axis(groups, order, axis=-1))
    return ranks, permutation_ids(order, values)
