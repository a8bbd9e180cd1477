"""Emitted kernels: clean for both compilers, and equal to the NumPy reference on both emulators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.upmem.build_dpu import check_types, check_untyped
from qcc.codegen.upmem.emit_dpu import dpu_program, emit_dpu
from qcc.codegen.upmem.execute import Emulated, Rung
from qcc.codegen.upmem.toolchain import candidates
from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.pim.layout import dpu_arrays, product_of
from qcc.dialects.pim.reference import run_kernel
from qcc.dialects.pim.schedule import Problem, Schedule, Share
from qcc.passes.pim_kernel import pim_kernel

BIT = (-1, 1)
INT2 = (0, 1, -2, -1)
INT4 = tuple(range(8)) + tuple(range(-8, 0))
INT8 = tuple(range(128)) + tuple(range(-128, 0))
A3, A4 = tuple(range(-4, 4)), tuple(range(-8, 8))
EIGHT = (-8, 7)
DINT4 = (*range(-14, 14, 2), 1, -1)
DPU = pim.device("v1A")
Golden = Callable[[str, str], None]
# Of every method and pair of code books, the first columns are rows, k, tokens: edges included.
CASES = {
    "lanes-W1A3": (21, 37, 5, BIT, A3, Schedule("lanes", 8, 4, shared=True, words=2, row_block=4)),
    "lanes-W1A4": (9, 64, 3, BIT, A4, Schedule("lanes", 6, 4, shared=True, row_block=4)),
    "lanes-dINT4": (
        21, 37, 5, DINT4, INT8, Schedule("lanes", 2, 4, shared=True, row_block=2, tasklets=4),
    ),
    "lanes-bytes": (
        21, 37, 5, BIT, A3,
        Schedule("lanes", 6, 8, shared=True, words=2, row_block=4, tasklets=2, lane_bits=8),
    ),
    "lanes-k": (
        21, 37, 5, BIT, A3,
        Schedule("lanes", 4, 2, shared=True, row_block=4, tasklets=2, k_parts=4),
    ),
    "lanes-spans": (
        4, 700, 2, EIGHT, EIGHT, Schedule("lanes", 4, 8, shared=True, row_block=4, tasklets=1),
    ),
    "fly-W2A4": (21, 37, 5, INT2, A4, Schedule("fly", 5, 2, shared=True, row_block=4, tasklets=2)),
    "fly-own": (8, 40, 17, BIT, A3, Schedule("fly", 4, 2, row_block=4, tasklets=11)),
    "canonical-W1A1": (
        21, 37, 5, BIT, BIT, Schedule("canonical", 7, 4, "resident", row_block=4, tasklets=11),
    ),
    "canonical-W1A3": (
        33, 70, 19, BIT, A3, Schedule("canonical", 6, 4, row_block=8, row_parts=3, token_parts=2),
    ),
    "canonical-W2A2": (
        21, 37, 5, INT2, INT2, Schedule("canonical", 5, 2, shared=True, row_block=4, tasklets=4),
    ),
    "canonical-W4A4": (
        8, 24, 3, INT4, INT4, Schedule("canonical", 1, 8, "resident", row_block=4, tasklets=2),
    ),
    "packed-W1A3": (
        21, 37, 5, BIT, A3, Schedule("packed", 3, 4, "resident", row_block=16, row_parts=2),
    ),
    "multiply-W8A8": (21, 37, 5, INT8, INT8, Schedule("multiply", groups=8, row_block=2, words=2)),
}  # fmt: skip


@pytest.fixture
def module() -> Iterator[ir.Module]:
    """A module for the kernels of a test, and the context for it."""
    with make_context(), ir.Location.unknown():
        yield ir.Module.create()


def kernel_of(module: ir.Module, share: Share) -> pim.KernelOp:
    with ir.InsertionPoint(module.body):
        return pim_kernel(share, DPU, "product")


def drawn(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    weights = draw.integers(0, len(problem.weights), (problem.rows, problem.k))
    return weights, draw.integers(0, len(problem.activations), (problem.tokens, problem.k))


def results_of(run: Emulated, arrays: dict[str, np.ndarray]) -> np.ndarray:
    run(arrays)
    return arrays["results"].copy()


@pytest.mark.parametrize("case", CASES)
def test_emitted_kernels_are_exact(case: str, module: ir.Module, built: Path) -> None:
    *sizes, schedule = CASES[case]
    share = Share(Problem(*sizes), schedule)
    kernel, (weights, inputs) = kernel_of(module, share), drawn(share.problem)
    check_untyped(dpu_program(kernel))
    rungs: list[Rung] = ["native"]
    if candidates():
        check_types(dpu_program(kernel))
        rungs.append("rv32")
    arrays = dpu_arrays(share, weights, inputs)
    got = [results_of(Emulated(kernel, built, rung, seed), arrays)
           for rung in rungs for seed in (0, 3)]  # fmt: skip
    run_kernel(kernel, arrays, {})
    for each in got:
        np.testing.assert_array_equal(each, arrays["results"])
    p = share.problem
    expected = np.array(p.activations)[inputs] @ np.array(p.weights)[weights].T
    np.testing.assert_array_equal(product_of(share, arrays["results"]), expected)


def test_text_of_a_streaming_kernel(golden: Golden, module: ir.Module) -> None:
    share = Share(Problem(64, 768, 16, BIT, A3), Schedule("canonical", 6, 4, row_block=64))
    golden(emit_dpu(kernel_of(module, share)), ".c")


def test_text_of_a_kernel_with_lanes(golden: Golden, module: ir.Module) -> None:
    schedule = Schedule("lanes", 4, 4, shared=True, words=2, row_block=16)
    share = Share(Problem(256, 768, 16, BIT, A3), schedule)
    golden(emit_dpu(kernel_of(module, share)), ".c")


def test_text_of_a_multiplying_kernel(golden: Golden, module: ir.Module) -> None:
    share = Share(Problem(64, 768, 16, INT8, INT8), Schedule("multiply", groups=96, row_block=2))
    golden(emit_dpu(kernel_of(module, share)), ".c")


def test_lines_are_short_and_types_are_fixed(module: ir.Module) -> None:
    for *sizes, schedule in CASES.values():
        text = emit_dpu(kernel_of(module, Share(Problem(*sizes), schedule)))
        assert max(map(len, text.splitlines())) <= 100
        assert not {"long", "float", "double", "malloc"} & set(text.replace("(", " ").split())


UNKNOWN = """
"pim.kernel"() ({
^bb0(%y: !pim.mram<tensor<2xui32>>, %n: i32):
  %x = "arith.remui"(%n, %n) : (i32, i32) -> i32
  "pim.return"() : () -> ()
}) {symbol = "k", device = "v1A", tasklets = 1 : i64, stack = 1024 : i64, arguments = ["y", "n"]}
  : () -> ()
"""


def test_an_op_without_a_rule_is_named(module: ir.Module) -> None:
    parsed = ir.Module.parse(UNKNOWN, module.context)
    (kernel,) = parsed.body.operations
    with pytest.raises(UnsupportedError, match=r"no rule for arith\.remui"):
        emit_dpu(kernel)


CARRIED = """
"pim.kernel"() ({
^bb0(%y: !pim.mram<tensor<2xui32>>, %n: i32):
  %b = "pim.wram_alloc"() {symbol = "pair"} : () -> !pim.wram<tensor<2xui32>, "shared">
  %zero = "arith.constant"() {value = 0 : i32} : () -> i32
  %one = "arith.constant"() {value = 1 : i32} : () -> i32
  %low, %high = "pim.loop"(%zero, %n, %zero, %one) ({
  ^bb1(%i: i32, %a: i32, %c: i32):
    %sum = "arith.addi"(%a, %c) : (i32, i32) -> i32
    "pim.yield"(%c, %sum) : (i32, i32) -> ()
  }) {step = 1 : i64, unroll = 1 : i64, variable = "i",
      operandSegmentSizes = array<i32: 1, 1, 2>, resultSegmentSizes = array<i32: 2>}
    : (i32, i32, i32, i32) -> (i32, i32)
  "pim.store"(%low, %b, %zero) {displacement = 0 : i64}
    : (i32, !pim.wram<tensor<2xui32>, "shared">, i32) -> ()
  "pim.store"(%high, %b, %one) {displacement = 0 : i64}
    : (i32, !pim.wram<tensor<2xui32>, "shared">, i32) -> ()
  "pim.dma_out"(%b, %zero, %y, %zero) {count = 2 : i64}
    : (!pim.wram<tensor<2xui32>, "shared">, i32, !pim.mram<tensor<2xui32>>, i32) -> ()
  "pim.return"() : () -> ()
}) {symbol = "fibonacci", device = "v1A", tasklets = 1 : i64, stack = 1024 : i64,
    arguments = ["y", "n"]} : () -> ()
"""


def test_carried_words_change_together(module: ir.Module, built: Path) -> None:
    """Fibonacci numbers: each of two carried words becomes what the other was or both were."""
    parsed = ir.Module.parse(CARRIED, module.context)
    (kernel,) = parsed.body.operations
    check_untyped(dpu_program(kernel))
    arrays = {"y": np.zeros((1, 2), np.uint32)}
    Emulated(kernel, built, "native", results=("y",))(arrays, {"n": 10})
    assert arrays["y"].tolist() == [[55, 89]]
