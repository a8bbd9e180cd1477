"""The passes that turn a quantized program into kernels for a GPU and their launches, in order."""

from __future__ import annotations

from collections.abc import Callable

from ..dialects.bindings import Operation
from .choosers import DEFAULTS, Choosers
from .expand_lookups import expand_lookups
from .expand_norms import expand_norms
from .expand_products import expand_products
from .expand_roundings import expand_roundings
from .expand_sorts import expand_sorts
from .launching import Scheduling
from .schedule_attention import schedule_attention
from .schedule_conv2d import schedule_conv2d
from .schedule_groups import schedule_groups
from .schedule_linear import LinearScheduling, schedule_linear
from .schedule_matmul import schedule_matmul

Pass = Callable[[Operation, object], None]


def cuda_passes(options: Scheduling, choosers: Choosers = DEFAULTS) -> dict[str, Pass]:
    """By name, to be run in this order; what none of them takes, the launch plan refuses."""
    linear = LinearScheduling(options.target, choose=choosers.linear)
    return {
        "schedule-attention": schedule_attention(options, choosers.attention),
        "schedule-conv2d": schedule_conv2d(options, choosers.conv2d),
        "schedule-matmul": schedule_matmul(options, choosers.matmul),
        "expand-products": expand_products,
        "schedule-linear": schedule_linear(linear),
        "expand-lookups": expand_lookups,
        "expand-norms": expand_norms,
        "expand-roundings": expand_roundings,
        "expand-sorts": expand_sorts,
        "schedule-groups": schedule_groups(options),
    }
