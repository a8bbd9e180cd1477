"""What benchmarks print while they run."""

from __future__ import annotations

import os
import sys

import numpy as np


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def load() -> str:
    """How busy the machine was in the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def compared(times: dict[str, list[float]], tokens: int = 1) -> list[str]:
    """
    A line for each contestant, with the median over rounds of others' seconds by its own.

    >>> for line in compared({"a": [1.0, 2.0, 1.0], "b": [2.0, 2.0, 4.0]}, 8):
    ...     print(line)
    a                       8 tokens/s   median 1000.00 ms, best 1000.00   b / this: 2.00
    b                       4 tokens/s   median 2000.00 ms, best 2000.00   a / this: 0.50
    """
    found = []
    for name, seconds in times.items():
        median = float(np.median(seconds))
        ratios = [
            f"{other} / this: {np.median(np.divide(theirs, seconds)):.2f}"
            for other, theirs in times.items()
            if other != name
        ]
        rate = f"{name:18} {tokens / median:6.0f} tokens/s"
        best = f"median {median * 1e3:.2f} ms, best {min(seconds) * 1e3:.2f}"
        found.append(f"{rate}   {best}   {', '.join(ratios)}")
    return found
