"""
The kernels of CUDA targets that are tuned: their schedules, spaces, tasks and programs of a layer.

What a kernel is chosen for is its `problem`; cuda_tasks.py has what of it a task says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...autotune.task import Task
from ...dialects.knobs import Space, Value
from ...dialects.tile import (
    attention_problem,
    attention_space,
    conv_schedule,
    conv_space,
    matmul_problem,
    matmul_space,
    space,
)
from ...dialects.tile import schedule as linear_schedule
from ...dialects.tile.attention_problem import default_attention
from ...dialects.tile.conv_schedule import default_convolution
from ...dialects.tile.default_schedule import default_schedule
from ...dialects.tile.estimate import Estimate
from ...dialects.tile.hardware import Machine
from ...dialects.tile.matmul_problem import default_matmul
from ...dialects.tile.register_model import Resources
from ...dialects.tile.schedule_space import values_of
from .cuda_tasks import (
    Choose,
    Layer,
    attention_layer,
    attention_task,
    conv_layer,
    conv_task,
    linear_layer,
    linear_task,
    matmul_layer,
    matmul_task,
)


@dataclass(frozen=True)
class Family:
    """
    `name` is that of the kernels' chooser. `steps` begins the names of its kernels in a plan.

    `space` takes the problem, the task, a machine and schedules to include; `estimate` the
    problem, the task, a schedule, the machine, and what ptxas told where that is known.
    """

    kernel: str
    name: str
    steps: tuple[str, ...]
    default: Choose
    schedule_of: Callable[[Mapping[str, Value]], Any]
    illegal: Callable[[Any, Any, Machine], Iterable[str]]
    space: Callable[[Any, Task, str, list[Any]], Space]
    estimate: Callable[[Any, Task, Any, Machine, Resources | None], Estimate]
    task: Callable[[Any, str, int], Task]
    layer: Callable[[Task], Layer]
    work: Callable[[Any, Task], int]


def values(schedule: Any) -> dict[str, Value]:
    """A schedule of any family as values of knobs."""
    return values_of(schedule)


FAMILIES: dict[str, Family] = {
    family.kernel: family
    for family in (
        Family(
            space.KERNEL,
            "linear",
            ("linear",),
            default_schedule,
            space.schedule_of,
            linear_schedule.illegal,
            lambda problem, _, machine, include: space.linear_space(problem, machine, include),
            lambda problem, _, schedule, device, told: space.estimate(
                problem, schedule, device, told
            ),
            linear_task,
            linear_layer,
            lambda problem, _: problem.n * problem.k * problem.tokens,
        ),
        Family(
            conv_space.KERNEL,
            "conv2d",
            ("conv",),
            default_convolution,
            conv_space.conv_schedule_of,
            conv_schedule.illegal,
            lambda problem, _, machine, include: conv_space.conv_space(problem, machine, include),
            lambda problem, _, schedule, device, told: conv_space.estimate(
                problem, schedule, device, told
            ),
            conv_task,
            conv_layer,
            lambda problem, _: problem.pixels * problem.window.k * problem.outputs,
        ),
        Family(
            attention_space.KERNEL,
            "attention",
            ("attention", "fold"),
            default_attention,
            attention_space.attention_schedule_of,
            attention_problem.illegal,
            lambda problem, task, machine, include: attention_space.attention_space(
                problem, int(task.problem["keys"]), machine, include
            ),
            lambda problem, task, schedule, device, told: attention_space.estimate(
                problem, int(task.problem["keys"]), schedule, device, told
            ),
            attention_task,
            attention_layer,
            lambda problem, task: (
                problem.rows
                * problem.planes
                * int(task.problem["keys"])
                * (problem.keys.depth + problem.values.depth)
            ),
        ),
        Family(
            matmul_space.KERNEL,
            "matmul",
            ("matmul",),
            default_matmul,
            matmul_space.matmul_schedule_of,
            matmul_problem.illegal,
            lambda problem, _, machine, include: matmul_space.matmul_space(
                problem, machine, include
            ),
            lambda problem, _, schedule, device, told: matmul_space.estimate(
                problem, schedule, device, told
            ),
            matmul_task,
            matmul_layer,
            lambda problem, _: problem.batch * problem.rows * problem.depth * problem.columns,
        ),
    )
}
