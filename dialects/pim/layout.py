"""
Codes as the arrays that DPUs read, and results as they leave them (arrays of footprint.py).

Arrays are [dpus, …]; DPUs count through parts of tokens first, then of rows, then of K.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .combinatorics import canonical_form
from .footprint import arrays, padded, reorders
from .lookup_tables import DTYPES, grouped, packed_codes
from .schedule import Share

Codes = NDArray[np.integer]
Array = NDArray[Any]


def pad_codes(share: Share) -> tuple[int, int]:
    """
    Weight and activation code that fill K; their product is 0 where the books have a 0.

    Other books leave what `correction` takes away again.
    """
    weights, activations = share.problem.weights, share.problem.activations
    if 0 in activations:
        return 0, activations.index(0)
    return (weights.index(0) if 0 in weights else 0), 0


def correction(share: Share) -> NDArray[np.int64]:
    """What padding of K adds to every result, [parts, 1, 1]."""
    problem = share.problem
    if share.schedule.method not in ("packed", "canonical"):
        return np.zeros((problem.parts, 1, 1), np.int64)
    w, a = pad_codes(share)
    product = problem.weights[w] * problem.activations[a]
    if problem.group:
        ends = np.minimum(problem.group * np.arange(1, 1 + problem.parts), problem.k)
        padding = share.k - np.diff(ends, prepend=0)
    else:
        padding = np.array([share.k * share.schedule.k_parts - problem.k])
    return padding.astype(np.int64)[:, None, None] * product


def weight_array(share: Share, codes: Codes) -> Array:
    """`weights` [k_parts, row_parts, …] of codes [rows, k]."""
    s, t, problem = share.schedule, share.tables, share.problem
    if s.method == "multiply":
        values = _dealt(share, np.array(problem.weights)[codes], s.row_parts, share.rows, 0)
        units = values.astype(np.int8).view("<u4")
    else:
        dealt = _dealt(share, codes, s.row_parts, share.rows, pad_codes(share)[0])
        packed = packed_codes(dealt.reshape(-1, share.k), t.weight_bits, s.p, 0)
        units = packed.astype(DTYPES[t.code]).reshape(*dealt.shape[:-1], share.groups)
    shape = s.k_parts, s.row_parts, share.rounds
    if s.method in ("packed", "canonical"):
        blocks = units.reshape(*shape, -1, s.row_block, share.chunks, s.groups)
        ordered = blocks.transpose(0, 1, 2, 5, 3, 6, 4)
    else:
        rows = units.reshape(*shape, share.rows, share.chunks, s.groups)
        ordered = rows.transpose(0, 1, 2, 4, 3, 5)
    return _joined(ordered)


def input_arrays(share: Share, codes: Codes) -> dict[str, Array]:
    """`inputs` or `places` [k_parts, token_parts, …] of codes [tokens, k]."""
    s = share.schedule
    name = "places" if s.method in ("packed", "canonical") else "inputs"
    return {name: _joined(_INPUTS[s.method](share, codes))}


def table_arrays(share: Share) -> dict[str, Array]:
    """Tables, the same for every DPU."""
    method = share.schedule.method
    if method not in ("packed", "canonical"):
        return {}
    tables = share.tables
    made = {"table": tables.packed() if method == "packed" else tables.canonical()}
    return made | ({"reorder": tables.reorder()} if reorders(share) else {})


def dpu_arrays(share: Share, weights: Codes, activations: Codes) -> dict[str, Array]:
    """All arrays of all DPUs, results zero."""
    return constant_arrays(share, weights) | moved_arrays(share, activations)


def constant_arrays(share: Share, weights: Codes) -> dict[str, Array]:
    """Weights and tables of all DPUs, which stay where they are."""
    s = share.schedule
    held = weight_array(share, weights)
    made = {"weights": np.repeat(held, s.token_parts, axis=1).reshape(s.dpus, *held.shape[2:])}
    for name, array in table_arrays(share).items():
        made[name] = np.broadcast_to(array, (s.dpus, *array.shape))
    return made


def moved_arrays(share: Share, activations: Codes) -> dict[str, Array]:
    """Inputs of all DPUs, and results, zero: what a call moves."""
    s, made = share.schedule, dict[str, Array]()
    for name, array in input_arrays(share, activations).items():
        copies = np.repeat(array[:, None], s.row_parts, axis=1)
        made[name] = copies.reshape(s.dpus, *array.shape[2:])
    shape, element = arrays(share)["results"]
    return made | {"results": np.zeros((s.dpus, *shape), DTYPES[element])}


def product_of(share: Share, results: Array) -> NDArray[np.int64]:
    """
    The matrix [tokens, rows] that `results` [dpus, …] hold; where sums of parts of K stay apart,
    [parts, tokens, rows].
    """
    found = matrix_of(share, _by_token(share, results)) - correction(share)
    return found if share.problem.group else found[0]


def matrix_of(share: Share, by_token: NDArray[np.int64]) -> NDArray[np.int64]:
    """[parts, tokens, rows] of what DPUs have of it, [dpus, rounds, tokens, rows]."""
    s, p, rounds = share.schedule, share.problem, share.rounds
    rows, tokens = -(-p.rows // s.row_parts), -(-p.tokens // s.token_parts)
    each = by_token[:, :, :tokens, :rows]
    each = each.reshape(s.k_parts, s.row_parts, s.token_parts, rounds, tokens, rows)
    apart = each.transpose(0, 3, 2, 4, 1, 5)
    apart = apart.reshape(s.k_parts * rounds, s.token_parts * tokens, s.row_parts * rows)
    if not p.group:
        apart = apart.sum(axis=0, keepdims=True)
    return apart[: p.parts, : p.tokens, : p.rows]


def _dealt(share: Share, given: Array, parts: int, extent: int, pad: int) -> Array:
    """
    [k_parts, parts, rounds, extent, k] of a matrix [rows or tokens, K]: what each DPU has in each
    round. `pad` fills up K; rows, of which there are `extent` then, have no meaning.
    """
    s, columns = share.schedule, share.schedule.k_parts * share.rounds
    each = -(-len(given) // parts)
    whole = np.full((parts * each, columns * share.k_each), pad, given.dtype)
    whole[: len(given), : given.shape[1]] = given
    cut = whole.reshape(parts, each, columns, share.k_each).transpose(2, 0, 1, 3)
    filled = np.full((columns, parts, extent, share.k), pad, given.dtype)
    filled[:, :, :each, : share.k_each] = cut
    return filled.reshape(s.k_parts, share.rounds, parts, extent, share.k).swapaxes(1, 2)


def _joined(dealt: Array) -> Array:
    """[k_parts, parts, rounds * …]: rounds lie one after another."""
    return np.ascontiguousarray(dealt.reshape(*dealt.shape[:2], -1, *dealt.shape[4:]))


def _input_values(share: Share, codes: Codes) -> Array:
    """[k_parts, token_parts, rounds, tokens, k], 0 in the padding of K."""
    values = np.array(share.problem.activations, np.int8)[codes]
    return _dealt(share, values, share.schedule.token_parts, share.tokens, 0)


def _words(share: Share, codes: Codes) -> Array:
    return np.ascontiguousarray(_input_values(share, codes)).view("<u4")


def _groups_of_inputs(share: Share, codes: Codes) -> Array:
    s, values = share.schedule, _input_values(share, codes)
    tiles = values.reshape(*values.shape[:3], share.tiles, s.tile, share.groups, s.p)
    tiles = tiles.transpose(0, 1, 2, 3, 5, 6, 4)
    tiles = tiles.reshape(*tiles.shape[:5], -1)
    made = np.zeros((*tiles.shape[:5], padded(s.p * s.tile, 1)), np.int8)
    made[..., : tiles.shape[-1]] = tiles
    return made


def _places(share: Share, codes: Codes) -> Array:
    s, t = share.schedule, share.tables
    dealt = _dealt(share, codes, s.token_parts, share.tokens, pad_codes(share)[1])
    groups = grouped(dealt.reshape(-1, share.k), s.p, 0)
    made = np.zeros((*groups.shape[:2], 2), np.uint32)
    if s.method == "packed":
        made[..., 0] = (groups << (t.activation_bits * np.arange(s.p))).sum(axis=-1)
    else:
        made[..., 0], made[..., 1] = canonical_form(groups, len(share.problem.activations))
    return made.reshape(*dealt.shape[:4], share.groups, 2)


_INPUTS = {
    "multiply": _words, "packed": _places, "canonical": _places, "fly": _groups_of_inputs,
    "lanes": _groups_of_inputs,
}  # fmt: skip


def _by_token(share: Share, results: Array) -> NDArray[np.int64]:
    """[dpus, rounds, tokens, rows], with padding, of `results` [dpus, …]."""
    s = share.schedule
    if s.method not in ("fly", "lanes"):
        return results.astype(np.int64).reshape(s.dpus, share.rounds, share.tokens, -1)
    if share.accumulator == "ui32":
        low = results.astype(np.uint16).view(np.int16).astype(np.int64)
        high = (results.view(np.int32) - low) >> 16
        results = np.stack([low, high], axis=-1)
    tiles = results.astype(np.int64).reshape(s.dpus, -1, share.rows, s.tile)
    tokens = tiles.transpose(0, 1, 3, 2)
    return tokens.reshape(s.dpus, share.rounds, share.tokens, share.rows)
