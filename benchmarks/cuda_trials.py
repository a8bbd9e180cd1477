"""
Trials of kernels that no GPU has run: what ptxas says of them, and what they cost on paper.

    python -m benchmarks.cuda_trials --database F [--machines sm_90a,sm_80,sm_89] [--schedules 12]
                                     [--minutes 8]

Of layers of the bundled models, legal schedules are drawn at random, as many of each kind, and
built by nvcc as `qcc tune --measure static` builds them; records have the registers and the bytes
that spilled. Works in pieces: what was built is in F, and the next call goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.console import say
from benchmarks.gpu_cases import computes
from qcc.autotune.database import Database, Store
from qcc.autotune.draw import draw
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.compiler.targets import require_target
from qcc.compiler.tuning.cuda_backend import built_code, counted, tuned_resources
from qcc.compiler.tuning.cuda_families import FAMILIES
from qcc.compiler.tuning.cuda_tasks import device_text
from qcc.dialects.errors import QccError
from qcc.dialects.knobs import Value
from qcc.dialects.tile.attention_problem import AttentionProblem, Rows
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.hardware import machine as machine_of
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
DRAWN = 256
"""Of each schedule that is built, so that there are rare kinds among them."""
KINDS = ("instruction", "streams", "warp_groups")
OPERANDS = "f16"
Work = Callable[[], Measurement]


def problems(machine: str) -> Iterator[tuple[str, Any]]:
    """Kernels and problems: those that the machine computes."""
    for problem in LINEAR:
        if computes(problem, machine):
            yield "cuda.linear", problem
    for problem in CONVOLUTIONS:
        yield "cuda.conv2d", problem
    for rows, cache in ATTENTION:
        keys, values = (Rows.of(name, 64, cache) for name in ("key", "value"))
        yield "cuda.attention", AttentionProblem(keys, values, 0.125, 1, rows, 12)
    yield "cuda.matmul", PRODUCT


def schedules(problem: Any, task: Task, machine: str, count: int) -> list[dict[str, Value]]:
    """Of `count` schedules the values, as many of each kind, each once."""
    space = FAMILIES[task.kernel].space(problem, task, machine, [])
    rng = np.random.default_rng(int(task.key, 16))
    kinds: dict[tuple[Value, ...], dict[str, dict[str, Value]]] = defaultdict(dict)
    for config in draw(space, rng, DRAWN * count):
        values = space.values(config)
        kind = tuple(values[name] for name in KINDS if name in values)
        kinds[kind].setdefault(str(values), values)
    turns = chain.from_iterable(zip_longest(*(each.values() for each in kinds.values())))
    return [each for each in turns if each is not None][:count]


def built(problem: Any, task: Task, machine: str, values: dict[str, Value]) -> Measurement:
    """What ptxas tells of a schedule, and what it then costs on paper."""
    family, target = FAMILIES[task.kernel], require_target(f"cuda:{machine}")
    try:
        code, _, schedule = built_code(task, values, target, OPERANDS)
        told = tuned_resources(code, family, target)
    except QccError as error:
        return Measurement(values=values, failure="compile", detail=str(error))
    if told is None:
        raise SystemExit("no CUDA compiler was found: pip install 'qcc[cuda]'")
    cost = family.estimate(problem, task, schedule, machine_of(machine), told)
    return Measurement(values=values, seconds=cost.estimated_s, modelled=True, strategy="random",
                       resources=counted(told))  # fmt: skip


def work(machines: Sequence[str], count: int, store: Store) -> Iterator[tuple[Task, Work]]:
    """What is not yet in the store, a schedule at a time."""
    for machine in machines:
        for kernel, problem in problems(machine):
            task = FAMILIES[kernel].task(problem, device_text(machine), CONTEXT)
            known = [each.values for each in store.measurements(task)]
            for values in schedules(problem, task, machine, count):
                if values not in known:
                    yield task, partial(built, problem, task, machine, values)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--machines", default="sm_90a,sm_80,sm_89")
    parser.add_argument("--schedules", type=int, default=12, help="of each layer")
    parser.add_argument("--minutes", type=float, default=8, help="stop after so many")
    options = parser.parse_args(words)
    database = Database(options.database, create=True)
    todo = list(work(options.machines.split(","), options.schedules, database))
    end, done = time.monotonic() + 60 * options.minutes, 0
    for task, build in todo:
        if time.monotonic() >= end:
            break
        say(task.text)
        database.add(task, [build()])
        done += 1
    left = len(todo) - done
    say(f"{done} schedules built, {left} left" + ("; call again to go on" if left else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
