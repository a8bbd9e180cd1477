"""
Trials of kernels that no GPU has run: what ptxas says of them, and what they cost on paper.

    python -m benchmarks.cuda_trials --database F [--machines sm_90a,sm_80,sm_89] [--schedules 12]
                                     [--minutes 8]

Of layers of the bundled models, legal schedules are drawn at random, as many with each instruction,
and built by nvcc as `qcc tune --measure static` builds them; records have the registers and the
bytes that spilled. Works in pieces: what was built is in F, and the next call goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from qcc.autotune.draw import draw
from qcc.autotune.task import Task
from qcc.compiler.tuning.cuda_families import FAMILIES
from qcc.dialects.knobs import Value
from qcc.dialects.tile.attention_problem import AttentionProblem, Rows
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.hardware import is_native
from qcc.dialects.tile.matmul_problem import MatmulProblem
from qcc.dialects.tile.problem import LinearProblem

LINEAR = (
    LinearProblem(2304, 768, 128, "int4<group=32>"),
    LinearProblem(2304, 768, 1, "int4<group=32>"),
    LinearProblem(3072, 768, 128, "int8", "i8"),
    LinearProblem(576, 1536, 128, "mxfp4"),
    LinearProblem(1536, 576, 1, "nf4<group=64>"),
    LinearProblem(768, 3072, 128, "dint4<group=128>", "i8"),
    LinearProblem(768, 768, 128, "fp8_e4m3", "f8E4M3FN"),
)
"""GPT-2, SmolLM2-135M."""
CONVOLUTIONS = (
    ConvProblem(Window(64, 64, (3, 3), padding=(1, 1)), "int8", 3136, "i8"),
    ConvProblem(Window(64, 128, (3, 3), (2, 2), (1, 1)), "int4<group=32>", 784),
)
"""ResNet-18."""
ATTENTION = ((1, None), (1, "int4"), (128, None))
"""Rows and format of the cache, of GPT-2: 12 heads of 64."""
PRODUCT = MatmulProblem(64, 128, rows=128, batch=12)
CONTEXT = 1024
DRAWN = 64
"""Of each schedule that is built, so that there are rare instructions among them."""


def problems(machine: str) -> Iterator[tuple[str, Any]]:
    """Kernels and problems, what the machine has instructions for."""
    for problem in LINEAR:
        if is_native(machine, problem.instruction):
            yield "cuda.linear", problem
    for problem in CONVOLUTIONS:
        yield "cuda.conv2d", problem
    for rows, cache in ATTENTION:
        keys, values = (Rows.of(name, 64, cache) for name in ("key", "value"))
        yield "cuda.attention", AttentionProblem(keys, values, 0.125, 1, rows, 12)
    yield "cuda.matmul", PRODUCT


def schedules(problem: Any, task: Task, machine: str, count: int) -> list[dict[str, Value]]:
    """Of `count` schedules the values, as many with each instruction, each once."""
    space = FAMILIES[task.kernel].space(problem, task, machine, [])
    drawn = draw(space, np.random.default_rng(int(task.key, 16)), DRAWN * count)
    kinds: dict[Value, dict[str, dict[str, Value]]] = defaultdict(dict)
    for config in np.unique(drawn, axis=0)[::1]:
        values = space.values(config)
        kinds[values.get("instruction", "")][str(values)] = values
    rng = np.random.default_rng(0)
    queues = [rng.permutation(np.array(list(each.values()), object)) for each in kinds.values()]
    taken = (each for each in chain.from_iterable(zip_longest(*queues)) if each is not None)
    return [each for each, _ in zip(taken, range(count), strict=False)]
