"""
Emitted kernels in the emulator beside the traces that the search makes up for them.

The schedules are those of the table in spec pim.md §1.7 and qcc's own: W1A3, K = 768, 16 tokens,
one DPU; then the schedules that the search chooses for a DPU's share of other precisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.pim_subjects import Bench
from qcc.codegen.upmem.execute import Emulated
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.pim.layout import dpu_arrays, product_of
from qcc.dialects.pim.schedule import Problem, Schedule, Share
from qcc.dialects.pim.slots import traces
from qcc.dialects.pim.timing import Timing, simulate
from qcc.passes.pim_kernel import pim_kernel

BIT = (-1, 1)
INT2 = (0, 1, -2, -1)
INT4 = (*range(8), *range(-8, 0))
INT8 = (*range(128), *range(-128, 0))
A3, A4 = tuple(range(-4, 4)), tuple(range(-8, 8))
CASES = {
    "W1A3 multiply": (256, BIT, A3, Schedule("multiply", groups=32, row_block=2, words=2)),
    "W1A3 fly 4": (256, BIT, A3, Schedule("fly", 4, 4, row_block=32)),
    "W1A3 fly 6": (256, BIT, A3, Schedule("fly", 6, 2, row_block=32)),
    "W1A3 canonical 4": (256, BIT, A3, Schedule("canonical", 4, 4, row_block=64)),
    "W1A3 canonical 6": (256, BIT, A3, Schedule("canonical", 6, 4, row_block=64)),
    "W1A3 canonical 8": (256, BIT, A3, Schedule("canonical", 8, 2, row_block=64)),
    "W1A3 resident 5": (
        256,
        BIT,
        A3,
        Schedule("canonical", 5, 4, "resident", row_block=64, tasklets=11),
    ),
    "W1A3 resident 5x2": (
        256,
        BIT,
        A3,
        Schedule("canonical", 5, 2, "resident", row_block=64, tasklets=11),
    ),
    "W1A3 packed 3": (
        256,
        BIT,
        A3,
        Schedule("packed", 3, 4, "resident", row_block=64, tasklets=11),
    ),
    "W1A3 lanes 6": (256, BIT, A3, Schedule("lanes", 6, 16, shared=True, words=2, row_block=16)),
    "W1A3 lanes 8": (256, BIT, A3, Schedule("lanes", 8, 4, shared=True, words=4, row_block=16)),
    "W1A3 lanes 6x4": (
        256,
        BIT,
        A3,
        Schedule("lanes", 6, 16, shared=True, words=4, row_block=16),
    ),
    "W1A4 lanes 6": (256, BIT, A4, Schedule("lanes", 6, 16, shared=True, words=2, row_block=16)),
    "W2A2 canonical 4": (256, INT2, INT2, Schedule("canonical", 4, 2, row_block=64)),
    "W2A2 lanes 4": (256, INT2, INT2, Schedule("lanes", 4, 8, shared=True, words=2, row_block=16)),
    "W4A4 lanes 2": (256, INT4, INT4, Schedule("lanes", 2, 8, shared=True, words=2, row_block=16)),
    "W8A8 multiply": (256, INT8, INT8, Schedule("multiply", groups=32, row_block=2, words=2)),
}


@dataclass(frozen=True)
class Compared:
    """One kernel: cycles of a multiply-add, emulated and by made-up traces."""

    name: str
    macs: int
    emulated: Timing
    made_up: Timing

    @property
    def gap(self) -> float:
        """In per cent; positive where the search takes the kernel for slower than it is."""
        return 100 * (self.made_up.cycles / self.emulated.cycles - 1)


def compared(bench: Bench, k: int = 768, tokens: int = 16) -> Iterator[Compared]:
    for name, (rows, weights, activations, schedule) in CASES.items():
        share = Share(Problem(rows, k, tokens, weights, activations), schedule)
        with make_context(), ir.Location.unknown():
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                kernel = pim_kernel(share, bench.device, name.replace(" ", "_"))
            made_up = simulate(traces(kernel), bench.device)
            yield Compared(name, rows * k * tokens, emulate(bench, share, kernel), made_up)


def emulate(bench: Bench, share: Share, kernel: object) -> Timing:
    """The kernel on random codes, checked; ValueError where it computes something else."""
    problem, draw = share.problem, np.random.default_rng(0)
    weights = draw.integers(0, len(problem.weights), (problem.rows, problem.k))
    inputs = draw.integers(0, len(problem.activations), (problem.tokens, problem.k))
    arrays = dpu_arrays(share, weights, inputs)
    run = Emulated(kernel, bench.folder)
    run(arrays)
    want = np.array(problem.activations)[inputs] @ np.array(problem.weights)[weights].T
    if not np.array_equal(product_of(share, arrays["results"]), want):
        raise ValueError(f"{run.program.name} computes something else than NumPy")
    return simulate(run.launches[0].traces, bench.device)


def lines(rows: list[Compared]) -> Iterator[str]:
    yield f"{'kernel':18}{'slots/MAC':>11}{'cycles/MAC':>12}{'by search':>11}{'gap':>9}"
    for row in rows:
        yield (
            f"{row.name:18}{row.emulated.slots / row.macs:11.2f}"
            f"{row.emulated.cycles / row.macs:12.2f}{row.made_up.cycles / row.macs:11.2f}"
            f"{row.gap:+8.1f}%"
        )
    gaps = [abs(row.gap) for row in rows]
    yield f"mean gap {sum(gaps) / len(gaps):.1f} %, largest {max(gaps):.1f} %"
