"""The report of a compilation: what became of each layer, and the totals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dialects.errors import UnsupportedError
from .cache_cost import CacheCost
from .options import CompileOptions
from .pack import Packed, Parameter
from .plan import LayerPlan, Plan
from .unquantized import nothing_quantized, reasons_of

OTHER = "other"
"""In the place of a layer's op: a weight that recipes do not reach."""


def summarize(
    model: str,
    options: CompileOptions,
    plan: Plan,
    parameters: Sequence[Parameter],
    packed: Mapping[str, Packed],
    unreached: Mapping[str, str],
) -> dict[str, Any]:
    """
    The fields of report_data.Report, without timings and golden errors.

    `unreached` says by symbol why weights that are no layer's keep the model's precision.
    """
    shapes = {parameter.symbol: parameter.shape for parameter in parameters}
    sizes = {symbol: result.bytes_before for symbol, result in packed.items()}
    own = {layer.weight for layer in plan.layers}
    others = {symbol: why for symbol, why in unreached.items() if symbol in packed.keys() - own}
    layers = [_layer(layer, shapes, packed) for layer in (*plan.layers, *_unreached(others))]
    warning = nothing_quantized(layers) if options.quantizes else ""
    return {
        "model": model,
        "target": options.target,
        "recipe": {"name": plan.recipe},
        "layers": layers,
        "coverage": plan.coverage(sizes, others),
        "bytes_before": sum(result.bytes_before for result in packed.values()),
        "bytes_after": sum(result.bytes_after for result in packed.values()),
        "warnings": [*([warning] if warning else []), *_nan_warnings(shapes, packed)],
    }


def _unreached(reasons: Mapping[str, str]) -> Iterator[LayerPlan]:
    """A row for each weight that is no layer's."""
    for symbol, reason in reasons.items():
        yield LayerPlan(symbol.removesuffix(".weight"), OTHER, symbol, reason=reason)


def _nan_warnings(
    shapes: Mapping[str, tuple[int, ...]], packed: Mapping[str, Packed]
) -> Iterator[str]:
    for symbol, result in packed.items():
        if result.nans:
            size = math.prod(shapes[symbol])
            yield f"the parameter '{symbol}' holds NaN ({result.nans} of {size} values)"


def _layer(
    layer: LayerPlan, shapes: Mapping[str, tuple[int, ...]], packed: Mapping[str, Packed]
) -> dict[str, Any]:
    weight = layer.weight if layer.weight in packed else None
    result = Packed(0, 0, None) if weight is None else packed[weight]
    return {
        "name": layer.name,
        "op": layer.op,
        "shape": [] if weight is None else list(shapes[weight]),
        "weights": None if layer.weights is None else layer.weights.spelling,
        "activations": None if layer.activations is None else layer.activations.spelling,
        "keys": None if layer.keys is None else layer.keys.spelling,
        "values": None if layer.values is None else layer.values.spelling,
        "rule": layer.rule,
        "reason": layer.reason,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "sqnr_db": result.sqnr_db,
        "view_sqnr_db": result.view_sqnr_db,
    }


def kv_cache(plan: Plan, caches: Sequence[CacheCost]) -> dict[str, Any]:
    """The fields of report_data.KvCache; `caches` are those of the plan's attention, in order."""
    attention = [layer for layer in plan.layers if layer.op == "attention"]
    return {
        "token_bytes": sum(cache.position_bytes for cache in caches),
        "token_bytes_fp32": sum(4 * cache.position_floats for cache in caches),
        "layers": [
            {
                "name": layer.name,
                "keys": cache.keys,
                "values": cache.values,
                "token_bytes": cache.position_bytes,
                "reason": "; ".join(_kept_in_fp32(layer, cache)),
            }
            for layer, cache in zip(attention, caches, strict=True)
        ],
    }


def _kept_in_fp32(layer: LayerPlan, cache: CacheCost) -> Iterator[str]:
    """Why rows for which the recipe has a format are kept as they are nevertheless."""
    if layer.reason:
        yield layer.reason
    planned = {"keys": (layer.keys, cache.keys), "values": (layer.values, cache.values)}
    for side, (fmt, kept) in planned.items():
        if fmt is not None and kept in (None, "fp16", "bf16") and kept != fmt.spelling:
            shared = (
                "its values' range is limited" if fmt.rows_independent else "rows share a scale"
            )
            yield f"{side} are rounded to {fmt.spelling} and kept in {kept or 'fp32'}: {shared}"


def check_coverage(report: Mapping[str, Any], required: float | None) -> None:
    """UnsupportedError when less than `required` of the weight bytes are quantized."""
    if required is None or report["coverage"] >= required:
        return
    raise UnsupportedError(
        "coverage",
        f"coverage is {report['coverage']:.1%}, below the required {required:.1%}",
        why=reasons_of(report["layers"]) or "the model has no layer with weights that qcc owns",
        next_step="see --print-resolved for each layer's reason, or lower --require-coverage",
    )
