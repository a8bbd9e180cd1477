"""
How well registers and spills are predicted before a kernel is built: held against ptxas.

    python -m benchmarks.registers [--database F] [--fit]

Trials are those that ship with qcc, or of F (benchmarks.cuda_trials, or any static tune). For each
kind of kernel: Spearman's correlation of predicted with actual registers of a thread, and how far
apart they are at the median; by the table in dialects/tile/register_model.py, and by one that is
fitted without the task whose kernels are predicted. Of kernels that spill, and of others, how many
were predicted to. With --fit the table is printed that all trials together give.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

import msgspec
import numpy as np
from scipy.optimize import nnls
from scipy.stats import rankdata

from benchmarks.console import say
from qcc.autotune.database import Store, open_store
from qcc.autotune.database.shipped import shipped_trials
from qcc.autotune.task import Task
from qcc.compiler.console import table
from qcc.compiler.targets import require_target
from qcc.compiler.tuning.cuda_backend import problem_of
from qcc.compiler.tuning.cuda_families import FAMILIES
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.register_model import COEFFICIENTS, SPILLED, Resources, Terms, predicted
from qcc.dialects.tile.register_terms import (
    attention_terms,
    conv_terms,
    linear_terms,
    matmul_terms,
)

TERMS = {
    "cuda.linear": linear_terms, "cuda.conv2d": conv_terms, "cuda.attention": attention_terms,
    "cuda.matmul": matmul_terms,
}  # fmt: skip
Weights = dict[str, float]


@dataclass(frozen=True)
class Built:
    """A kernel of `task`, and what ptxas told."""

    task: Task
    terms: Terms
    told: Resources


def built(store: Store) -> Iterator[Built]:
    for task in store.tasks():
        if task.kernel in FAMILIES:
            yield from _built(store, task)


def _built(store: Store, task: Task) -> Iterator[Built]:
    name = task.device.partition(",")[0]
    problem: Any = problem_of(task, require_target(f"cuda:{name}"), "f16")
    for each in store.measurements(task):
        if each.resources is not msgspec.UNSET:
            schedule: Any = FAMILIES[task.kernel].schedule_of(each.values)
            terms = TERMS[task.kernel](problem, schedule, machine(name))
            told = Resources(each.resources["registers"], each.resources["spill_bytes"])
            yield Built(task, terms, told)


def fitted(kernels: Sequence[Built]) -> Weights:
    """
    Weights of one kind of kernel that none is below 0, by least squares of relative errors.

    What spilled wanted more than it may have: about a register for each word that is stored and
    loaded again.
    """
    names = ["all", *kernels[0].terms.counts]
    counts = np.array([[1.0, *each.terms.counts.values()] for each in kernels])
    told = np.array([each.told.registers + each.told.spills / SPILLED for each in kernels])
    weights, _ = nnls(counts / told[:, None], np.ones(len(told)))
    return {name: round(float(w), 3) for name, w in zip(names, weights, strict=True) if w >= 5e-4}


def held_out(kernels: Sequence[Built]) -> dict[int, int]:
    """Registers of each, by weights that are fitted without its task, by its place."""
    found = {}
    for task in {each.task for each in kernels}:
        others = [each for each in kernels if each.task != task]
        if others:
            weights = fitted(others)
            for place, each in enumerate(kernels):
                if each.task == task:
                    found[place] = _with(weights, each.terms).registers
    return found


def _with(weights: Mapping[str, float], terms: Terms) -> Resources:
    return predicted(terms, {terms.kind: weights})


def row(kind: str, kernels: Sequence[Built]) -> dict[str, Any]:
    told = [each.told.registers for each in kernels]
    found = [predicted(each.terms) for each in kernels]
    without = held_out(kernels)
    spilled = [f.spills > 0 for f, each in zip(found, kernels, strict=True) if each.told.spills]
    others = [f.spills > 0 for f, each in zip(found, kernels, strict=True) if not each.told.spills]
    unseen = [told[place] for place in without]
    return {
        "kernel": kind, "tasks": len({each.task for each in kernels}), "schedules": len(kernels),
        "Spearman": _correlation([each.registers for each in found], told),
        "off by": _off([each.registers for each in found], told),
        "Spearman, unseen": _correlation(list(without.values()), unseen),
        "off by, unseen": _off(list(without.values()), unseen),
        "spills found": f"{sum(spilled)} of {len(spilled)}",
        "wrongly": f"{sum(others)} of {len(others)}",
    }  # fmt: skip


def _correlation(found: Sequence[int], told: Sequence[int]) -> str:
    if len({*found}) < 2 or len({*told}) < 2:
        return "-"
    ranks = rankdata(found), rankdata(told)
    return f"{np.corrcoef(*ranks)[0, 1]:.2f}"


def _off(found: Sequence[int], told: Sequence[int]) -> str:
    return f"{np.median(np.abs(np.divide(found, told) - 1)):.0%}" if told else "-"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--database", type=Path, help="by default what ships with qcc")
    parser.add_argument("--fit", action="store_true", help="print the table of coefficients")
    options = parser.parse_args(words)
    store = open_store(options.database) if options.database else shipped_trials()
    kinds: dict[str, list[Built]] = defaultdict(list)
    for each in built(store):
        kinds[each.terms.kind].append(each)
    if options.fit:
        say(pformat(COEFFICIENTS | {kind: fitted(each) for kind, each in kinds.items()}))
        return 0
    rows = [row(kind, each) for kind, each in sorted(kinds.items())]
    say(table(rows, list(rows[0])) if rows else "no trial says what ptxas told")
    return 0


if __name__ == "__main__":
    sys.exit(main())
