"""
Keys brought to one range by channel, before their format rounds them.

    qcc.attention q, round(k), v   =>   qcc.attention q * step, round((k - middle) / step), v

A step and a middle belong to a channel of a key head; they are constants of the program, so rows
of a cache stay independent of each other, and its codes need no scale of their own. A score is
q . k = q step . ((k - middle) / step) + q . middle, whose last term is that of every key, and
softmax does not see it: exact but for the rounding of the format and of fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir
from .elementwise import empty, generic, widened

QUERY, KEY = 0, 1
PER_CHANNEL = (1, 3)
"""The axes of heads and channels in queries and keys [B, H, T, D]."""


@dataclass(frozen=True, slots=True)
class KeyChannels:
    """Of each key head and channel, fp32 [G, D]; steps are above zero."""

    middle: NDArray[np.float32]
    step: NDArray[np.float32]


def spread_key_channels(op: Operation, channels: KeyChannels) -> None:
    """Rewrite the query and the key of an attention at the current insertion point."""
    query, key = op.operands[QUERY], op.operands[KEY]
    heads = qcc.logical_type(query.type).shape[1]
    of_heads = np.repeat(channels.step, heads // len(channels.step), axis=0)
    inverse = (1 / channels.step.astype(np.float64)).astype(np.float32)
    f32 = ir.F32Type.get()

    def scaled(value: ir.Value, step: ir.Value) -> ir.Value:
        return arith.mulf(widened(value, f32), step)

    def centred(value: ir.Value, middle: ir.Value, inverse: ir.Value) -> ir.Value:
        return arith.mulf(arith.subf(widened(value, f32), middle), inverse)

    op.operands[QUERY] = generic(
        [(query, range(4)), (_constant(of_heads), PER_CHANNEL)],
        (empty(query, range(4), f32), range(4)), scaled,
    )  # fmt: skip
    op.operands[KEY] = generic(
        [(key, range(4)), *((_constant(each), PER_CHANNEL) for each in (channels.middle, inverse))],
        (empty(key, range(4), f32), range(4)), centred,
    )  # fmt: skip


def _constant(values: NDArray[np.float32]) -> ir.Value:
    kind = ir.RankedTensorType.get(values.shape, ir.F32Type.get())
    numbers = np.ascontiguousarray(values, np.float32)
    attribute = ir.DenseElementsAttr.get(numbers, type=kind)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return arith.constant(kind, attribute)
