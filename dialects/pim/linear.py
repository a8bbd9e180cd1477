"""
Linear layers on DPUs: exact sums of integers there, scales on the host.

    y[t, n] = fp32(fp32(S[t, n]) · s_a[t]) · s_w[n] (+ bias[n]),   each step rounded to fp32
    S[t, n] = Σ_k (W(w[n, k]) - z_w[n]) · (A(a[t, k]) - z_a[t]), exact

Where one side has a scale for each group of inputs, sums stay apart for each part g of K:

    y[t, n] = fp32(Σ_g S_g[t, n] · s_w[n, g] · s_a[t, g]) (+ bias[n])     in fp64, g ascending

W, A are the integers of codes (CodeBook), z zero points. DPUs sum W · A; the parts with zero
points are sums of one side, taken on the host. Whoever sums integers, the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import QccError
from ..formats import Format, Range
from ..formats.decoding import row_codes
from ..formats.definition import Minifloat, Nested, Plane
from ..formats.scales import decode_scale
from .lookup_tables import CodeBook
from .schedule import Problem

Codes = NDArray[np.integer]
Sums = Callable[[Codes], NDArray[np.int64]]
"""
Σ_k W · A [tokens, n] of activation codes [tokens, k] and the weights of a layer; where parts of K
have scales of their own, [parts, tokens, n].
"""
EXACT = 1 << 24
"""Integers up to here are exact in float32."""


def refusal(fmt: Format, what: str) -> str | None:
    """Why products of a format's codes are no integers with scales outside of sums, or None."""
    if isinstance(fmt.element, Minifloat | Nested | Plane) and fmt.bits > 8:
        return f"{what} in {fmt.spelling} are no codes of at most 8 bits"
    try:
        CodeBook.of(fmt)
    except QccError as error:
        return f"{what}: {error.what}"
    if len(fmt.block_scales) > 1:
        return f"{what} in {fmt.spelling} have a scale for each sign"
    if any(scale.rule == "inverse" for scale in fmt.block_scales):
        return f"{what} in {fmt.spelling} are divided by their scale"
    if fmt.zero_point is not None and not fmt.zero_point_codes().all():
        return f"{what} in {fmt.spelling} have codes without zero point; use symmetric=true"
    return None


@dataclass(frozen=True)
class HeldWeights:
    """
    The weights of a layer, unpacked once: codes [n, k], Σ_k W [parts, n], and of each row, or of
    all, [n or 1, parts or 1] zero points in the book's units and factors of a unit.
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
        return Problem(self.n, self.k, tokens, books[0].values, books[1].values, self.group)

    @cached_property
    def group(self) -> int:
        """Inputs whose products have the same scales; 0 where all have."""
        sizes = [each.block_size for each in (self.weight, self.activation)]
        found = gcd(*(size for size in sizes if isinstance(size, int)))
        return found if found < self.k else 0

    @property
    def ends(self) -> list[int]:
        """Where parts of K end whose sums stay apart."""
        step = self.group or self.k
        return [*range(step, self.k, step), self.k]

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
        sums = self._by_part(np.take(values, codes))
        return HeldWeights(codes, sums, zero, factors(self.weight, parts))

    def _by_part(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """[parts, rows] sums of values [rows, k]."""
        starts = [0, *self.ends[:-1]]
        return np.add.reduceat(values, starts, axis=1, dtype=np.int64).T

    def __call__(
        self,
        source: NDArray[np.float32],
        weights: HeldWeights,
        bias: NDArray[np.float32] | None = None,
        sums: Sums | None = None,
    ) -> NDArray[np.float32]:
        """
        The result [..., n] of inputs [..., k]; without `sums`, NumPy adds.

        An input that holds a NaN or an infinity has no codes: its result is NaN.
        """
        codes, given, lost = self.rounded(source)
        total = sums(codes) if sums else self.exact_sums(weights.codes, codes)
        total = total + self.zero_parts(weights, codes, given)
        if self.group:
            result = self._joined(total, weights, factors(self.activation, given))
        else:
            result = total[0].astype(np.float32) * factors(self.activation, given)
            result = result * weights.factors.T
        result = result if bias is None else result + bias
        result[lost] = np.nan
        return result.reshape(*source.shape[:-1], self.n)

    def rounded(
        self, source: NDArray[np.float32]
    ) -> tuple[Codes, Mapping[str, NDArray[Any]], NDArray[np.bool_]]:
        """Codes [tokens, k] of inputs [..., k], their scales, and which tokens have no codes."""
        rows = np.ascontiguousarray(source.reshape(-1, self.k), np.float32)
        lost: NDArray[np.bool_] = np.any(~np.isfinite(rows), axis=1)
        rows = np.where(lost[:, None], np.float32(0), rows) if lost.any() else rows
        given = self.activation.encode_rows(rows, self.tensor_range)
        return row_codes(self.activation, given, self.k), given, lost

    def _joined(
        self, apart: NDArray[np.int64], weights: HeldWeights, inputs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Sums [parts, tokens, n] times the factors of their parts, one part after another."""
        result = np.zeros(apart.shape[1:])
        for part, total in enumerate(apart):
            ours = self._column(weights.factors, self.weight, part)
            theirs = self._column(inputs, self.activation, part)
            result += total * ours.T.astype(np.float64) * theirs
        return result.astype(np.float32)

    def _column(self, numbers: NDArray[Any], fmt: Format, part: int) -> NDArray[Any]:
        """[rows or 1, 1]: of numbers [rows or 1, blocks or 1], those of the block of a part."""
        if numbers.shape[1] == 1 or not isinstance(fmt.block_size, int):
            return numbers
        block = part * self.group // fmt.block_size
        return numbers[:, block : block + 1]

    def exact_sums(self, w: Codes, a: Codes) -> NDArray[np.int64]:
        """
        What DPUs compute, [parts, tokens, n]; no sum of floats leaves the integers that are exact
        in them.
        """
        largest = prod(max(map(abs, book.values)) for book in self.books)
        small = (self.group or self.k) * largest < EXACT
        books = [np.array(book.values, np.float32 if small else np.float64) for book in self.books]
        weights, activations = np.take(books[0], w), np.take(books[1], a)
        starts = [0, *self.ends[:-1]]
        return np.stack([
            (activations[:, start:end] @ weights[:, start:end].T).astype(np.int64)
            for start, end in zip(starts, self.ends, strict=True)
        ])  # fmt: skip

    def zero_parts(
        self, weights: HeldWeights, a: Codes, given: Mapping[str, Any]
    ) -> NDArray[np.int64]:
        """- z_w Σ A - z_a Σ W + k z_a z_w of each part, in the units of the books."""
        zeros_a = zero_points(self.activation, given) * self.books[1].scale
        if not (weights.zero.any() or zeros_a.any()):
            return np.zeros((1, 1, 1), np.int64)
        values, found = np.array(self.books[1].values, np.int64), []
        sums_a = self._by_part(np.take(values, a))
        for part, count in enumerate(np.diff(self.ends, prepend=0)):
            zero_a = self._column(zeros_a, self.activation, part)
            zero_w = self._column(weights.zero, self.weight, part).T
            sum_a, sum_w = sums_a[part][:, None], weights.sums[part][None]
            found.append(count * zero_a * zero_w - sum_a * zero_w - zero_a * sum_w)
        return np.stack(found)


def zero_points(fmt: Format, parts: Mapping[str, Any]) -> NDArray[np.int64]:
    """[rows or 1, blocks or 1]."""
    if fmt.zero_point is None:
        return np.zeros((1, 1), np.int64)
    return np.atleast_2d(parts["zero_point"]).astype(np.int64)


def factors(fmt: Format, parts: Mapping[str, Any]) -> NDArray[np.float32]:
    """[rows or 1, blocks or 1]: the scale of a book's unit, 1 where a format has none."""
    factor = np.ones((1, 1), np.float32)
    if fmt.block_scales:
        (scale,) = fmt.block_scales
        factor = decode_scale(scale.type, np.atleast_2d(parts[scale.role]))
    if fmt.second_level is not None:
        factor = factor * parts[fmt.second_level.role].reshape(())
    return factor * np.float32(1 / CodeBook.of(fmt).scale)
