"""The schedule of a linear layer: the one on the op, or the default of its shape."""

from __future__ import annotations

from ...dialects import qcc
from ...dialects.cpu.default_schedule import default_schedule
from ...dialects.cpu.schedule import SCHEDULE_ATTRIBUTE, LinearProblem, LinearSchedule, illegal
from ...dialects.errors import UsageError
from ...dialects.source_line import source_line
from .call_site import CallSite


def schedule_of(site: CallSite, op: qcc.LinearOp, integers: bool) -> LinearSchedule:
    """UsageError where the op has a schedule that cannot be built for this processor."""
    n, k = qcc.logical_type(op.weight.type).shape
    spelling = qcc.format_spelling(op.weight.type) or "fp32"
    problem, features = LinearProblem(n, k, spelling, integers), site.library.features
    attributes = op.operation.attributes
    if SCHEDULE_ATTRIBUTE not in attributes:
        return default_schedule(problem, features)
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
