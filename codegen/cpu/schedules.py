"""The schedule of a linear layer: the one on the op, or the default of its shape."""

from __future__ import annotations

import math

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.cpu.default_schedule import default_schedule
from ...dialects.cpu.schedule import (
    SCHEDULE_ATTRIBUTE,
    LinearProblem,
    LinearSchedule,
    ScheduledLayer,
    illegal,
)
from ...dialects.errors import UsageError
from ...dialects.source_line import source_line
from .call_site import CallSite


def schedule_of(site: CallSite, op: qcc.LinearOp, integers: bool) -> LinearSchedule:
    """
    Also notes the layer in `site.scheduled`.

    UsageError where the op has a schedule that cannot be built for this processor.
    """
    layer = _scheduled(site, op, integers)
    site.scheduled.append(layer)
    return layer.schedule


def _scheduled(site: CallSite, op: qcc.LinearOp, integers: bool) -> ScheduledLayer:
    n, k = qcc.logical_type(op.weight.type).shape
    spelling = qcc.format_spelling(op.weight.type) or "fp32"
    problem, features = LinearProblem(n, k, spelling, integers), site.library.features
    attributes = op.operation.attributes
    name = ir.StringAttr(attributes["layer"]).value if "layer" in attributes else ""
    rounding = qcc.rounding_of(op.input) if integers else None
    activations = "" if rounding is None else qcc.format_of(rounding.codes).spelling
    given = SCHEDULE_ATTRIBUTE in attributes
    rows = _rows(op)
    schedule = _given(op, problem, features) if given else default_schedule(problem, features, rows)
    return ScheduledLayer(name, problem, rows, activations, schedule, given)


def _rows(op: qcc.LinearOp) -> int | None:
    type_ = ir.RankedTensorType(op.input.type)
    leading = range(type_.rank - 1)
    if any(type_.is_dynamic_dim(axis) for axis in leading):
        return None
    return math.prod(type_.shape[axis] for axis in leading)


def _given(op: qcc.LinearOp, problem: LinearProblem, features: frozenset[str]) -> LinearSchedule:
    attributes = op.operation.attributes
    try:
        given = LinearSchedule.of(attributes[SCHEDULE_ATTRIBUTE])
    except ValueError as error:
        raise _refused(op, str(error)) from None
    reasons = list(illegal(problem, given, features))
    if reasons:
        raise _refused(op, "; ".join(reasons))
    return given


def _refused(op: qcc.LinearOp, why: str) -> UsageError:
    return UsageError(
        "cpu-schedule",
        "the schedule of a layer cannot be built",
        where=source_line(op.location),
        why=why,
        next_step="leave the attribute out for the default of the layer's shape",
    )
