"""Kernels of softmax and norms: the integers that their forms say, on both emulators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from qcc.dialects.pim.function_forms import Form
from qcc.dialects.pim.functions import joined_tables
from qcc.dialects.pim.lookup_tables import DTYPES
from qcc.dialects.pim.reference import run_kernel
from qcc.dialects.pim.row_functions import Norm, Softmax
from qcc.dialects.pim.slots import traces
from qcc.dialects.pim.timing import simulate
from qcc.passes.pim_row_kernel import pim_row_kernel
from qcc.passes.pim_row_sweeps import RowShare

DPU = pim.device("v1A")
DPUS = 2
# Columns, rows of a DPU, tasklets, how many numbers of a row a tasklet holds, all at one row.
SIZES = {
    "one": (1, 2, 2, 1, False),
    "odd": (7, 3, 4, 7, False),
    "whole": (40, 5, 3, 40, False),
    "chunks": (128, 3, 2, 64, False),
    "longer than WRAM": (101, 3, 2, 32, False),
    "together": (96, 2, 8, 12, True),
}
TIMED = ("whole", "longer than WRAM", "together")
"""Sizes that the timed emulator runs, too."""
FORMS = ("softmax", "layer_norm", "rms_norm")


def form_named(name: str, columns: int) -> Softmax | Norm:
    if name == "softmax":
        return Softmax.of(columns, empty_rows=True)
    return Norm.of(columns, 1e-5, centred=name == "layer_norm")


def inputs(columns: int, rows: int) -> np.ndarray:
    """Large, tiny, one far above the rest, all alike, and masked rows among normal ones."""
    x = np.random.default_rng(columns).standard_normal((DPUS * rows, columns)) * 3
    x[0] *= 1e6
    x[1] *= 1e-9
    x[2, 0] = 3e38
    x[3] = -5
    x = x.astype(np.float32)
    x[-1, : columns // 2] = -np.inf
    return x


def arrays_of(form: Form, codes: np.ndarray) -> dict[str, np.ndarray]:
    tables = {
        name: np.broadcast_to(table, (DPUS, len(table))).copy()
        for name, table in zip(("base", "slope"), joined_tables(form), strict=True)
    }
    rows = len(codes) // DPUS
    results = np.zeros((DPUS, rows, form.widths[1]), DTYPES[form.kinds[1]])
    return tables | {"inputs": codes.reshape(DPUS, rows, -1).copy(), "results": results}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FORMS)
def test_all_that_run_a_kernel_give_the_same(name: str, size: str, tmp_path: Path) -> None:
    columns, rows, tasklets, chunk, together = SIZES[size]
    form = form_named(name, columns)
    codes = form.encode(inputs(columns, rows))
    expected = form(codes)[:, :columns]
    timed = candidates() and size in TIMED
    rungs: list[Rung] = ["native", *(["rv32"] if timed else [])]
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_row_kernel(RowShare(form, rows, tasklets, chunk, together), DPU, "rows")
        assert module.operation.verify()
        runs: list[Callable[[Mapping[str, np.ndarray]], object]] = [
            lambda arrays: run_kernel(kernel, arrays, {})
        ]
        runs += [Emulated(kernel, tmp_path, rung, seed=3) for rung in rungs]
        for run in runs:
            arrays = arrays_of(form, codes)
            run(arrays)
            found = arrays["results"].reshape(len(codes), -1)[:, :columns]
            assert np.array_equal(found, expected)


@pytest.mark.skipif(not candidates(), reason="needs clang for RV32, from PATH or qcc[pim-emu]")
@pytest.mark.parametrize("name", FORMS)
def test_compilers_find_nothing_and_the_model_knows_the_time(name: str, tmp_path: Path) -> None:
    form = form_named(name, 101)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_row_kernel(RowShare(form, 3, 2, 32), DPU, "rows")
        check_untyped(dpu_program(kernel))
        check_types(dpu_program(kernel))
        emulated = Emulated(kernel, tmp_path, "rv32")
        emulated(arrays_of(form, form.encode(inputs(101, 3))))
        predicted = simulate(traces(kernel), DPU).cycles
        seen = simulate(emulated.launches[0].traces, DPU).cycles
    assert predicted == pytest.approx(seen, rel=0.15)


@pytest.mark.parametrize("name", ["softmax", "layer_norm"])
def test_text_of_a_row_kernel(name: str, golden: Callable[[str, str], None]) -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_row_kernel(RowShare(form_named(name, 64), 4, 4, 64), DPU, name)
        golden(emit_dpu(kernel), ".c")
