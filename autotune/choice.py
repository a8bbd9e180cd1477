"""
Which config is used: the one that was clearly faster than the default when both ran in turns.

Times taken one after the other on a busy machine differ by more than good configs do, so the
fastest of many single measurements is often just the luckiest. Ratios within a round are fair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from .measurement import Measurement

CHOSEN, FINALIST = "chosen", "finalist"
"""As `strategy`, measurements of a comparison; the chosen one is what the kernel should use."""
LOW = 0.25


def clear_winner(rounds: Sequence[Sequence[float]], margin: float) -> int:
    """
    The column of `rounds` [rounds][configs] to be used, 0 being the default's.

    Another one wins by the median of the default's seconds over its own in each round, if that is
    at least 1 + `margin` and three quarters of all rounds agree on the sign.

    >>> clear_winner([[2.0, 1.9, 1.0], [2.0, 1.9, 1.1], [1.0, 1.9, 0.6]], 0.02)
    2
    >>> clear_winner([[1.0, 0.5], [1.0, 1.1], [1.0, 1.1]], 0.02)
    0
    """
    seconds = np.array(rounds)
    ratios = seconds[:, :1] / seconds
    gains = np.median(ratios, axis=0)
    clear = (gains >= 1 + margin) & (np.quantile(ratios, LOW, axis=0) > 1)
    return int(np.argmax(np.where(clear, gains, 0.0))) if clear.any() else 0


def config_key(measurement: Measurement) -> bytes:
    """What measurements of one config have in common."""
    return msgspec.json.encode(measurement.values)


def sound(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Those that worked and were checked, of configs that never gave wrong results."""
    some = list(measurements)
    wrong = {config_key(each) for each in some if each.failure == "correctness"}
    return [each for each in some if each.worked and each.checked and config_key(each) not in wrong]


def chosen(measurements: Iterable[Measurement]) -> Measurement | None:
    """What the last comparison of a task chose; None where there was none."""
    found = [each for each in measurements if each.strategy == CHOSEN and each.worked]
    return found[-1] if found else None
