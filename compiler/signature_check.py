"""Checking the arrays of a call against the signature, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from ..dialects.errors import UsageError
from .manifest import Signature, Value


def check_inputs(signature: Signature, arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """
    The sizes of the symbolic dimensions that `arrays` imply.

    Raises UsageError, naming the input, for a wrong count, dtype, rank or size.
    """
    if len(arrays) != len(signature.inputs):
        names = ", ".join(value.name for value in signature.inputs)
        raise UsageError(
            "input-count",
            f"{len(arrays)} inputs given, the model takes {len(signature.inputs)} ({names})",
        )
    sizes: dict[str, int] = {}
    for value, array in zip(signature.inputs, arrays, strict=True):
        _check_input(value, array, signature, sizes)
    return sizes


def _check_input(
    value: Value, array: np.ndarray, signature: Signature, sizes: dict[str, int]
) -> None:
    if _name(array.dtype) != value.dtype:
        raise UsageError(
            "input-dtype",
            f"input '{value.name}' is {array.dtype}, the model takes {value.dtype}",
            next_step=f"cast it: array.astype('{value.dtype}')",
        )
    if array.ndim != len(value.shape):
        raise UsageError(
            "input-rank",
            f"input '{value.name}' has shape {list(array.shape)}, "
            f"the model takes {list(value.shape)}",
        )
    if array.shape == value.shape:
        return
    for axis, (size, wanted) in enumerate(zip(array.shape, value.shape, strict=True)):
        if isinstance(wanted, str) and wanted in signature.dims:
            extent = signature.dims[wanted]
            known = sizes.setdefault(wanted, size)
            low, high = extent.min, extent.max
            fits = size == known and size >= low and (high is None or size <= high)
            reason = f"{wanted} in {low}…{high or ''}" + ("" if size == known else f", is {known}")
        else:
            fits, reason = isinstance(wanted, str) or size == wanted, str(wanted)
        if not fits:
            raise UsageError(
                "input-size",
                f"input '{value.name}' has size {size} on axis {axis}, the model takes {reason}",
            )


@cache
def _name(dtype: np.dtype) -> str:
    """NumPy spells a dtype anew each time, which takes as long as a small call."""
    return str(dtype)
