"""
Calls with tensors that lie on the GPU already: no copy of them is made, and results stay there.

Anything with `__cuda_array_interface__` is taken, and torch's tensors of types that it has no name
for. Needs torch only where a torch tensor was given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.errors import UsageError
from ..manifest import Signature, Value
from ..signature_check import check_indices, check_shapes


@dataclass(frozen=True)
class DeviceArray:
    """
    A contiguous array on the GPU: its `address`, and `owner`, which keeps it alive.

    `stream` is where it is still written, None where whoever asks for it knows.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    address: int
    owner: Any
    stream: int | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


def on_gpu(value: Any) -> bool:
    return bool(getattr(value, "is_cuda", False)) or (
        not hasattr(value, "detach") and hasattr(value, "__cuda_array_interface__")
    )


def device_results(running: Any, signature: Signature, values: Sequence[Any]) -> list[Any]:
    """
    The results of a call whose inputs are on the GPU, as tensors there.

    Raises UsageError for inputs of another type or shape, or that lie elsewhere, on another GPU
    too.
    """
    arrays = [
        device_array(value, wanted) for value, wanted in zip(values, signature.inputs, strict=True)
    ]
    check_shapes(signature, arrays)
    for array, wanted in zip(arrays, signature.inputs, strict=True):
        _check_gpu(running, array, wanted)
    for value, wanted in zip(values, signature.inputs, strict=True):
        _check_indices(value, wanted)
    like = next((value for value in values if hasattr(value, "new_empty")), None)
    if like is None:
        raise UsageError(
            "device-results",
            "results on the GPU are torch tensors, and no input is one",
            next_step="give torch tensors, or arrays of NumPy",
        )
    made: list[Any] = []

    def empty(shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        tensor = like.new_empty(shape, dtype=torch_type(dtype))
        made.append(tensor)
        return DeviceArray(shape, dtype, tensor.data_ptr(), tensor)

    running.call_on_device(arrays, empty, _stream(like))
    return made


def device_array(value: Any, wanted: Value) -> DeviceArray:
    """A torch tensor, or what has the interface; torch's are made contiguous if need be."""
    if getattr(value, "is_cuda", False):
        tensor = value.detach().contiguous()
        name = str(tensor.dtype).removeprefix("torch.")
        return DeviceArray(tuple(tensor.shape), np_type(name), tensor.data_ptr(), tensor)
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is None:
        raise UsageError(
            "input-device",
            f"input '{wanted.name}' is not on the GPU, others are",
            next_step="move it there: tensor.cuda(), or give all inputs from the CPU",
        )
    if interface.get("strides") is not None:
        raise UsageError(
            "input-strides",
            f"input '{wanted.name}' is not contiguous",
            next_step="copy it to a contiguous array first",
        )
    address, _ = interface["data"]
    dtype = np.dtype(interface["typestr"])
    shape, stream = tuple(interface["shape"]), interface.get("stream")
    return DeviceArray(shape, dtype, address, value, stream)


def _check_gpu(running: Any, array: DeviceArray, wanted: Value) -> None:
    if not math.prod(array.shape):
        return  # lies nowhere
    found, own = running.gpus(array)
    if found != own:
        raise UsageError(
            "input-device",
            f"input '{wanted.name}' is on GPU {found}, the program is on GPU {own}",
            next_step=f"move it there: tensor.to('cuda:{own}')",
        )


def _check_indices(value: Any, wanted: Value) -> None:
    """Two numbers are read back, only of inputs that index tables."""
    if wanted.limit is not None and hasattr(value, "aminmax") and value.numel():
        least, most = value.aminmax()
        check_indices(wanted, int(least), int(most))


def np_type(name: str) -> np.dtype:
    import ml_dtypes

    return np.dtype({"bfloat16": ml_dtypes.bfloat16, "bool": np.bool_}.get(name, name))


def torch_type(dtype: np.dtype) -> Any:
    import torch

    return getattr(torch, dtype.name)


def _stream(tensor: Any) -> int:
    """The stream that torch works on: kernels go there, after what it has queued."""
    import torch

    return torch.cuda.current_stream(tensor.device).cuda_stream
