"""The kernels of the GPU suite that have schedules: what is tuned of each, and library calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from benchmarks import gpu_attention, gpu_convolution
from benchmarks.gpu_cases import SHAPES, TOKENS, problems
from benchmarks.gpu_peers import BYTES, PEERS, Calls
from qcc.autotune.task import Task
from qcc.compiler.tuning.cuda_families import FAMILIES
from qcc.dialects.errors import QccError
from qcc.dialects.tile.matmul_problem import MatmulProblem
from qcc.dialects.tile.problem import LinearProblem

KINDS = ("linear", "attention", "conv2d", "matmul")
PRODUCTS = (
    MatmulProblem(64, 128, rows=128, batch=12),
    MatmulProblem(128, 64, rows=128, batch=12),
    MatmulProblem(128, 2048, rows=2048, batch=32),
)
"""Scores and sums of attention that is split: of BERT, of Llama-7B."""


@dataclass(frozen=True)
class Tuned:
    """
    A problem that a kernel is chosen for; `keys` that attention sees. `libraries` make calls of the
    same for rotating arguments, of `bytes` each; the fastest counts.
    """

    kernel: str
    name: str
    problem: Any
    libraries: dict[str, Callable[[Any, int], Calls]]
    bytes: int
    keys: int = 0

    def task(self, device: str) -> Task:
        made = FAMILIES[self.kernel].task(self.problem, device, self.keys)
        if not self.keys:
            return made
        return msgspec.structs.replace(made, problem={**made.problem, "keys": self.keys})


def subjects(
    target: str,
    kinds: tuple[str, ...] = KINDS,
    weights: str = "",
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    tokens: tuple[int, ...] = TOKENS,
) -> Iterator[Tuned]:
    """What benchmarks.gpu times on a machine; of convolutions those with one order of axes."""
    made = {"linear": lambda: map(_linear, problems(target, shapes, tokens, weights)),
            "attention": _attention, "conv2d": lambda: _convolutions(target),
            "matmul": lambda: map(_matmul, PRODUCTS)}  # fmt: skip
    for kind in kinds:
        yield from (each for each in made[kind]() if _is_computed(each, target))


def _is_computed(subject: Tuned, target: str) -> bool:
    try:
        FAMILIES[subject.kernel].default(subject.problem, target)
    except QccError:
        return False
    return True


def _linear(problem: LinearProblem) -> Tuned:
    p = problem
    name = f"{p.weight} x {p.activation} {p.n}x{p.k} M={p.tokens}"
    libraries: dict[str, Callable[[Any, int], Calls]] = {
        peer: partial(_call, peer, p) for peer in PEERS
    }
    return Tuned("cuda.linear", name, p, libraries, int(p.n * p.k * BYTES["fp16"]))


def _call(peer: str, problem: LinearProblem, torch: Any, copies: int) -> Calls:
    return PEERS[peer](torch, problem.n, problem.k, problem.tokens, copies)


def _attention() -> Iterator[Tuned]:
    for each in gpu_attention.timed():
        size = 4 * each.planes * each.keys * each.depth
        yield Tuned("cuda.attention", each.name, each.problem, {"torch fp16": each.peer}, size,
                    each.keys)  # fmt: skip


def _convolutions(target: str) -> Iterator[Tuned]:
    """The layout is no knob, and a result that stays in integers no task of its own."""
    for each in gpu_convolution.timed():
        if each.layout == "NCHW" and each.requantised is None:
            size = 2 * each.images * each.window.channels * each.size[0] * each.size[1]
            yield Tuned("cuda.conv2d", each.name, each.problem(target), {"cuDNN fp16": each.peer},
                        size)  # fmt: skip


def _matmul(problem: MatmulProblem) -> Tuned:
    p = problem
    name = f"{p.batch} x {p.rows}x{p.depth}x{p.columns}"
    size = 2 * p.batch * (p.rows + p.columns) * p.depth
    return Tuned("cuda.matmul", name, p, {"cuBLAS fp16": partial(_batched, p)}, size)


def _batched(problem: MatmulProblem, torch: Any, copies: int) -> Calls:
    p = problem
    pairs = [
        [torch.randn(shape, dtype=torch.float16, device="cuda")
         for shape in ((p.batch, p.rows, p.depth), (p.batch, p.depth, p.columns))]
        for _ in range(copies)
    ]  # fmt: skip
    return [partial(torch.bmm, *pair) for pair in pairs]
