"""What the KV cache of an attention layer costs, for reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codegen.cuda.plan import Function
from ..codegen.cuda.program import CudaCode
from .element_types import numpy_dtype

if TYPE_CHECKING:
    from ..dialects.bindings import ir

_POSITIONS = 1 << 16  # far beyond what rows are padded to


@dataclass(frozen=True, slots=True)
class CacheCost:
    """
    Of one position of one sequence: bytes, and how many numbers they stand for. `keys` and `values`
    are formats, None for fp32.
    """

    keys: str | None
    values: str | None
    position_bytes: int
    position_floats: int


def cuda_cache_costs(code: CudaCode, module: ir.Module) -> list[CacheCost]:
    """Those of the step of a program for a GPU, in the order of its attention."""
    # Reports are made where programs are compiled, so MLIR is there.
    from ..dialects import qcc
    from ..dialects.regions import walk
    from .layers import entry_function

    step = code.plan.functions["step"]
    ops = walk(entry_function(module, "step"))
    return [_cost(op, step) for op in ops if isinstance(op, qcc.AttentionOp) and qcc.is_cached(op)]


def _cost(op: Any, step: Function) -> CacheCost:
    from ..dialects import qcc

    _, heads, _, depth = qcc.logical_type(op.key.type).shape
    width = qcc.logical_type(op.value.type).shape[3]
    stem = f"{op.cache.value}."
    few, many = (_bytes(step, stem, capacity) for capacity in (_POSITIONS, 2 * _POSITIONS))
    half = _half(step, stem)
    return CacheCost(
        qcc.cache_format(op, "key_format") or half,
        qcc.cache_format(op, "value_format") or half,
        round((many - few) / _POSITIONS),
        heads * (depth + width),
    )


def _bytes(step: Function, stem: str, capacity: int) -> int:
    """Of all the memory of a cache, for one sequence and so many positions."""
    sizes = step.evaluated([(1, 1), ()], dict.fromkeys(step.scalars(), 0), capacity)
    total = 0
    for spec in step.caches:
        if spec.name.startswith(stem):
            count = int(np.prod([sizes[extent] for extent in spec.extents]))
            total += count * numpy_dtype(spec.element).itemsize
    return total


def _half(step: Function, stem: str) -> str | None:
    """The format that rows without one are kept in."""
    kinds = {spec.element for spec in step.caches if spec.name.startswith(stem)}
    return next((name for kind, name in (("f16", "fp16"), ("bf16", "bf16")) if kind in kinds), None)
