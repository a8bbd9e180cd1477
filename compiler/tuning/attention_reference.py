"""Attention in float64, and how far rounded factors, fp32 sums and exponentials may be from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.tile.attention_problem import AttentionProblem

UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}
SINGLE = UNIT["f32"]


@dataclass(frozen=True)
class Seen:
    """
    query [planes, group, queries, depth]; key, value [planes, keys, depth].

    A query sees the keys up to its own position, of `positions` [queries].
    """

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    positions: np.ndarray


def exact(problem: AttentionProblem, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """
    The result [planes, group, queries, depth], and its bound.

    Weights w = e^score / total: an error e of a score is a factor e^±e, twice with the total's.
    Weights are rounded to the operand type, absolutely where they are subnormal; scales of values
    cost four more roundings.
    """
    p, keys = problem, seen.key.shape[1]
    q = seen.query.astype(np.float64)
    k, v = seen.key[:, None], seen.value[:, None]
    across = k.swapaxes(-1, -2)
    scores, size = q @ across * p.scale, np.abs(q) @ np.abs(across) * p.scale
    visible = np.arange(keys) <= seen.positions[:, None]
    magnitude = np.where(visible, np.abs(scores), 0)
    scores = np.where(visible, scores, -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    result = weights @ v
    key_error, value_error = (
        program.error if (program := p.program(rows)) else 0.0 for rows in (p.keys, p.values)
    )
    error = ((p.keys.depth + 16) * SINGLE + key_error) * size
    error = error + 4 * SINGLE * (magnitude + magnitude.max(-1, keepdims=True) + 1)
    relative = 2 * error + UNIT[p.operand] + value_error + (2 * keys + 16) * SINGLE
    spread = (weights * relative) @ np.abs(v)
    shift = 2 * (weights * error).sum(-1, keepdims=True) * np.abs(result)
    floor = keys * 2.0**-24 * np.abs(v).max(axis=-2, keepdims=True)
    return result, spread + shift + floor + UNIT[p.result] * np.abs(result) + 2.0**-24
