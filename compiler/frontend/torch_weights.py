"""Weights of a module that is already in memory, and conversion between torch and NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor

from ...dialects.errors import UsageError
from .weights import DTYPES, TensorInfo, WeightSource, check_rows, unknown_name

TORCH_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}
"""torch's element types under the names of `weights.DTYPES`."""

_BITS = {1: torch.uint8, 2: torch.int16}
_OUTSIDE_NUMPY = frozenset(name for name, dtype in DTYPES.items() if dtype.isbuiltin != 1)


def dtype_name(dtype: torch.dtype) -> str:
    """
    The name used in `TensorInfo`.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A fresh C-contiguous array with the tensor's bits, bfloat16 and fp8 through ml_dtypes."""
    dtype = DTYPES[dtype_name(tensor.dtype)]
    tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if dtype.name in _OUTSIDE_NUMPY:
        return tensor.view(_BITS[dtype.itemsize]).numpy().view(dtype)
    return tensor.numpy()


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A tensor over the array's memory, with the dtype of the same name."""
    dtype = TORCH_DTYPES[array.dtype.name]
    if array.dtype.name in _OUTSIDE_NUMPY:
        bits = np.uint8 if array.dtype.itemsize == 1 else np.int16
        return torch.from_numpy(array.view(bits)).view(dtype)
    return torch.from_numpy(array)


def laid_out_like(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """
    The values in a tensor with the strides of `like`; row-major where those share elements.

    torch rounds a matrix product differently for another layout.
    """
    tensor = to_torch(values)
    if 0 in like.stride():
        return tensor
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype).copy_(tensor)


class TorchSource(WeightSource):
    """Tensors held by a module or an ExportedProgram; ties are told by shared storage."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            _check_real(name, tensor)
        self._tensors = dict(sorted(tensors.items()))

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def info(self, name: str) -> TensorInfo:
        tensor = self._tensor(name)
        storage = (
            f"{tensor.untyped_storage().data_ptr():x}+{tensor.storage_offset()}"
            f"/{tuple(tensor.stride())}"
            if tensor.numel()
            else name
        )
        return TensorInfo(tuple(tensor.shape), dtype_name(tensor.dtype), storage)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        shape = check_rows(self.info(name), start, stop)
        tensor = self._tensor(name)
        return to_numpy(tensor[start:stop] if tensor.dim() else tensor).reshape(shape)

    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for name in self._tensors:
            info = self.info(name)
            digest.update(f"{name}\0{info.shape}\0{info.dtype}\0".encode())
            digest.update(
                self.read(name).view(np.uint8).data if info.shape else self.read(name).tobytes()
            )
        return digest.hexdigest()

    def close(self) -> None:
        self._tensors = {}

    def _tensor(self, name: str) -> torch.Tensor:
        if name not in self._tensors:
            raise unknown_name(name, self._tensors)
        return self._tensors[name]


def _check_real(name: str, tensor: torch.Tensor) -> None:
    if tensor.is_meta or isinstance(tensor, FakeTensor):
        raise UsageError(
            "weights-needed",
            f"the tensor '{name}' has a shape but no values",
            why="the model was built on the meta device or under fake tensors",
            next_step="give its values, for example --weights model.safetensors",
        )
    if tensor.layout is not torch.strided or dtype_name(tensor.dtype) not in DTYPES:
        raise UsageError(
            "weights-layout",
            f"the tensor '{name}' is {tensor.layout} of {tensor.dtype}",
            next_step="convert it to a dense tensor of a plain dtype first",
        )
