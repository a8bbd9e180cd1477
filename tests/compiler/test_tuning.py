"""`qcc tune` on a model, and compiling with what it found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import qcc
from qcc.autotune.choice import CHOSEN
from qcc.autotune.database import Collection, Database, Entry
from qcc.autotune.database.document import encode_document
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measure.executors.shared_folder import Job
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.codegen.cpu.features import host_features
from qcc.compiler.artifact import Artifact
from qcc.compiler.cli import main
from qcc.compiler.doctor import cpu_model
from qcc.compiler.rebuild import rebuild
from qcc.compiler.tuning import cpu_jobs, upmem_jobs
from qcc.compiler.tuning.choices import Choice
from qcc.compiler.tuning.cpu_jobs import cpu_task
from qcc.compiler.tuning.serving import accepts
from qcc.compiler.tuning.stored_schedules import StoredSchedules
from qcc.dialects.cpu.default_schedule import default_schedule
from qcc.dialects.cpu.schedule import LinearProblem, ScheduledLayer
from qcc.dialects.cpu.space import values_of
from qcc.dialects.errors import UsageError

ROWS = 48


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two equal layers, and one of another shape."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 96), torch.nn.Linear(96, 64), torch.nn.Linear(64, 96)]
    exported = torch.export.export(torch.nn.Sequential(*layers), (torch.randn(ROWS, 64),))
    path = tmp_path_factory.mktemp("tuning") / "layers.pt2"
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def database(program: Path) -> Path:
    """What a short tune leaves."""
    path = program.with_name("tuned.db")
    assert main(tune(program, path, "--trials", "2")) == 0
    return path


def tune(program: Path, database: Path, *more: str) -> list[str]:
    words = ["tune", str(program), "--format", "int8", "--database", str(database)]
    return [*words, "--strategy", "random", "--threads", "1", "--builders", "1", *more]


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_equal_layers_are_one_task_and_resuming_repeats_nothing(program, database, capsys):
    assert main([*tune(program, database, "--trials", "2", "--resume"), "--json"]) == 0
    found = result(capsys)
    assert [task["layers"] for task in found["tasks"]] == [["0", "2"], ["1"]]
    assert [(task["trials"], task["measured"]) for task in found["tasks"]] == [(2, 0), (2, 0)]
    assert all(0 < task["legal_share"] < 1 for task in found["tasks"])
    for task in Database(database).tasks():
        kept = Database(database).measurements(task)
        assert kept[0].strategy == "default"
        # A similar task is asked first, this one's or a shipped one.
        assert kept[1].strategy in ("neighbour", "random")
        assert all(each.checked and each.seconds for each in kept)
        assert (task.kernel, task.format, task.device) == ("cpu.linear", "int8", cpu_model())


@pytest.fixture(scope="module")
def chosen(database: Path) -> tuple[Path, dict[str, Any]]:
    """A database in which another schedule than the default won for one of the tasks."""
    task = next(t for t in Database(database).tasks() if t.problem["k"] == 64)
    random = next(m for m in Database(database).measurements(task) if m.strategy != "default")
    path = database.with_name("chosen.db")
    won = msgspec.structs.replace(random, strategy=CHOSEN, when=random.when + 1)
    Database(path, create=True).add(task, [random, won])
    return path, random.values


@pytest.fixture(scope="module")
def tuned(program: Path, chosen: tuple[Path, Any]) -> Path:
    out = program.with_name("tuned.qcc")
    words = ["compile", str(program), "--format", "int8", "--schedules", str(chosen[0])]
    assert main([*words, "-o", str(out)]) == 0
    return out


def test_layers_take_what_was_chosen_and_the_report_says_so(tuned, chosen, tmp_path, capsys):
    _, values = chosen
    with Artifact.open(tuned) as artifact:
        report, model = artifact.json("report.json"), artifact.read("model.mlir").decode()
    assert report["schedules"]["database"] == "chosen.db"
    found = {each["layer"]: each for each in report["schedules"]["layers"]}
    assert {name: each["source"] for name, each in found.items()} == {
        "0": "chosen.db", "1": "default", "2": "chosen.db",
    }  # fmt: skip
    assert found["0"]["schedule"] == values
    assert found["1"]["reason"] == "not tuned"
    assert f"task_rows = {values['task_rows']} : i64" in model
    assert main(["verify", str(tuned)]) == 0
    assert main(["report", str(tuned), "-o", str(tmp_path / "r.html")]) == 0
    assert "chosen.db" in (tmp_path / "r.html").read_text()


def test_an_exported_document_gives_the_same_bytes(program, chosen, tuned, tmp_path):
    document = tmp_path / "chosen.json"
    document.write_bytes(encode_document(Database(chosen[0])))
    module = qcc.compile(str(program), recipe="int8", schedules=document, golden=False)
    module.save(tmp_path / "again.qcc")
    with Artifact.open(tuned) as first, Artifact.open(tmp_path / "again.qcc") as again:
        for member in ("kernels/cpu.o", "model.mlir"):
            assert again.read(member) == first.read(member)


def test_a_processor_that_an_artifact_is_not_for_gets_the_defaults(tuned, chosen):
    with Artifact.open(tuned) as artifact:
        text = artifact.read("model.mlir").decode()
    unfit = text.replace(f"rows = {chosen[1]['rows']} : i64", "rows = 999 : i64")
    assert unfit != text
    assert rebuild(unfit).parts


def test_a_database_of_nothing_here_is_told(program, tmp_path):
    Database(tmp_path / "empty.db", create=True)
    with pytest.warns(UserWarning, match=r"'empty.db' has no layer of this model"):
        qcc.compile(str(program), recipe="int8", schedules=tmp_path / "empty.db", golden=False)


PROBLEM = LinearProblem(96, 64, "int8")
DEFAULT = default_schedule(PROBLEM, frozenset(host_features()))
OTHER = values_of(replace(DEFAULT, task_rows=2 * DEFAULT.task_rows))


def choice(entries: Sequence[Entry], rows: int | None = 128) -> Choice:
    stored = StoredSchedules([("kept", Collection(entries))])
    return stored.choice(ScheduledLayer("fc", PROBLEM, rows, "", DEFAULT, given=False))


def took(values: dict[str, Any], seconds: float, m: int = 128, threads: int = 1, **more) -> Entry:
    measurement = Measurement(values=values, seconds=seconds, checked=True, **more)
    return Entry(cpu_task(PROBLEM, m, "", threads), measurement)


def test_what_was_not_compared_must_be_much_faster():
    default = took(values_of(DEFAULT), 1.0)
    assert choice([default, took(OTHER, 0.95)]).reason == "nothing was clearly faster"
    assert choice([default, took(OTHER, 0.5)]).source == "kept"
    assert choice([took(OTHER, 0.5)]).source == "default"
    assert choice([default, took(OTHER, 0.95, strategy=CHOSEN)]).source == "kept"


def test_layers_take_what_was_tuned_for_their_rows():
    many = took(OTHER, 0.5, m=256, strategy=CHOSEN)
    assert choice([many]).reason == "not tuned"
    assert choice([many], rows=None).source == "kept"
    few = took(values_of(replace(DEFAULT, task_rows=DEFAULT.rows)), 0.5, m=9, strategy=CHOSEN)
    assert choice([few, many], rows=None).values == OTHER


def test_what_cannot_be_built_here_is_left():
    unfit = took({**OTHER, "rows": 16, "panels": 4, "task_panels": 4}, 0.5, strategy=CHOSEN)
    assert "registers" in choice([unfit]).reason
    foreign = took({"rows": 8, "unroll": 4}, 0.5, strategy=CHOSEN)
    assert choice([foreign]).reason == "the database has values of another version"


@pytest.mark.parametrize("values", [{"tile": 4}, {**OTHER, "rows": "x"}, {**OTHER, "rows": 0}])
def test_values_of_others_are_a_reason_for_the_default(values):
    made = choice([took(values, 0.5, strategy=CHOSEN)])
    assert (made.source, made.values) == ("default", values_of(DEFAULT))
    assert made.reason


@pytest.mark.parametrize("size", ["many", 0.5])
def test_a_task_of_others_sizes_is_for_no_layer(size):
    entry = took(OTHER, 0.5, strategy=CHOSEN)
    problem = {"n": PROBLEM.n, "k": PROBLEM.k, "m": size, "threads": size}
    task = msgspec.structs.replace(entry.task, problem=problem)
    for rows in (128, None):
        assert choice([Entry(task, entry.measurement)], rows).reason


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--strategy", "luck"], 2, "use one of distinctive"),
        (["--executor", "cloud"], 2, "there is no executor 'cloud'"),
        (["--executor", "ray:"], 2, "there is no executor 'ray:'"),
        (["--target", "tpu"], 3, "no target 'tpu'"),
    ],
)
def test_what_cannot_be_tuned_is_refused(program, tmp_path, capsys, words, code, told):
    assert main([*tune(program, tmp_path / "none.db"), *words]) == code
    assert told in capsys.readouterr().err


def test_foreign_and_missing_databases_are_refused(program, tmp_path, capsys):
    foreign = tmp_path / "notes.txt"
    foreign.write_text("dear diary")
    assert main(tune(program, foreign)) == 2
    assert "is no tuning database" in capsys.readouterr().err
    assert foreign.read_text() == "dear diary"
    assert main(tune(program, tmp_path / "none.db", "--resume")) == 2
    assert "there is no tuning database" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no tuning database"):
        qcc.compile(str(program), recipe="int8", schedules=foreign, golden=False)


def test_a_model_without_such_layers_is_refused(tmp_path, capsys):
    layer = torch.export.export(torch.nn.Conv2d(3, 4, 3), (torch.randn(1, 3, 8, 8),))
    torch.export.save(layer, tmp_path / "conv.pt2")
    assert main(tune(tmp_path / "conv.pt2", tmp_path / "none.db")) == 3
    assert "no layer that can be tuned" in capsys.readouterr().err


def test_a_host_of_another_processor_or_backend_is_not_asked():
    task = cpu_task(PROBLEM, 128, "", 1)
    elsewhere = msgspec.structs.replace(task, device="another processor")
    upmem = Task("upmem.linear", {"rows": 1}, device="v1A, 4 DPUs")
    assert accepts(Job(BackendName(cpu_jobs.BACKEND), task, []))
    assert not accepts(Job(BackendName(cpu_jobs.BACKEND), elsewhere, []))
    assert accepts(Job(BackendName(upmem_jobs.BACKEND), upmem, []))
    assert not accepts(Job(BackendName("os:system"), task, []))
