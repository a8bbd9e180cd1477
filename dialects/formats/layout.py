"""Where the stored parts of an array lie: blocks in a row, bytes of a row, names of the parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .packing import CODES_PER_PACK

Parts = dict[str, NDArray[Any]]
PartSpecs = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
SCALE_DTYPES: dict[str, np.dtype[Any]] = {
    "e8m0": np.dtype(np.uint8),
    "e5m2": np.dtype(np.uint8),
    "e4m3": np.dtype(np.uint8),
    "e4m3max480": np.dtype(np.uint8),
    "fp16": np.dtype(np.uint16),
    "bf16": np.dtype(np.uint16),
    "fp32": np.dtype(np.float32),
}


def block_columns(block_size: int | str | None, k: int) -> tuple[int, int]:
    """
    Length of a block and number of blocks in a row of k; a block of the whole tensor counts as
    one a row here, and its single scale is broadcast.

    >>> block_columns(32, 100), block_columns(None, 100)
    ((32, 4), (100, 1))
    """
    size = block_size if isinstance(block_size, int) else max(k, 1)
    return size, -(-k // size)


def padded_count(k: int) -> int:
    """Codes of a packed row."""
    return -(-k // CODES_PER_PACK) * CODES_PER_PACK
