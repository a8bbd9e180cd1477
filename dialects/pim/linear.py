"""
Linear layers on DPUs: exact sums of integers there, scales on the host.

    y[t, n] = fp32(fp32(S[t, n]) · s_a[t]) · s_w[n] (+ bias[n]),   each step rounded to fp32
    S[t, n] = Σ_k (W(w[n, k]) - z_w[n]) · (A(a[t, k]) - z_a[t]), exact

W, A are the integers of codes (CodeBook), z zero points. DPUs sum W · A; the parts with zero
points are sums of one side, taken on the host. Whoever sums integers, the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import QccError
from ..formats import Format, Range
from ..formats.decoding import row_codes
from ..formats.definition import Minifloat, Nested, Plane
from .lookup_tables import CodeBook
from .schedule import Problem

Codes = NDArray[np.integer]
Sums = Callable[[Codes], NDArray[np.int64]]
"""Σ_k W · A [tokens, n] of activation codes [tokens, k] and the weights of a layer."""
EXACT = 1 << 24
"""Integers up to here are exact in float32."""


def refusal(fmt: Format, what: str) -> str | None:
    """Why products of a format's codes are no integers with scales outside the sum, or None."""
    if isinstance(fmt.element, Minifloat | Nested | Plane) and fmt.bits > 8:
        return f"{what} in {fmt.spelling} are no codes of at most 8 bits"
    try:
        CodeBook.of(fmt)
    except QccError as error:
        return f"{what}: {error.what}"
    if isinstance(fmt.block_size, int):
        return f"{what} in {fmt.spelling} have a scale for every {fmt.block_size} values, and " \
            "DPUs, which have no floats, sum whole rows; use group=channel"  # fmt: skip
    if fmt.second_level is not None or len(fmt.block_scales) > 1:
        return f"{what} in {fmt.spelling} have more than one scale"
    if any(scale.rule == "inverse" or scale.type != "fp32" for scale in fmt.block_scales):
        return f"{what} in {fmt.spelling} have no fp32 factor as their scale"
    if fmt.zero_point is not None and not fmt.zero_point_codes().all():
        return f"{what} in {fmt.spelling} have codes without zero point; use symmetric=true"
    return None


@dataclass(frozen=True)
class HeldWeights:
    """
    The weights of a layer, unpacked once: codes [n, k], Σ_k W [n], and of each row, or of all, the
    zero point in the book's units and the factor of a unit.
    """

    codes: Codes
    sums: NDArray[np.int64]
    zero: NDArray[np.int64]
    factors: NDArray[np.float32]


@dataclass(frozen=True)
class IntegerLinear:
    """A layer of [n, k] weights in `weight`, of inputs rounded to `activation`."""

    n: int
    k: int
    weight: Format
    activation: Format
    tensor_range: Range | None = None

    def problem(self, tokens: int) -> Problem:
        books = self.books
        return Problem(self.n, self.k, tokens, books[0].values, books[1].values)

    @cached_property
    def books(self) -> tuple[CodeBook, CodeBook]:
        return CodeBook.of(self.weight), CodeBook.of(self.activation)

    @property
    def scales_tensors(self) -> bool:
        """Whether an input's scale depends on all tokens of a call."""
        return self.tensor_range is None and self.activation.takes_range

    def held(self, parts: Mapping[str, NDArray[Any]]) -> HeldWeights:
        """The stored parts of the weight as every call wants them."""
        codes = row_codes(self.weight, dict(parts), self.k)
        values = np.array(self.books[0].values, np.int16)
        zero = zero_points(self.weight, parts) * self.books[0].scale
        sums = np.take(values, codes).sum(axis=1, dtype=np.int64)
        return HeldWeights(codes, sums, zero, factors(self.weight, parts))

    def __call__(
        self,
        source: NDArray[np.float32],
        weights: HeldWeights,
        bias: NDArray[np.float32] | None = None,
        sums: Sums | None = None,
    ) -> NDArray[np.float32]:
        """The result [..., n] of inputs [..., k]; without `sums`, NumPy adds."""
        rows = np.ascontiguousarray(source.reshape(-1, self.k), np.float32)
        given = self.activation.encode_rows(rows, self.tensor_range)
        codes = row_codes(self.activation, given, self.k)
        total = sums(codes) if sums else self.exact_sums(weights.codes, codes)
        total = total + self.zero_parts(weights, codes, given)
        result = total.astype(np.float32) * factors(self.activation, given)
        result = result * weights.factors.T
        result = result if bias is None else result + bias
        return result.reshape(*source.shape[:-1], self.n)

    def exact_sums(self, w: Codes, a: Codes) -> NDArray[np.int64]:
        """What DPUs compute; no sum of floats leaves the integers that are exact in them."""
        small = self.k * prod(max(map(abs, book.values)) for book in self.books) < EXACT
        books = [np.array(book.values, np.float32 if small else np.float64) for book in self.books]
        weights, activations = np.take(books[0], w), np.take(books[1], a)
        return (activations @ weights.T).astype(np.int64)

    def zero_parts(
        self, weights: HeldWeights, a: Codes, given: Mapping[str, Any]
    ) -> NDArray[np.int64]:
        """- z_w Σ A - z_a Σ W + k z_a z_w, in the units of the books."""
        zero_a = zero_points(self.activation, given) * self.books[1].scale
        if not (weights.zero.any() or zero_a.any()):
            return np.zeros((1, 1), np.int64)
        values = np.array(self.books[1].values, np.int64)
        sum_a = np.take(values, a).sum(axis=1)[:, None]
        zero_w = weights.zero.T
        return self.k * zero_a * zero_w - sum_a * zero_w - zero_a * weights.sums[None]


def zero_points(fmt: Format, parts: Mapping[str, Any]) -> NDArray[np.int64]:
    """[rows or 1, 1]."""
    if fmt.zero_point is None:
        return np.zeros((1, 1), np.int64)
    return parts["zero_point"].reshape(-1, 1).astype(np.int64)


def factors(fmt: Format, parts: Mapping[str, Any]) -> NDArray[np.float32]:
    """[rows or 1, 1]: the scale of a book's unit, 1 where a format has none."""
    unit = np.float32(1 / CodeBook.of(fmt).scale)
    if not fmt.block_scales:
        return np.full((1, 1), unit, np.float32)
    return parts[fmt.block_scales[0].role].reshape(-1, 1).astype(np.float32) * unit
