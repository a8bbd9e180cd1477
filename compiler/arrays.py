"""What a call is given as NumPy arrays, and its results as torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dialects.errors import UsageError
from .manifest import Value


def as_array(value: Any, wanted: Value | None = None) -> np.ndarray:
    """
    An array of a tensor or a list; numbers of Python take the dtype that is wanted.

    Raises UsageError for what is no array of numbers and for integers that the dtype cannot hold.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if not hasattr(value, "detach"):
        return _of_numbers(value, wanted)
    try:
        tensor = value.detach().cpu()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
    except NotImplementedError as error:  # a tensor on meta
        raise UsageError(
            "input-type",
            f"a tensor on device '{value.device}' holds no values",
            why=str(error).partition("\n")[0],
            next_step="give a tensor with values, on any other device",
        ) from error
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.resolve_conj().resolve_neg().numpy()
    import ml_dtypes
    import torch

    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def as_integers(array: np.ndarray, target: np.dtype, name: str) -> np.ndarray:
    """Integers or booleans in another integer type; UsageError for one that it cannot hold."""
    bounds = np.iinfo(target)
    extremes = (int(array.min()), int(array.max())) if array.size else ()
    for each in extremes:
        if not bounds.min <= each <= bounds.max:
            raise UsageError(
                "input-range",
                f"input '{name}' holds {each}, the model takes {target}, {bounds.min}…{bounds.max}",
            )
    return array.astype(target)


def _of_numbers(value: Any, wanted: Value | None) -> np.ndarray:
    name = wanted.name if wanted else "tokens"
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise UsageError(
            "input-type",
            f"input '{name}' is a {type(value).__name__} that is no array of numbers",
            next_step="give a NumPy array, a torch tensor, or nested lists of equal lengths",
        )
    if wanted is None:
        return array
    target = np.dtype(wanted.dtype)
    if target.kind in "iu":
        return as_integers(array, target, name) if array.dtype.kind in "biu" else array
    kinds = "biuf" if target.kind in "fV" else "b"
    return array.astype(target) if array.dtype.kind in kinds else array


def as_tensor(array: np.ndarray) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
