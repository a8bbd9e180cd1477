"""Who chooses the schedules of kernels: by default those that suit their shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dialects.tile.attention_problem import (
    AttentionProblem,
    AttentionSchedule,
    default_attention,
)
from ..dialects.tile.conv_problem import ConvProblem
from ..dialects.tile.conv_schedule import ConvSchedule, default_convolution
from ..dialects.tile.default_schedule import default_schedule
from ..dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule, default_matmul
from ..dialects.tile.problem import LinearProblem
from ..dialects.tile.schedule import Schedule


@dataclass(frozen=True)
class Choosers:
    """Each is given a problem and the name of a machine."""

    linear: Callable[[LinearProblem, str], Schedule] = default_schedule
    conv2d: Callable[[ConvProblem, str], ConvSchedule] = default_convolution
    attention: Callable[[AttentionProblem, str], AttentionSchedule] = default_attention
    matmul: Callable[[MatmulProblem, str], MatmulSchedule] = default_matmul


DEFAULTS = Choosers()
