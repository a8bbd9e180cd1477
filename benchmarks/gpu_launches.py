"""What the suite asks of a device: sources, launches of their kernels, arguments by role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcc.dialects.tile.launch import Launch, TensorBox
from qcc.dialects.tile.warp_launch import WarpLaunch

Grid = tuple[int, int, int]
SCRATCH = ("workspace", "arrivals", "table", "sums", "tops", "totals", "key_table", "value_table")


@dataclass(frozen=True)
class Call:
    """One launch; `arguments` are roles, those of `maps` become tensor maps."""

    kernel: str
    grid: Grid
    threads: int
    shared_bytes: int
    arguments: tuple[str, ...]
    maps: tuple[TensorBox, ...] = ()

    @staticmethod
    def linear(launch: Launch, tokens: int) -> Call:
        return Call(launch.kernel, launch.grid(tokens), launch.threads, launch.shared_bytes,
                    launch.arguments, launch.maps)  # fmt: skip

    @staticmethod
    def warps(launch: WarpLaunch, grid: Grid) -> Call:
        return Call(launch.kernel, grid, launch.threads, launch.shared_bytes, launch.arguments)


@dataclass(frozen=True)
class Trial:
    """
    Launches in order, and their arguments: arrays, and whole numbers as i32.

    `error` is that of the array `output`, in units of its bound: at most 1 is right. `moved` is
    how many bytes a call must read and write.
    """

    source: str
    calls: tuple[Call, ...]
    given: dict[str, Any]
    output: str
    error: Callable[[np.ndarray], float]
    moved: int


def worst(found: np.ndarray, wanted: np.ndarray, bound: np.ndarray) -> float:
    """The largest error over its bound; what is not a number is wrong."""
    ratio = np.abs(found.astype(np.float64) - wanted) / bound
    return float(np.nan_to_num(ratio, nan=np.inf).max(initial=0))


def array_bytes(given: dict[str, Any]) -> int:
    """Of all arrays that a call must read or write."""
    return sum(part.nbytes for role, part in given.items()
               if isinstance(part, np.ndarray) and role not in SCRATCH)  # fmt: skip
