"""Registers are predicted from what trials say that ptxas told; the command says how well."""

from __future__ import annotations

from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest

from benchmarks import registers
from qcc.autotune.database import Database
from qcc.autotune.measurement import Measurement
from qcc.compiler.tuning.cuda_families import values
from qcc.compiler.tuning.cuda_tasks import device_text, matmul_task
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule
from qcc.dialects.tile.register_model import SPILLED, Resources, predicted
from qcc.dialects.tile.register_terms import matmul_terms

SCHEDULES = [
    MatmulSchedule(2, 2, strips, columns, depth, 3)
    for strips, columns, depth in ((1, 16, 32), (1, 32, 64), (1, 48, 16), (2, 16, 64), (2, 32, 16),
                                   (2, 48, 32), (4, 16, 16), (4, 32, 32), (4, 48, 64))
]  # fmt: skip
WEIGHTS = {"all": 30.0, "sums": 1.5, "left": 4.0}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two tasks whose kernels take exactly what WEIGHTS say."""
    store = Database(tmp_path / "t.db", create=True)
    for rows in (64, 128):
        problem = MatmulProblem(64, 128, rows=rows)
        told = [_told(problem, each) for each in SCHEDULES]
        store.add(matmul_task(problem, device_text("sm_80")), told)
    return store.path


def _told(problem: MatmulProblem, schedule: MatmulSchedule) -> Measurement:
    terms = matmul_terms(problem, schedule, machine("sm_80"))
    found = predicted(terms, {"matmul": WEIGHTS})
    resources = {"registers": found.registers, "spill_bytes": found.spills}
    return Measurement(values=values(schedule), seconds=1e-6, modelled=True, resources=resources)


def test_a_fit_finds_what_registers_are_for(database: Path, capsys: Any) -> None:
    assert registers.main(["--database", str(database), "--fit"]) == 0
    found = literal_eval(capsys.readouterr().out)["matmul"]
    assert found == pytest.approx(WEIGHTS, abs=0.02)
    assert registers.main(["--database", str(database)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "matmul" in line).split()
    assert row[1:4] == ["2", "18", row[3]]
    assert float(row[3]) > 0.9
    assert row[5:7] == ["1.00", "0%"]


def test_what_is_more_than_a_thread_may_have_spills() -> None:
    big = MatmulSchedule(8, 4, 4, 128, 16, 2)
    terms = matmul_terms(MatmulProblem(64, 1024), big, machine("sm_80"))
    assert terms.most == 64
    assert predicted(terms, {"matmul": {"all": 70.0}}) == Resources(64, 6 * SPILLED)
