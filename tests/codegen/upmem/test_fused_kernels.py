"""Layers whose kernels compute a function of their results: the same integers everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.upmem.build_dpu import check_types, check_untyped
from qcc.codegen.upmem.emit_dpu import dpu_program
from qcc.codegen.upmem.execute import Emulated
from qcc.codegen.upmem.toolchain import candidates
from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import parse_spelling
from qcc.dialects.pim.function_forms import evaluated
from qcc.dialects.pim.fused import RELATIVE, FusedFunction, FusedLinear, fused_evaluation
from qcc.dialects.pim.linear import HeldWeights, IntegerLinear
from qcc.dialects.pim.reference import run_kernel
from qcc.dialects.pim.schedule import Schedule, Share
from qcc.dialects.pim.smooth import SMOOTH, Elementwise
from qcc.passes.pim_kernel import pim_kernel

DPU = pim.device("v1A")
ROWS, K, TOKENS = 22, 70, 5
# Weights, activations, a function, and a schedule of every kind of result array.
CASES = {
    "multiply": (
        "int8", "int8", "silu",
        Schedule("multiply", 1, 8, words=2, row_block=2, tasklets=3, row_parts=2),
    ),
    "lanes": (
        "int4", "int4", "gelu",
        Schedule("lanes", 1, 16, shared=True, words=2, row_block=2, tasklets=4, row_parts=2,
                 token_parts=2),
    ),
    "lanes of bytes": (
        "binary", "int4", "gelu",
        Schedule("lanes", 6, 4, shared=True, words=2, row_block=4, tasklets=2, lane_bits=8),
    ),
    "fly": ("int2", "int4", "tanh", Schedule("fly", 5, 2, shared=True, row_block=4, tasklets=2)),
    "padded K": (
        "binary", "binary", "sigmoid",
        Schedule("canonical", 4, 4, "resident", row_block=4, tasklets=4),
    ),
}  # fmt: skip


def layer(weight: str, activation: str, name: str) -> tuple[FusedLinear, HeldWeights, np.ndarray]:
    """With weights and a bias."""
    rng = np.random.default_rng(0)
    formats = parse_spelling(f"{weight}<group=channel>"), parse_spelling(activation)
    linear = IntegerLinear(ROWS, K, *formats)
    numbers = rng.standard_normal((ROWS, K)).astype(np.float32) * 0.1
    held = linear.held(formats[0].encode_rows(numbers))
    bias = rng.standard_normal(ROWS).astype(np.float32)
    return FusedLinear(linear, FusedFunction(name, Elementwise.of(name))), held, bias


def inputs() -> np.ndarray:
    """More tokens than a launch takes: normal, zero, so large that the host has them, tiny, NaN."""
    x = (np.random.default_rng(1).standard_normal((TOKENS + 3, K)) * 3).astype(np.float32)
    x[0] = 0
    x[1] *= 1e8
    x[2] *= 1e-9
    x[3, 0] = np.nan
    return x


@pytest.mark.parametrize("case", CASES)
def test_results_are_near_those_of_the_function(case: str) -> None:
    fused, held, bias = layer(*CASES[case][:3])
    plain = fused.linear(inputs(), held, bias)
    smooth, table = SMOOTH[fused.function.name], fused.function.form.table
    exact = smooth.function(plain.astype(np.float64))
    bound = fused.function.form.bound(smooth) + 2 * table.step + 1.2 * RELATIVE * abs(plain - bias)
    found = fused(inputs(), held, bias, None)
    assert np.isnan(found[3]).all()
    known = ~np.isnan(found)
    assert (abs(found - exact)[known] <= bound[known]).all()


def test_what_halfwords_do_not_hold_is_the_hosts() -> None:
    """Scales below 0, and biases of more steps than 28 bits."""
    fused, held, bias = layer("int8", "int8", "silu")
    evaluate = fused.function.form
    negative = replace(held, factors=held.factors * np.where(np.arange(ROWS) == 3, -1, 1)[:, None])
    for weights, added in ((negative.factors, bias), (held.factors, bias * np.float32(1e9))):
        given = replace(held, factors=weights.astype(np.float32))
        plain = fused.linear(inputs()[4:], given, added)
        assert np.array_equal(fused(inputs()[4:], given, added, None), evaluated(evaluate, plain))


@pytest.mark.parametrize("case", CASES)
def test_all_that_run_a_fused_kernel_give_the_same(case: str, tmp_path: Path) -> None:
    fused, held, bias = layer(*CASES[case][:3])
    share = Share(fused.linear.problem(TOKENS), CASES[case][3])
    expected = fused(inputs(), held, bias, None)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_kernel(share, DPU, "fused", fused.function)
        assert module.operation.verify()
        check_untyped(dpu_program(kernel))
        runs: list[Callable[[Mapping[str, np.ndarray]], object]] = [
            lambda arrays: run_kernel(kernel, arrays, {})
        ]
        runs.append(Emulated(kernel, tmp_path, "native", seed=3))
        if candidates():
            check_types(dpu_program(kernel))
            runs.append(Emulated(kernel, tmp_path, "rv32", seed=3))
        for run in runs:
            evaluate = fused_evaluation(share, fused, run, held, fused.row_words(held, bias))
            found = fused(inputs(), held, bias, evaluate)
            assert np.array_equal(found, expected, equal_nan=True)
