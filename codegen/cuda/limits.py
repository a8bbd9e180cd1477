"""How long a tensor may be that kernels count in 32 bits; needs neither MLIR nor torch."""

from __future__ import annotations

from ...dialects.errors import UnsupportedError

MOST_ELEMENTS = (1 << 31) - (1 << 16)
"""Threads of the last block may stand behind the last element, and count in 32 bits too."""


def too_many(count: int, what: str, where: str = "") -> UnsupportedError:
    return UnsupportedError(
        "cuda-elements",
        f"{what} has {count} elements",
        where=where,
        why=f"kernels count the elements of a tensor in 32 bits, up to {MOST_ELEMENTS}",
        next_step=f"run the model on 1/{-(-count // MOST_ELEMENTS)} of its rows at a time",
    )
