"""How long tensors and how large grids may be; needs neither MLIR nor torch."""

from __future__ import annotations

from collections.abc import Sequence

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


MOST_BLOCKS = ((1 << 31) - 1, 65535, 65535)
"""Of a launch along x, y and z, on every machine (CUDA programming guide, compute capabilities)."""


def check_grid(kernel: str, grid: Sequence[int], where: str = "") -> None:
    """Raises UnsupportedError for more blocks than a GPU launches."""
    for axis, count, most in zip("xyz", grid, MOST_BLOCKS, strict=True):
        if count > most:
            raise UnsupportedError(
                "cuda-grid",
                f"kernel {kernel} would have {count} blocks along {axis}",
                where=where,
                why=f"GPUs launch at most {most}: of batches times heads, or of groups",
                next_step=f"run the model on 1/{-(-count // most)} of its batch at a time",
            )
