"""
Codes as the arrays that DPUs read, and results as they leave them (arrays of footprint.py).

Arrays are [dpus, …]; DPUs count through parts of tokens first, then of rows, then of K.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def correction(share: Share) -> int:
    """What padding of K adds to every result."""
    if share.schedule.method not in ("packed", "canonical"):
        return 0
    w, a = pad_codes(share)
    product = share.problem.weights[w] * share.problem.activations[a]
    return (share.k * share.schedule.k_parts - share.problem.k) * product


def weight_array(share: Share, codes: Codes) -> Array:
    """`weights` [k_parts, row_parts, …] of codes [rows, k]."""
    s = share.schedule
    return np.stack([
        np.stack([_weights(share, part) for part in _parts(columns, s.row_parts, share.rows)])
        for columns in _columns(share, codes)
    ])  # fmt: skip


def input_arrays(share: Share, codes: Codes) -> dict[str, Array]:
    """`inputs` or `places` [k_parts, token_parts, …] of codes [tokens, k]."""
    s = share.schedule
    name = "places" if s.method in ("packed", "canonical") else "inputs"
    make = _INPUTS[s.method]
    made = np.stack([
        np.stack([make(share, part) for part in _parts(columns, s.token_parts, share.tokens)])
        for columns in _columns(share, codes)
    ])  # fmt: skip
    return {name: made}


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
    """The matrix [tokens, rows] that `results` [dpus, …] hold."""
    s, p = share.schedule, share.problem
    each = _by_token(share, results)
    rows, tokens = -(-p.rows // s.row_parts), -(-p.tokens // s.token_parts)
    each = each[:, :tokens, :rows].reshape(s.k_parts, s.row_parts, s.token_parts, tokens, rows)
    whole = (
        each.sum(axis=0).transpose(1, 2, 0, 3).reshape(s.token_parts * tokens, s.row_parts * rows)
    )
    return whole[: p.tokens, : p.rows] - correction(share)


def _parts(codes: Codes, count: int, extent: int) -> list[Codes]:
    """Equal parts of rows, each filled to `extent` with its first row's codes of no meaning."""
    each = -(-len(codes) // count)
    parts = []
    for part in range(count):
        filled = np.zeros((extent, codes.shape[1]), codes.dtype)
        given = codes[part * each : (part + 1) * each]
        filled[: len(given)] = given
        parts.append(filled)
    return parts


def _columns(share: Share, codes: Codes) -> list[Codes]:
    """The parts of K, the last with fewer columns."""
    return [codes[:, at : at + share.k_each] for at in range(0, share.problem.k, share.k_each)]


def _widened(share: Share, codes: Codes, pad: int) -> Codes:
    wide = np.full((len(codes), share.k), pad, codes.dtype)
    wide[:, : codes.shape[1]] = codes
    return wide


def _weights(share: Share, codes: Codes) -> Array:
    s, t = share.schedule, share.tables
    if s.method == "multiply":
        values = _values(share, codes, share.problem.weights)
        words = values.astype(np.int8).view("<u4")
        return np.ascontiguousarray(
            words.reshape(share.rows, share.chunks, s.groups).transpose(1, 0, 2)
        )
    wide = _widened(share, codes, pad_codes(share)[0])
    r = packed_codes(wide, t.weight_bits, s.p, 0).astype(DTYPES[t.code])
    if s.method in ("fly", "lanes"):
        return np.ascontiguousarray(
            r.reshape(share.rows, share.chunks, s.groups).transpose(1, 0, 2)
        )
    blocks = r.reshape(share.rows // s.row_block, s.row_block, share.chunks, s.groups)
    return np.ascontiguousarray(blocks.transpose(2, 0, 3, 1))


def _values(share: Share, codes: Codes, book: tuple[int, ...]) -> Array:
    """Integers of codes, 0 in the padding of K."""
    values = np.zeros((len(codes), share.k), np.int64)
    values[:, : codes.shape[1]] = np.array(book)[codes]
    return values


def _words(share: Share, codes: Codes) -> Array:
    values = _values(share, codes, share.problem.activations).astype(np.int8)
    return values.view("<u4").reshape(len(codes), share.groups)


def _groups_of_inputs(share: Share, codes: Codes) -> Array:
    s = share.schedule
    values = _values(share, codes, share.problem.activations)
    shape = (share.tiles, s.tile, share.groups, s.p)
    tiles = values.reshape(shape).transpose(0, 2, 3, 1).reshape(share.tiles, share.groups, -1)
    made = np.zeros((share.tiles, share.groups, padded(s.p * s.tile, 1)), np.int8)
    made[:, :, : tiles.shape[2]] = tiles
    return made


def _places(share: Share, codes: Codes) -> Array:
    s, t = share.schedule, share.tables
    groups = grouped(_widened(share, codes, pad_codes(share)[1]), s.p, 0)
    made = np.zeros((*groups.shape[:2], 2), np.uint32)
    if s.method == "packed":
        made[..., 0] = (groups << (t.activation_bits * np.arange(s.p))).sum(axis=-1)
    else:
        made[..., 0], made[..., 1] = canonical_form(groups, len(share.problem.activations))
    return made


_INPUTS = {
    "multiply": _words, "packed": _places, "canonical": _places, "fly": _groups_of_inputs,
    "lanes": _groups_of_inputs,
}  # fmt: skip


def _by_token(share: Share, results: Array) -> NDArray[np.int64]:
    """[dpus, tokens, rows], with padding, of `results` [dpus, …]."""
    s = share.schedule
    if s.method not in ("fly", "lanes"):
        return results.astype(np.int64)
    if share.accumulator == "ui32":
        low = results.astype(np.uint16).view(np.int16).astype(np.int64)
        high = (results.view(np.int32) - low) >> 16
        results = np.stack([low, high], axis=-1)
    tiles = results.astype(np.int64).reshape(s.dpus, share.tiles, share.rows, s.tile)
    return tiles.transpose(0, 1, 3, 2).reshape(s.dpus, share.tokens, share.rows)


def byte_counts(made: Mapping[str, Array]) -> dict[str, int]:
    """Bytes of each array of all DPUs."""
    return {name: array.nbytes for name, array in made.items()}
