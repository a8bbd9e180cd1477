"""IR element types and the NumPy dtypes that hold their values."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from ..dialects.errors import UnsupportedError

_DTYPES = {
    "complex<f32>": np.dtype(np.complex64),
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "i16": np.dtype(np.int16),
    "i8": np.dtype(np.int8),
    "si8": np.dtype(np.int8),
    "ui8": np.dtype(np.uint8),
    "ui16": np.dtype(np.uint16),
    "ui32": np.dtype(np.uint32),
    "i1": np.dtype(np.bool_),
}


def numpy_dtype(element: str) -> np.dtype:
    """The dtype for an IR element type such as "f32"; UnsupportedError where there is none."""
    if element not in _DTYPES:
        raise UnsupportedError(
            "element-type",
            f"values of type {element} cannot be stored",
            next_step="cast the tensor to another type in the model",
        )
    return _DTYPES[element]
