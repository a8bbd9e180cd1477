"""
Calibration samples: the inputs of one call each, one after the other.

    random             seeded inputs as for golden outputs; good for trying, not for accuracy
    samples.npz        arrays named like the inputs, of their shape or with a leading sample axis
    module:function    the user's own code, which returns an iterable of input tuples
    an iterable        the same through the Python API
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..dialects.bindings import ir
from ..dialects.errors import QccError, UsageError
from .calibration import RANDOM
from .frontend.module_source import find_callable
from .frontend.torch_weights import to_numpy
from .golden import golden_inputs
from .manifest import Signature
from .npz import in_order, read_npz
from .signature_check import check_inputs

RANDOM_SAMPLES = 8

SampleSource = str | os.PathLike[str] | Iterable[Any]
"""What a user gives: `random`, a file, module:function, or the samples themselves."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Where samples come from, how many there are if that is known, and an iterator of them."""

    source: str
    count: int | None
    inputs: Iterator[list[np.ndarray]]


def open_samples(
    given: SampleSource, signature: Signature, module: ir.Module, *, seed: int, limit: int | None
) -> Samples:
    """
    The samples that `given` means, at most `limit` of them, each checked against `signature`.

    Raises UsageError where there is no such source or a sample does not fit the model.
    """
    if isinstance(given, str) and given == RANDOM:
        count = RANDOM_SAMPLES if limit is None else limit
        rounds = (golden_inputs(signature, module, seed + index) for index in range(count))
        return Samples(RANDOM, count, rounds)
    if isinstance(given, str | os.PathLike):
        source, samples = _named(os.fspath(given), signature)
    else:
        source, samples = "given samples", _iterable(given, "the calibration samples")
    count = len(samples) if isinstance(samples, Sequence) else None
    if limit is not None:
        count = limit if count is None else min(count, limit)
    return Samples(source, count, _checked(_drawn(samples, limit, source), signature, source))


def _named(name: str, signature: Signature) -> tuple[str, Iterable[Any]]:
    if name.endswith(".npz") or Path(name).is_file():
        path = Path(name)
        return path.name, _from_arrays(read_npz(path), signature, path)
    if ":" not in name:
        raise UsageError(
            "calibration-source",
            f"'{name}' names no calibration samples",
            next_step="give random, a .npz file, or module:function that returns samples",
        )
    function = find_callable(name)
    try:
        made = function()
    except QccError:
        raise
    except Exception as error:
        raise _failed(name, error) from error
    # Reports name no folder of the machine they were made on.
    return os.path.basename(name), _iterable(made, f"what '{name}' returned")


def _from_arrays(
    arrays: Mapping[str, np.ndarray], signature: Signature, path: Path
) -> list[list[np.ndarray]]:
    """One sample if every array has its input's rank; with one more axis, that many samples."""
    ordered = in_order(arrays, [value.name for value in signature.inputs])
    ranks = [len(value.shape) for value in signature.inputs]
    extra = {array.ndim - rank for array, rank in zip(ordered, ranks, strict=True)}
    if extra == {0}:
        return [ordered]
    counts = {len(array) for array in ordered if array.ndim}
    if extra != {1} or len(counts) != 1:
        shapes = [
            f"{v.name} {list(a.shape)}" for v, a in zip(signature.inputs, ordered, strict=True)
        ]
        wanted = [f"{value.name} {list(value.shape)}" for value in signature.inputs]
        raise UsageError(
            "calibration-shape",
            f"the arrays are no samples of the inputs: {', '.join(shapes)}",
            where=str(path),
            why=f"the model takes {', '.join(wanted)}",
            next_step="give each array its input's shape, or a leading axis of samples as well, "
            "as long for all",
        )
    return [list(sample) for sample in zip(*ordered, strict=True)]


def _iterable(value: Any, what: str) -> Iterable[Any]:
    if isinstance(value, Iterable) and not isinstance(value, str | np.ndarray | torch.Tensor):
        return value
    raise UsageError(
        "calibration-samples",
        f"{what} must be an iterable of input tuples, not {type(value).__name__}",
        next_step="give a list of tuples, or a generator that yields them",
    )


def _drawn(samples: Iterable[Any], limit: int | None, source: str) -> Iterator[Any]:
    """What the user's code yields, its failures as UsageError."""
    try:
        yield from islice(samples, limit)
    except QccError:
        raise
    except Exception as error:
        raise _failed(source, error) from error


def _checked(
    samples: Iterable[Any], signature: Signature, source: str
) -> Iterator[list[np.ndarray]]:
    for index, sample in enumerate(samples):
        try:
            arrays = _arrays(sample, signature)
            check_inputs(signature, arrays)
        except QccError as error:
            error.where = f"sample {index} of {source}"
            raise
        yield arrays


def _arrays(sample: Any, signature: Signature) -> list[np.ndarray]:
    """A tuple or list has an entry for each input, a mapping their names; else it is the input."""
    if isinstance(sample, Mapping):
        arrays = {str(name): _array(value) for name, value in sample.items()}
        return in_order(arrays, [value.name for value in signature.inputs])
    if isinstance(sample, tuple | list):
        return [_array(value) for value in sample]
    return [_array(sample)]


def _array(value: Any) -> np.ndarray:
    return to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)


def _failed(source: str, error: Exception) -> UsageError:
    return UsageError(
        "calibration-samples",
        f"making the calibration samples raised {type(error).__name__}: {error}",
        where=source,
        next_step="run that code by itself in Python and mend it first",
    )
