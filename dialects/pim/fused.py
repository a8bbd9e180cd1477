"""
A function of a linear layer's results, in the layer's own kernel: no launch and no transfer more.

    u = S[t, n] · s_a[t] · s_w[n] + bias[n], in steps of the function's table    y = table[u]

S is the exact sum. It and both factors are halfwords with an exponent: m of S, w of a row, a of a
token, each of 14 bits, so that DPUs take

    r = (m · w >> 14) · a,   u = r >> shift,   each rounded; beyond the table x itself, or its end

in 32 bits: r below 2^28, so |x| below 2^28 steps. Tokens whose factor could make it larger are the
host's, and all where the factor of a row is below 0. `factors` of a row, and those of tokens, are
words of the halfword and an exponent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cost import Cost, moving_cost
from .device import Device
from .dialect import ELEMENT_BYTES
from .footprint import arrays, padded, sizes_of
from .function_forms import evaluated, joined_tables
from .layout import constant_arrays, input_arrays, matrix_of
from .linear import HeldWeights, IntegerLinear, factors
from .row_functions import highest_bit, rounded
from .schedule import Share
from .smooth import Elementwise

Array = NDArray[np.generic]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Words = NDArray[np.uint32]
Codes = NDArray[np.integer]
Evaluation = Callable[[Codes, Words], Integers]
"""Results [tokens, n] of activation codes [tokens, k] and words of tokens [tokens]."""
BITS = 14
EXPONENT = 512
"""What exponents in words are added to, so that they are positive."""
MIDDLE = 1 << 30
"""What u is added to, so that it is positive."""
MOST = 1 << 28
LAST = (1 << 15) - 1
"""The last input of a table."""
RELATIVE = 5 * 2.0**-BITS
"""The largest relative error of S · s_a · s_w: four halfwords rounded, one of them at 13 bits."""


def words_of(numbers: NDArray[np.floating]) -> Words:
    """Numbers as 14 bits and an exponent, mantissa + 2^16 · (exponent + EXPONENT); others as 0."""
    mantissa, exponent = np.frexp(np.where(are_words(numbers), numbers, 0).astype(np.float64))
    word = np.rint(mantissa * 2**BITS).astype(np.int64)
    return (word + ((exponent.astype(np.int64) - BITS + EXPONENT) << 16)).astype(np.uint32)


def are_words(numbers: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether numbers are none below 0, and finite."""
    return np.isfinite(numbers) & (numbers >= 0)


@dataclass(frozen=True)
class FusedFunction:
    """The function `name` by a form whose table begins at low and has a unit of half a step."""

    name: str
    form: Elementwise

    @property
    def grows(self) -> bool:
        """Whether it is x beyond its table."""
        return self.form.tail == "relu"

    def row_words(self, factors: Floats, bias: Floats | None) -> Words:
        """[n, 2]: factors, and biases as they are added to u."""
        table = self.form.table
        given = np.zeros(len(factors)) if bias is None else bias.astype(np.float64)
        steps = np.clip(np.rint((given - table.low) / table.step), -MOST, MOST)
        return np.stack([words_of(factors), (steps + MIDDLE).astype(np.uint32)], axis=1)

    def token_words(self, factors: Floats) -> Words:
        return words_of(factors / self.form.table.step)

    def fits(self, tokens: Words, rows: Words, largest: int) -> NDArray[np.bool_]:
        """Of tokens whether sums up to `largest` stay below 2^28 steps."""
        exponents = tokens.astype(np.int64) >> 16
        most = (rows[:, 0].astype(np.int64) >> 16).max()
        return exponents + most - 2 * EXPONENT <= -largest.bit_length()

    def __call__(self, sums: Integers, tokens: Words, rows: Words) -> Integers:
        """[tokens, n], in units of the table."""
        a, row = tokens.astype(np.int64)[:, None], rows.astype(np.int64)
        zeros = 31 - highest_bit((sums ^ (sums >> 63)) | 1)
        m = ((sums << (zeros - 2)) + (1 << 15)) >> 16
        q = (m * (row[:, 0] & 0xFFFF) + (1 << (BITS - 1))) >> BITS
        shift = zeros - 32 + 2 * EXPONENT - (a >> 16) - (row[:, 0] >> 16)
        u = rounded(q * (a & 0xFFFF), np.clip(shift, 0, 31)) + row[:, 1]
        inside = np.clip(u, MIDDLE, MIDDLE + LAST)
        found = self.form.table(inside - MIDDLE).astype(np.int64)
        return found + (2 * (np.maximum(u, MIDDLE + LAST) - MIDDLE - LAST) if self.grows else 0)


@dataclass(frozen=True)
class FusedLinear:
    """A layer and its function: what a call of both gives."""

    linear: IntegerLinear
    function: FusedFunction

    def __call__(
        self, source: Floats, weights: HeldWeights, bias: Floats | None, evaluate: Evaluation | None
    ) -> Floats:
        """The result [..., n] of inputs [..., k]; without `evaluate`, NumPy is the DPUs."""
        linear, function = self.linear, self.function
        codes, given, lost = linear.rounded(source)
        rows = self.row_words(weights, bias)
        scales = np.broadcast_to(factors(linear.activation, given)[:, 0], len(codes))
        tokens = function.token_words(scales)
        fits = function.fits(tokens, rows, self.largest) & are_words(scales)
        fits &= are_words(weights.factors).all() and self._adds(bias)
        tokens = np.where(fits, tokens, np.uint32(0))
        if evaluate is None:
            found = function(linear.exact_sums(weights.codes, codes)[0], tokens, rows)
        else:
            found = evaluate(codes, tokens)
        result = (found * function.form.table.unit).astype(np.float32)
        if not fits.all():
            given_rows = source.reshape(-1, linear.k)[~fits]
            result[~fits] = evaluated(function.form, linear(given_rows, weights, bias))
        result[lost] = np.nan
        return result.reshape(*source.shape[:-1], linear.n)

    def row_words(self, weights: HeldWeights, bias: Floats | None) -> Words:
        scales = np.broadcast_to(weights.factors[:, 0], self.linear.n)
        return self.function.row_words(scales, bias)

    def _adds(self, bias: Floats | None) -> bool:
        """Whether biases are less than 2^28 steps."""
        return bias is None or bool((abs(bias) < MOST * self.function.form.table.step).all())

    @property
    def largest(self) -> int:
        """The largest sum that there can be."""
        left, right = (max(map(abs, book.values)) for book in self.linear.books)
        return self.linear.k * left * right


# ---- arrays of a kernel


def fused_arrays(share: Share, function: FusedFunction) -> dict[str, tuple[tuple[int, ...], str]]:
    """As footprint.arrays, of a layer with a function: `sums` stay on the DPU."""
    made = arrays(share)
    shape, element = made.pop("results")
    units, rows, words = result_shape(share)
    tokens = words * lanes_of(share)
    base, slope = joined_tables(function.form)
    return made | {
        "factors": ((rows, 2), "ui32"), "token_factors": ((units, padded(tokens, 4)), "ui32"),
        "base": ((len(base),), "si16"), "slope": ((len(slope),), "si8"),
        "sums": (shape, element), "results": ((units, rows, tokens), "si32"),
    }  # fmt: skip


def fused_sizes(share: Share, function: FusedFunction) -> dict[str, int]:
    """Bytes of each array of one DPU."""
    return sizes_of(fused_arrays(share, function))


def fused_cost(share: Share, function: FusedFunction, device: Device, cycles: float) -> Cost:
    """The cost of a call whose kernel takes `cycles`, function and all."""
    sizes, dpus = fused_sizes(share, function), share.schedule.dpus
    inputs = sum(sizes.get(name, 0) for name in ("inputs", "places", "token_factors"))
    tables = sum(sizes.get(name, 0) for name in ("table", "reorder", "base", "slope"))
    held = (sizes["weights"] + sizes["factors"]) * dpus
    return moving_cost(device, dpus, inputs, sizes["results"], cycles, held, tables)


def result_shape(share: Share) -> tuple[int, int, int]:
    """Sums of a DPU as they lie: tiles of tokens, rows, words of a row."""
    shape, _ = arrays(share)["results"]
    units, rows, *words = shape
    return units, rows, words[0] if words else 1


def lanes_of(share: Share) -> int:
    """Sums in a word."""
    return 2 if share.accumulator == "ui32" else 1


def fused_evaluation(
    share: Share,
    fused: FusedLinear,
    run: Callable[[Mapping[str, Array]], object],
    weights: HeldWeights,
    rows: Words,
) -> Evaluation:
    """What launches of a kernel make of codes; see execute.kernel_sums."""
    constants = fused_constants(share, fused, weights, rows)

    def evaluate(codes: Codes, tokens: Words) -> Integers:
        at_once, parts = share.problem.tokens, [np.zeros((0, share.problem.rows), np.int64)]
        for start in range(0, len(codes), at_once):
            given = codes[start : start + at_once]
            filled = np.zeros((at_once, share.problem.k), codes.dtype)
            filled[: len(given)] = given
            words = np.zeros(at_once, np.uint32)
            words[: len(given)] = tokens[start : start + at_once]
            moved = fused_moved(share, fused.function, filled, words)
            run(constants | moved)
            tiles = moved["results"].astype(np.int64).swapaxes(2, 3)
            by_token = tiles.reshape(share.schedule.dpus, 1, share.tokens, -1)
            parts.append(matrix_of(share, by_token)[0][: len(given)])
        return np.concatenate(parts)

    return evaluate


def fused_constants(
    share: Share, fused: FusedLinear, weights: HeldWeights, rows: Words
) -> dict[str, Array]:
    """What stays in MRAM: weights, factors and tables."""
    s, (_, extent, _) = share.schedule, result_shape(share)
    each = -(-share.problem.rows // s.row_parts)
    filled = np.zeros((s.row_parts, extent, 2), np.uint32)
    for part in range(s.row_parts):
        own = rows[part * each : (part + 1) * each]
        filled[part, : len(own)] = own
    tables = dict(zip(("base", "slope"), joined_tables(fused.function.form), strict=True))
    return (
        constant_arrays(share, weights.codes)
        | {"factors": np.repeat(filled, s.token_parts, axis=0)}
        | {name: np.broadcast_to(table, (s.dpus, len(table))) for name, table in tables.items()}
    )


def fused_moved(
    share: Share, function: FusedFunction, codes: Codes, tokens: Words
) -> dict[str, Array]:
    """What a call moves, and room for what it makes."""
    s, made = share.schedule, dict[str, Array]()
    for name, array in input_arrays(share, codes).items():
        copies = np.repeat(array[:, None], s.row_parts, axis=1)
        made[name] = copies.reshape(s.dpus, *array.shape[2:])
    shapes = fused_arrays(share, function)
    units, width = shapes["token_factors"][0]
    each, tile = -(-share.problem.tokens // s.token_parts), share.tokens // units
    dealt = np.zeros((s.token_parts, share.tokens), np.uint32)
    for part in range(s.token_parts):
        own = tokens[part * each : (part + 1) * each]
        dealt[part, : len(own)] = own
    words = np.zeros((s.token_parts, units, width), np.uint32)
    words[..., :tile] = dealt.reshape(s.token_parts, units, tile)
    made["token_factors"] = np.tile(words, (s.row_parts, 1, 1))
    kinds = {1: np.int8, 2: np.int16, 4: np.int32}
    shape, element = shapes["sums"]
    sums = np.zeros((s.dpus, *shape), kinds[ELEMENT_BYTES[element]])
    made["sums"] = sums.view(np.uint32) if element == "ui32" else sums
    return made | {"results": np.zeros((s.dpus, *shapes["results"][0]), np.int32)}
