"""Reusable buffers, so that encoding a large tensor allocates once and stays in the L2 cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch:
    """Named buffers that grow to the largest request and are then reused."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An uninitialised C-contiguous array; the next request for `name` overwrites it."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = np.empty(size + 64, np.uint8)
            start = -buffer.ctypes.data % 64
            buffer = buffer[start : start + size]
            self._buffers[name] = buffer
        return buffer[:size].view(kind).reshape(shape)

    def filled(self, name: str, shape: tuple[int, ...], value: np.generic) -> NDArray[Any]:
        """
        A buffer holding `value` everywhere, which callers must not write.

        NumPy's minimum and maximum run several times faster against an array than a scalar.
        """
        key = f"{name}={value!r}"
        size = math.prod(shape)
        held = self._buffers.get(key)
        if held is None or held.size < size * value.dtype.itemsize:
            held = np.full(size, value).view(np.uint8)
            self._buffers[key] = held
        return held[: size * value.dtype.itemsize].view(value.dtype).reshape(shape)
