"""
The NumPy meaning of each `qcc` op: functions on arrays, and a table from op name to meaning.

A packed value is the float32 array that it decodes to. Sums are float32 in NumPy's or BLAS's
order, which the ops leave open.
"""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..bindings import ir
from ..errors import UsageError
from ..formats import Range, parse_spelling
from .attention import CACHED_OPERANDS, cache_format
from .dialect import format_spelling
from .storage import tensor_range_of

Array = NDArray[Any]
Floats = NDArray[np.float32]
Caches = MutableMapping[str, tuple[Array, Array]]

WINDOW_BYTES = 1 << 26  # of convolution windows laid out at a time


@dataclass(frozen=True, slots=True)
class Model:
    """
    What an op may read beside its operands: parameters by name, attention caches by name.

    The fp32 errors of sums count `error_factor` times: 1 is the plain meaning, more shows what
    errors of that size do to a program. Then those of attention count `attention_factor` times
    more: a machine may multiply its weights in half precision.
    """

    params: Callable[[str], Array]
    caches: Caches
    error_factor: float = 1.0
    attention_factor: float = 1.0

    def summed(
        self, meaning: Callable[..., Array], *operands: Array | None, **options: Any
    ) -> Array:
        result = meaning(*operands, **options)
        if self.error_factor == 1:
            return result
        doubles = [None if each is None else each.astype(np.float64) for each in operands]
        wide = meaning(*doubles, **options)
        factor = self.error_factor * (self.attention_factor if meaning is attention else 1.0)
        return (wide + factor * (result - wide)).astype(result.dtype)


Meaning = Callable[[Any, Sequence[Array], Model], Array]


def round_trip(values: Array, spelling: str, tensor_range: Range | None = None) -> Floats:
    """
    What is left of the values after quantization, blocks along the last axis.

    What is not finite becomes NaN, and counts as zero for the scales of the others.
    """
    fmt, finite = parse_spelling(spelling), np.isfinite(values)
    known = values if finite.all() else np.where(finite, values, 0)
    rounded = fmt.quantize(known, axis=-1, tensor_range=tensor_range).dequantize()
    return np.where(finite, rounded, np.float32(np.nan)) if known is not values else rounded


def linear(source: Array, weight: Array, bias: Array | None = None) -> Array:
    """source [..., K], weight [N, K], bias [N] → [..., N]."""
    result = np.matmul(source, weight.T)
    return result if bias is None else result + bias


def conv2d(
    source: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Array:
    """source [N, C, H, W], weight [O, C/groups, kh, kw], bias [O] → [N, O, H', W']."""
    margins = [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2]
    padded = np.pad(source, margins)
    spans = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilation, strict=True)]
    windows = sliding_window_view(padded, spans, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    batch, _, height, width = windows.shape[:4]
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    result = np.empty((batch, weight.shape[0], height, width), source.dtype)
    row_bytes = windows[0, :, 0].size * source.itemsize if height and batch else 1
    rows = max(1, WINDOW_BYTES // max(1, row_bytes))
    for image in range(batch):
        for top in range(0, height, rows):
            part = windows[image, :, top : top + rows]
            count = part.shape[1] * width
            columns = part.transpose(0, 3, 4, 1, 2).reshape(groups, -1, count)
            block = np.matmul(kernels, columns).reshape(-1, part.shape[1], width)
            result[image, :, top : top + rows] = block
    return result if bias is None else result + bias[:, None, None]


def softmax(scores: Array) -> Array:
    """Over the last axis; a row that is masked throughout (all -inf) gives zeros."""
    highest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = np.exp(scores - np.where(np.isneginf(highest), np.float32(0), highest))
    total = powers.sum(axis=-1, keepdims=True)
    return powers / np.where(total == 0, np.float32(1), total)


def attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    *,
    scale: float,
    causal: bool = False,
    past: int = 0,
) -> Array:
    """
    query [B, H, T, D], key [B, G, S, D], value [B, G, S, E], mask to [B, H, T, S] → [B, H, T, E].

    With `causal`, query t sees keys up to t + past. One key head at a time, to bound memory.
    """
    batch, heads, length, _ = query.shape
    shared = heads // key.shape[1]
    seen = np.arange(key.shape[2]) <= np.arange(length)[:, None] + past
    kind = np.result_type(query, np.float32)
    result = np.empty((batch, heads, length, value.shape[3]), kind)
    everywhere = (batch, heads, length, key.shape[2])
    masks = None if mask is None else np.broadcast_to(mask, everywhere)
    for head in range(key.shape[1]):
        span = slice(head * shared, (head + 1) * shared)
        scores = np.matmul(query[:, span], key[:, head : head + 1].swapaxes(2, 3))
        scores = scores.astype(kind) * np.float32(scale)
        if masks is not None:
            scores = scores + masks[:, span]
        if causal:
            scores = np.where(seen, scores, np.float32(-np.inf))
        result[:, span] = np.matmul(softmax(scores), value[:, head : head + 1])
    return result


def extended_cache(
    caches: Caches, name: str, past: int, key: Array, value: Array
) -> tuple[Array, Array]:
    """
    The first `past` cached keys and values with those of this call behind them, stored back.

    Raises UsageError where the cache holds fewer.
    """
    if past:
        held = caches[name][0].shape[2] if name in caches else 0
        if held < past:
            raise UsageError(
                "cache-short",
                f"attention cache {name!r} holds {held} positions, {past} are asked for",
                next_step="run the earlier positions first, or start again at 0",
            )
        keys, values = caches[name]
        key = np.concatenate([keys[:, :, :past], key], axis=2)
        value = np.concatenate([values[:, :, :past], value], axis=2)
    caches[name] = key, value
    return key, value


def layer_norm(
    source: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float,
    axes: int = 1,
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * weight + bias over `axes` axes, in float32 at least."""
    over = tuple(range(-axes, 0))
    values = source.astype(np.result_type(source, np.float32))
    centred = values - values.mean(axis=over, keepdims=True)
    variance = np.square(centred).mean(axis=over, keepdims=True)
    return scaled(centred / np.sqrt(variance + np.float32(epsilon)), weight, bias, source)


def rms_norm(source: Array, weight: Array | None = None, *, epsilon: float, axes: int = 1) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last `axes` axes, in float32 at least."""
    over = tuple(range(-axes, 0))
    values = source.astype(np.result_type(source, np.float32))
    mean = np.square(values).mean(axis=over, keepdims=True)
    return scaled(values / np.sqrt(mean + np.float32(epsilon)), weight, None, source)


def scaled(values: Array, weight: Array | None, bias: Array | None, source: Array) -> Array:
    if weight is not None:
        values = values * weight
    if bias is not None:
        values = values + bias
    return values.astype(source.dtype, copy=False)


def embedding(table: Array, indices: Array) -> Array:
    """table [V, D], integer indices [...] → [..., D]; raises UsageError on an index outside."""
    if indices.size and (indices.min() < 0 or indices.max() >= len(table)):
        raise UsageError(
            "index-range",
            f"an index {indices.min()}…{indices.max()} into an embedding of {len(table)} rows",
            next_step="check the token ids given to the model",
        )
    return table[indices]


def optional_operands(op: Any, operands: Sequence[Array]) -> list[Array | None]:
    """One array or None for each operand that the op declares."""
    sizes = ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"])
    given = iter(operands)
    return [next(given) if size else None for size in sizes]


def integers(attribute: ir.Attribute) -> list[int]:
    """The values of an i64 array, in either spelling of the attribute."""
    return [int(item) for item in attribute]  # type: ignore[attr-defined]


def param_meaning(op: Any, _operands: Sequence[Array], model: Model) -> Array:
    return model.params(ir.StringAttr(op.attributes["symbol"]).value)


def quantize_meaning(op: Any, operands: Sequence[Array], _model: Model) -> Array:
    spelling = format_spelling(op.results[0].type)
    if spelling is None:
        return operands[0]
    return round_trip(operands[0], spelling, tensor_range_of(op))


def dequantize_meaning(_op: Any, operands: Sequence[Array], _model: Model) -> Array:
    return operands[0]


def linear_meaning(op: Any, operands: Sequence[Array], model: Model) -> Array:
    return model.summed(linear, *operands)


def matmul_meaning(_op: Any, operands: Sequence[Array], model: Model) -> Array:
    """lhs [B, M, K], rhs [B, K, N] → [B, M, N]."""
    return model.summed(np.matmul, *operands)


def conv2d_meaning(op: Any, operands: Sequence[Array], model: Model) -> Array:
    return model.summed(
        conv2d,
        *operands,
        stride=integers(op.attributes["stride"]),
        padding=integers(op.attributes["padding"]),
        dilation=integers(op.attributes["dilation"]),
        groups=ir.IntegerAttr(op.attributes["groups"]).value,
    )


def attention_meaning(op: Any, operands: Sequence[Array], model: Model) -> Array:
    query, key, value = operands[:3]
    mask, past = optional_operands(op, operands)[3:]
    earlier = 0
    if past is not None:
        earlier = int(past)
        cache = ir.StringAttr(op.attributes["cache"]).value
        key, value = (_stored(op, name, operands) for name in CACHED_OPERANDS)
        key, value = extended_cache(model.caches, cache, earlier, key, value)
    return model.summed(
        attention,
        query,
        key,
        value,
        mask,
        scale=ir.FloatAttr(op.attributes["scale"]).value,
        causal=ir.BoolAttr(op.attributes["causal"]).value,
        past=earlier,
    )


def _stored(op: Any, attribute: str, operands: Sequence[Array]) -> Array:
    """The rows of a key or value operand as a cache of its format gives them back."""
    rows, spelling = operands[CACHED_OPERANDS[attribute]], cache_format(op, attribute)
    return rows if spelling is None else round_trip(rows, spelling)


def layer_norm_meaning(op: Any, operands: Sequence[Array], model: Model) -> Array:
    return model.summed(layer_norm, *optional_operands(op, operands), **norm_options(op))


def rms_norm_meaning(op: Any, operands: Sequence[Array], model: Model) -> Array:
    return model.summed(rms_norm, *operands, **norm_options(op))


def norm_options(op: Any) -> dict[str, Any]:
    return {
        "epsilon": ir.FloatAttr(op.attributes["epsilon"]).value,
        "axes": ir.IntegerAttr(op.attributes["axes"]).value,
    }


def embedding_meaning(_op: Any, operands: Sequence[Array], _model: Model) -> Array:
    return embedding(operands[0], operands[1])


MEANINGS: dict[str, Meaning] = {
    "qcc.param": param_meaning,
    "qcc.quantize": quantize_meaning,
    "qcc.dequantize": dequantize_meaning,
    "qcc.linear": linear_meaning,
    "qcc.matmul": matmul_meaning,
    "qcc.conv2d": conv2d_meaning,
    "qcc.attention": attention_meaning,
    "qcc.layer_norm": layer_norm_meaning,
    "qcc.rms_norm": rms_norm_meaning,
    "qcc.embedding": embedding_meaning,
}
