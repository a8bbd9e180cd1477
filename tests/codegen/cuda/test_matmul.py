"""Emitted products of two activations, and how ops become launches of them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import ALL_MODES
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule, default_matmul
from qcc.dialects.tile.warp_reference import run_warps
from qcc.passes.launching import Scheduling
from qcc.passes.matmul_kernel import matmul_kernel
from qcc.passes.schedule_matmul import schedule_matmul

DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}
UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}
MIXED = MatmulProblem(33, 17, "f32", "bf16", "f32", "bf16", rows=5, batch=2)
SINGLES = MatmulProblem(8, 130, "f32", "f32", "f32", rows=33)
CASES = {
    "halves": (MatmulProblem(40, 24, rows=70, batch=3), None),
    "mixed": (MIXED, None),
    "singles": (SINGLES, None),
    "side_by_side": (SINGLES, MatmulSchedule(2, 4, 1, 48, 16, 2)),
}
"""Problems, and schedules where they are not the default ones."""


def test_matmul(tmp_path: Path) -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            schedules = {name: s or default_matmul(p) for name, (p, s) in CASES.items()}
            launches = {name: matmul_kernel(CASES[name][0], s, f"matmul_{name}")
                        for name, s in schedules.items()}  # fmt: skip
        assert module.operation.verify()
        kernels = list(module.body.operations)
        emulated = build_emulated(emit_warps(kernels), tmp_path)
        for kernel, (name, (p, _)) in zip(kernels, CASES.items(), strict=True):
            batch, rows = p.batch, p.rows
            rng, s, launch = np.random.default_rng(1), schedules[name], launches[name]
            left = rng.normal(size=(batch, rows, p.depth)).astype(DTYPES[p.left])
            right = rng.normal(size=(batch, p.depth, p.columns)).astype(DTYPES[p.right])
            wide = left.astype(np.float64), right.astype(np.float64)
            wanted, size = wide[0] @ wide[1], abs(wide[0]) @ abs(wide[1])
            inputs = UNIT[p.operand] * [p.left, p.right].count("f32") * 1.01
            bound = size * (inputs + (p.depth + 4) * UNIT["f32"]) + UNIT[p.result] * abs(wanted)
            result = np.zeros(wanted.shape, DTYPES[p.result])
            given = {"left": left, "right": right, "result": result, "batch": batch, "rows": rows}
            grid = -(-rows // s.block_rows) * -(-p.columns // s.block_columns) * batch, 1, 1
            run_warps(kernel, given, grid)
            assert (abs(result.astype(np.float64) - wanted) <= bound).all(), name
            for mode in ALL_MODES:
                result[:] = 0
                values = [given[role] for role in launch.arguments]
                emulated.launch(
                    launch.kernel, grid, launch.threads, launch.shared_bytes, values, mode
                )
                assert (abs(result.astype(np.float64) - wanted) <= bound).all(), (name, mode)


TEXT = """
func.func @main(%a: tensor<?x?x40xf16>, %b: tensor<?xKx24xB>) -> tensor<?x?x24xf16> {
  %0 = "qcc.matmul"(%a, %b) : (tensor<?x?x40xf16>, tensor<?xKx24xB>) -> tensor<?x?x24xf16>
  return %0 : tensor<?x?x24xf16>
}
"""


def scheduled(depth: str, element: str) -> str:
    with make_context():
        module = ir.Module.parse(TEXT.replace("xKx", f"x{depth}x").replace("xB>", f"x{element}>"))
        schedule_matmul(Scheduling())(module.operation, None)
        assert module.operation.verify()
        return str(module)


def test_ops_become_launches(check):
    # CHECK: "tile.warp_kernel"
    # CHECK: "tile.launch"{{.*}}kernel = "matmul_0"
    # CHECK-NOT: qcc.matmul
    check(scheduled("40", "f32"))


def test_factors_of_two_halves_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="its factors are f16 and bf16"):
        scheduled("40", "bf16")


def test_more_items_than_y_and_z_may_count(check):
    """All blocks lie along x, which may have 2^31 - 1 of them: 70 000 items of two tiles."""
    text = TEXT.replace("?x?x40", "70000x3x40").replace("?x?x24", "70000x3x24")
    text = text.replace("?xKx24xB", "70000x40x24xf16")
    with make_context():
        module = ir.Module.parse(text)
        schedule_matmul(Scheduling())(module.operation, None)
        launched = str(module).partition("func.func")[2]
    # CHECK: "tile.launch"(%c70000, %c1, %c1
    check(launched)
