"""
Give linear layers the schedules that were found for them.

    qcc.linear %x, %w {layer = "fc1"}
      =>  qcc.linear %x, %w {layer = "fc1", schedule = {rows = 8 : i64, …}}

Exact up to the order of fp32 sums, and not even that changes on the CPU (docs/cpu-schedules.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..dialects.bindings import Operation
from ..dialects.cpu.schedule import SCHEDULE_ATTRIBUTE, LinearSchedule
from .name_layers import layer_name, layer_ops


def assign_schedules(
    schedules: Mapping[str, LinearSchedule],
) -> Callable[[Operation, object], None]:
    """By layer, in every function."""

    def apply(module: Operation, _: object = None) -> None:
        with module.context:
            for op in layer_ops(module):
                if op.name == "qcc.linear" and layer_name(op) in schedules:
                    op.attributes[SCHEDULE_ATTRIBUTE] = schedules[layer_name(op)].attribute()

    return apply


def remove_schedules(module: Operation, _: object = None) -> None:
    """Back to the defaults, for a processor that may not have what schedules count on."""
    for op in layer_ops(module):
        if SCHEDULE_ATTRIBUTE in op.attributes:
            del op.attributes[SCHEDULE_ATTRIBUTE]
