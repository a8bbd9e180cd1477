"""MLIR element types as NumPy dtypes, and the two readings of a signless integer."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..bindings import ir
from ..errors import UnsupportedError

Array = NDArray[Any]

DYNAMIC = ir.ShapedType.get_dynamic_size()

# Signless integers are held signed; i1 is held as bool.
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "i1": np.bool_,
        "i8": np.int8,
        "i16": np.int16,
        "i32": np.int32,
        "i64": np.int64,
        "si8": np.int8,
        "si16": np.int16,
        "si32": np.int32,
        "si64": np.int64,
        "ui8": np.uint8,
        "ui16": np.uint16,
        "ui32": np.uint32,
        "ui64": np.uint64,
        "index": np.int64,
        "f16": np.float16,
        "f32": np.float32,
        "f64": np.float64,
        "complex<f32>": np.complex64,
        "complex<f64>": np.complex128,
        "bf16": ml_dtypes.bfloat16,
        "f8E4M3FN": ml_dtypes.float8_e4m3fn,
        "f8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "f8E5M2": ml_dtypes.float8_e5m2,
        "f8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
        "f8E8M0FNU": ml_dtypes.float8_e8m0fnu,
    }.items()
}


def dtype_of(type_: ir.Type) -> np.dtype[Any]:
    """The dtype of a scalar type or of a tensor's elements."""
    element = ir.ShapedType(type_).element_type if isinstance(type_, ir.ShapedType) else type_
    dtype = DTYPES.get(str(element))
    if dtype is None:
        raise UnsupportedError(
            "element-type", f"the reference interpreter has no values of type {element}"
        )
    return dtype


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a float, those of ml_dtypes included."""
    return dtype.kind not in "biu"


def signed(array: Array) -> Array:
    """The signed reading of a signless integer: i1 true is -1."""
    return np.negative(array.astype(np.int8)) if array.dtype.kind == "b" else array


def unsigned(array: Array) -> Array:
    """The unsigned reading of a signless integer: i1 true is 1."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array.view(f"u{array.dtype.itemsize}")


def signless(array: Array, dtype: np.dtype[Any]) -> Array:
    """An integer array of any width and sign, wrapped to the signless `dtype`."""
    if dtype.kind == "b":
        return (array & array.dtype.type(1)).astype(np.bool_)
    return array.astype(dtype)
