"""Index of the `qcc` dialect: its types and its ops, in the order a program meets them."""

from .attention import CACHED_OPERANDS, AttentionOp, cache_format, is_cached
from .contraction import Conv2dOp, EmbeddingOp, LinearOp, MatmulOp
from .dialect import PackedType, Qcc, format_of, format_spelling, is_packed, logical_type, packed
from .norm import LayerNormOp, RmsNormOp
from .storage import (
    INTEGERS,
    LAYOUT_ATTRIBUTE,
    PAIRED_PIXELS,
    PAIRS,
    PIXELS,
    TRANSPOSE,
    DequantizeOp,
    ParamOp,
    QuantizeOp,
    layout_of,
    quantized,
    rounding_of,
    tensor_range_of,
)

__all__ = [
    "CACHED_OPERANDS",
    "INTEGERS",
    "LAYOUT_ATTRIBUTE",
    "PAIRED_PIXELS",
    "PAIRS",
    "PIXELS",
    "TRANSPOSE",
    "AttentionOp",
    "Conv2dOp",
    "DequantizeOp",
    "EmbeddingOp",
    "LayerNormOp",
    "LinearOp",
    "MatmulOp",
    "PackedType",
    "ParamOp",
    "Qcc",
    "QuantizeOp",
    "RmsNormOp",
    "cache_format",
    "format_of",
    "format_spelling",
    "is_cached",
    "is_packed",
    "layout_of",
    "logical_type",
    "packed",
    "quantized",
    "rounding_of",
    "tensor_range_of",
]
