"""Chunked accumulation of FP8 training: sums kept in a short float (formats.md 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .definition import Minifloat
from .minifloats import Floats, encode_magnitudes, minifloat_values
from .scratch import Scratch

FP16_169 = Minifloat(exponent=6, mantissa=9, specials="ieee", overflow="infinity")


def accumulate_chunked(
    products: ArrayLike, chunk: int = 64, accumulator: Minifloat = FP16_169
) -> NDArray[np.float32]:
    """
    Sum the last axis of `products` with every partial sum rounded to `accumulator`.

    Chunks of `chunk` products are summed from zero, and their sums into a total. Products are
    float32 [..., n]; two (1,5,2) operands multiply exactly in it. chunk=1, like chunk >= n, is
    plain accumulation.

    >>> ones = np.ones(4096, np.float32)
    >>> float(accumulate_chunked(ones, chunk=4096)), float(accumulate_chunked(ones))
    (1024.0, 4096.0)
    """
    if chunk < 1:
        raise ValueError("a chunk holds at least one product")
    terms = np.asarray(products, np.float32)
    total = np.zeros(terms.shape[:-1], np.float32)
    for start in range(0, terms.shape[-1], chunk):
        part = np.zeros_like(total)
        for index in range(start, min(start + chunk, terms.shape[-1])):
            part = round_to(accumulator, part + terms[..., index])
        total = round_to(accumulator, total + part)
    return total


def round_to(element: Minifloat, values: Floats) -> Floats:
    """The values rounded to a minifloat by its own rules; the sign of zero is kept."""
    magnitudes = np.atleast_1d(np.abs(values))
    codes = np.empty(magnitudes.shape, np.uint32)
    encode_magnitudes(element, magnitudes, codes, Scratch())
    rounded = minifloat_values(element)[codes].reshape(np.shape(values))
    return np.copysign(rounded, values)
