"""The tasks of a model for other tuners: their spaces as T1 JSON, and kernels that these drive."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from qcc.autotune.database import Database, best_of
from qcc.autotune.draw import draw
from qcc.autotune.interchange.t1 import decode_t1
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.tuned import Job
from qcc.compiler.cli import main
from qcc.compiler.options import CompileOptions
from qcc.compiler.tuning.driving import driven
from qcc.compiler.tuning.model_jobs import ModelJob, Tunable
from qcc.compiler.tuning.space_files import write_spaces
from qcc.compiler.tuning.upmem_backend import pim_problem
from qcc.compiler.tuning.upmem_jobs import upmem_task
from qcc.compiler.upmem.device import chosen_device
from qcc.dialects.knobs import Space
from qcc.dialects.pim.space import linear_space

DPUS = chosen_device("v1A", 4)
OPTIONS = CompileOptions(recipe={"default": {"weights": "int8"}}, calibration="random")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    exported = torch.export.export(torch.nn.Linear(64, 96), (torch.randn(16, 64),))
    path = tmp_path_factory.mktemp("driving") / "layer.pt2"
    torch.export.save(exported, path)
    return path


def test_another_tuner_drives_the_kernels_of_a_model(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The space comes from the file, the proposals from outside, the times from real code."""
    folder, database = tmp_path / "spaces", tmp_path / "tuning.db"
    arguments = ["tune", str(program), "--format", "int8", "--threads", "1"]
    assert main([*arguments, "--spaces", str(folder), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["left_out"] == []
    space = decode_t1(Path(row["file"]).read_bytes(), row["file"])
    configs = draw(space, np.random.default_rng(0), 1)
    with driven(str(program), database, OPTIONS, "others", threads=1) as [task]:
        assert space.knobs == task.space.knobs
        every = np.indices([len(knob.values) for knob in space.knobs]).reshape(len(space.knobs), -1)
        assert (space.legal(every.T) == task.space.legal(every.T)).all()
        found = [task.measure(space.values(config)) for config in configs.tolist()]
    assert all(each.checked and each.seconds for each in found)
    kept = Database(database).measurements(task.task)
    assert [each.strategy for each in kept] == ["others"] * len(kept)
    best = best_of(kept)
    assert best is not None
    assert best.seconds == min(each.seconds or 0 for each in found)


def test_rules_that_only_a_verifier_knows_are_named(tmp_path: Path) -> None:
    task = upmem_task({"rows": 64, "k": 96, "tokens": 16}, "int4 x int4", DPUS)
    job = Job(task, linear_space(pim_problem(task), DPUS), {"method": "fly"})
    tunable = Tunable("DPUs", BackendName("none"), [ModelJob(job, ("fc",), 1)])
    [row] = write_spaces(tunable, tmp_path / "new")
    assert row["left_out"] == ["the verifier of schedules"]
    assert 0 < row["refused"] < 1
    space = decode_t1(Path(row["file"]).read_bytes(), row["file"])
    configs = draw(space, np.random.default_rng(0), 64)
    kept = [rule for rule in job.space.constraints if rule.reason not in row["left_out"]]
    assert len(kept) == 3
    assert Space("kept", job.space.knobs, tuple(kept)).legal(configs).all()
    assert 1 - job.space.legal(configs).mean() == pytest.approx(row["refused"], abs=0.2)
