"""From a model to what can be tuned of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...dialects.errors import UnsupportedError
from ..console import Progress, Silent
from ..driver import assigned_module
from ..frontend.sources import open_model
from ..options import CompileOptions
from ..running import default_threads
from ..targets import require_target
from .cpu_jobs import tunable_cpu
from .cuda_jobs import tunable_cuda
from .gpu_choice import MEASURES, chosen_gpu
from .model_jobs import Tunable
from .upmem_jobs import tunable_upmem

CONTEXT = 4096


def open_tunable(
    model: Any,
    options: CompileOptions,
    weights: str | None = None,
    examples: Mapping[str, np.ndarray] | None = None,
    allow_pickle: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    context: int = CONTEXT,
    measure: str = MEASURES[0],
) -> Tunable:
    """
    The tasks of a model as `options` would compile it; equal layers are one. `threads` are those
    of a kernel on the CPU, by default all; `context` are the keys that attention
    of few rows sees, `measure` says whether kernels for GPUs are timed on one (gpu_choice.py).

    Raises UnsupportedError where there are none, and as `open_model` does.
    """
    target = require_target(options.target)
    opened = open_model(model, weights, example_inputs=examples, allow_pickle=allow_pickle)
    with opened as source, assigned_module(source, options, progress or Silent()) as module:
        if target.family == "cpu":
            tunable = tunable_cpu(module, options.tokens, threads or default_threads())
        elif target.family == "upmem":
            tunable = tunable_upmem(module, options.device, options.dpus)
        else:
            gpu = chosen_gpu(target, measure)
            tunable = tunable_cuda(module, target, options.operands, context, gpu)
    if not tunable.jobs:
        raise UnsupportedError(
            "tune-nothing",
            "the model has no layer that can be tuned",
            why="on the CPU, linear layers on more than four rows of x have schedules; on DPUs, "
            "those whose weights and activations are integers; on GPUs, those with packed weights, "
            "convolutions, attention and products of two activations",
            next_step="compile it without --schedules",
        )
    return tunable
