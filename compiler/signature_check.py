"""Checking the arrays of a call against the signature, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ..dialects.errors import UsageError
from .manifest import Extent, Signature, Value
from .nesting import TENSOR, Nest


def check_inputs(signature: Signature, arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """
    The sizes of the symbolic dimensions that `arrays` imply.

    Raises UsageError, naming the input, for a wrong count, dtype, rank or size, and for an index
    outside its table, which compiled code would read memory with.
    """
    sizes = check_shapes(signature, arrays)
    for value, array in zip(signature.inputs, arrays, strict=True):
        if value.limit is not None and array.size:
            check_indices(value, int(array.min()), int(array.max()))
    return sizes


def check_shapes(signature: Signature, arrays: Sequence[Any]) -> dict[str, int]:
    """`check_inputs` by dtype and shape alone, of arrays that may lie elsewhere."""
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


def flat_parameters(signature: Signature) -> Nest:
    """The inputs themselves as the parameters, where the model's own are not known."""
    names = tuple(value.name for value in signature.inputs)
    return Nest("dict", keys=names, parts=(TENSOR,) * len(names))


def _check_input(value: Value, array: Any, signature: Signature, sizes: dict[str, int]) -> None:
    if _name(array.dtype) != value.dtype:
        raise UsageError(
            "input-dtype",
            f"input '{value.name}' is {array.dtype}, the model takes {value.dtype}",
            next_step=f"cast it: array.astype('{value.dtype}'), tensor.to(torch.{value.dtype})",
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


def check_count(count: Any) -> int:
    """A number of tokens to generate; raises UsageError for anything but an integer from 0 on."""
    if isinstance(count, int | np.integer) and not isinstance(count, bool) and count >= 0:
        return int(count)
    raise UsageError(
        "token-count",
        f"{count!r} is no number of new tokens",
        next_step="give an integer, 0 or more",
    )


def check_stop(stop: Any, limit: int | None) -> list[int]:
    """
    The token ids that end a sequence, from one, several, or None; `limit` is that of the inputs.

    Raises UsageError for anything but integers that the model could produce.
    """
    ids = [] if stop is None else list(stop) if isinstance(stop, list | tuple | set) else [stop]
    for token in ids:
        whole = isinstance(token, int | np.integer) and not isinstance(token, bool)
        if not whole or token < 0 or (limit is not None and token >= limit):
            raise UsageError(
                "stop-token",
                f"{token!r} is no token that the model could produce",
                why="" if limit is None else f"its tokens are 0…{limit - 1}",
                next_step="give a token id, or several as a list",
            )
    return [int(token) for token in ids]


def check_prompt(signature: Signature, prompt: np.ndarray, count: int) -> None:
    """
    Whether a decoder can continue `prompt` [batch, T] by `count` tokens.

    The last new token is not seen by the model. A prompt may be shorter than a whole sequence may
    be, and of any integer type. Raises UsageError.
    """
    tokens = signature.inputs[0]
    if prompt.ndim != 2 or prompt.dtype.kind not in "iu" or not prompt.size:
        raise UsageError(
            "prompt",
            f"a prompt is token ids [T] or [batch, T], at least one, "
            f"not {prompt.dtype}{list(prompt.shape)}",
        )
    if tokens.limit is not None:
        check_indices(tokens, int(prompt.min()), int(prompt.max()))
    batch, length = prompt.shape
    if not isinstance(tokens.shape[0], str) and batch != tokens.shape[0]:
        raise UsageError(
            "prompt-size",
            f"{batch} sequences, the model takes exactly {tokens.shape[0]}",
            next_step="give as many, or trace the model with a dynamic batch",
        )
    most = _most(signature, 0)
    if most is not None and batch > most:
        raise UsageError(
            "prompt-size",
            f"{batch} sequences, the model takes up to {most}",
            next_step="give fewer at a time, or trace the model for a larger batch",
        )
    most = _most(signature, 1)
    if most is not None and length + max(count - 1, 0) > most:
        fitting = most + 1 - length
        raise UsageError(
            "prompt-size",
            f"{length} tokens and {count} new ones are too long: the model sees up to {most}",
            next_step=f"ask for {fitting} new tokens at most" if fitting > 0 else "shorten it",
        )


def _most(signature: Signature, axis: int) -> int | None:
    extent = signature.inputs[0].shape[axis]
    return signature.dims.get(extent, Extent()).max if isinstance(extent, str) else extent


def check_indices(value: Value, least: int, most: int) -> None:
    """Whether numbers from `least` to `most` are rows of the table that an input indexes."""
    if value.limit is not None and (least < 0 or most >= value.limit):
        raise UsageError(
            "input-range",
            f"input '{value.name}' holds {least if least < 0 else most}, an index into a table "
            f"of {value.limit} rows",
            next_step="check the token ids given to the model",
        )


@cache
def _name(dtype: np.dtype) -> str:
    """NumPy spells a dtype anew each time, which takes as long as a small call."""
    return str(dtype)
