"""
Random products and schedules for DPUs: what is legal can be written, holds what was counted, and is
exact.

QCC_FUZZ_MUTANTS sets the number of schedules (25 by default, 10,000 in the nightly run).
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from dataclasses import replace

import numpy as np

from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.pim.footprint import mram_need, wram_need
from qcc.dialects.pim.kernel import iram_instructions, mram_bytes, wram_bytes
from qcc.dialects.pim.layout import dpu_arrays, product_of
from qcc.dialects.pim.legality import illegal
from qcc.dialects.pim.reference import run_kernel
from qcc.dialects.pim.schedule import METHODS, Problem, Schedule, Share
from qcc.passes.pim_kernel import pim_kernel

SCHEDULES = int(os.environ.get("QCC_FUZZ_MUTANTS", "25"))
DPU = pim.device("v1A")
ROOM = replace(DPU, iram=1 << 20)
"""Programs of any length: the search asks for their length only once they are written."""
BOOKS = (
    (-1, 1),
    (0, 1, -2, -1),
    (-3, -1, 1, 3),
    tuple(range(-8, 8)),
    tuple(range(16)),
    tuple(range(-128, 128)),
    (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12),
)


def drawn(rng: random.Random) -> Share:
    k, group = rng.randint(1, 60), rng.choice((0, 0, 5, 8, 16))
    books = rng.choice(BOOKS), rng.choice(BOOKS)
    problem = Problem(
        rng.randint(1, 24), k, rng.randint(1, 5), *books, group if group < k else 0
    )  # fmt: skip
    schedule = Schedule(
        rng.choice(METHODS), rng.choice((1, 2, 3, 4, 6, 8)), rng.choice((1, 2, 3, 4, 8, 16)),
        rng.choice(("stream", "resident")), rng.random() < 0.5, rng.choice((1, 2, 3, 4)),
        rng.choice((1, 2, 3, 4, 8, 16)), rng.choice((1, 2, 3, 8, 11, 16, 24)),
        rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 5)),
        rng.choice((16, 8)),
    )  # fmt: skip
    if schedule.method in ("fly", "packed", "canonical"):
        schedule = replace(schedule, words=1, lane_bits=16)
    if schedule.method in ("packed", "canonical") and schedule.residency == "resident":
        schedule = replace(schedule, shared=False)
    if schedule.method == "multiply":
        schedule = replace(schedule, p=1, shared=False, lane_bits=16)
    return Share(problem, schedule)


def check(share: Share, seed: int) -> None:
    problem, s = share.problem, share.schedule
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        kernel = pim_kernel(share, ROOM, "drawn")
    assert module.operation.verify()
    assert iram_instructions(kernel) > 0
    assert wram_bytes(kernel) == wram_need(share) + s.tasklets * DPU.stack
    assert mram_bytes(kernel) == mram_need(share)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, len(problem.weights), (problem.rows, problem.k))
    inputs = rng.integers(0, len(problem.activations), (problem.tokens, problem.k))
    arrays = dpu_arrays(share, weights, inputs)
    run_kernel(kernel, arrays, {})
    values = np.array(problem.activations)[inputs], np.array(problem.weights)[weights]
    step = problem.group or problem.k
    expected = np.stack([
        values[0][:, at : at + step] @ values[1][:, at : at + step].T
        for at in range(0, problem.k, step)
    ])  # fmt: skip
    found = product_of(share, arrays["results"])
    assert np.array_equal(found, expected if problem.group else expected[0])


def test_what_is_legal_can_be_built_and_is_exact() -> None:
    rng, legal = random.Random(5), 0
    with make_context(), ir.Location.unknown():
        while legal < SCHEDULES:
            share = drawn(rng)
            reasons = ["a table of no such codes"]
            with suppress(QccError):  # codes of a group that no table can have
                reasons = list(illegal(share, DPU))
            if reasons:
                continue
            legal += 1
            try:
                check(share, legal)
            except Exception as error:
                raise AssertionError(f"{share.schedule} of {share.problem}: {error}") from error
