"""`qcc db`: every part, on databases that are whole, damaged, missing or somebody else's."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from qcc.autotune.database import Database
from qcc.autotune.database.document import decode_document
from qcc.autotune.interchange.t1 import decode_t1
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.compiler.cli import main
from qcc.dialects.knobs import Knob

LINEAR = Task("cpu.linear", {"k": 64, "n": 256}, "int4", "zen4", "qcc 1")
CONV = Task("cuda.conv2d", {"n": 8}, "int8", "sm_90", "qcc 1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    database = Database(tmp_path / "tuning.db", create=True)
    database.add(
        LINEAR,
        [
            Measurement(values={"tile": 8}, seconds=3e-3, checked=True, samples=5),
            Measurement(
                values={"tile": 16}, seconds=2e-3, checked=True, strategy="distinctive", host="me"
            ),
            Measurement(values={"tile": 32}, seconds=1e-3),
            Measurement(values={"tile": 64}, failure="timeout"),
        ],
    )
    database.add(CONV, [Measurement(values={"warps": 4}, failure="compile", detail="spills")])
    return database.path


def run(*arguments: object) -> int:
    return main(["db", *map(str, arguments)])


def result(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    assert run(*arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


def test_list(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--database", path) == 0
    shown = capsys.readouterr().out
    assert shown.split("\n")[1].split() == [
        LINEAR.key, "cpu.linear", "k=64", "n=256", "int4", "zen4", "4", "1", "2", "user",
    ]  # fmt: skip
    rows = [row for row in result(capsys, "list", "--database", path) if row["from"] == "user"]
    assert [(row["key"], row["tried"], row["failed"], row["seconds"]) for row in rows] == [
        (LINEAR.key, 4, 1, 2e-3),
        (CONV.key, 1, 1, None),
    ]


def test_show(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = result(capsys, "show", LINEAR.key[:6], "--database", path, "--limit", 2)
    assert [each["seconds"] for each in row["measurements"]] == [1e-3, 2e-3]
    assert row["failed"] == {"timeout": 1}
    assert run("show", "*", "--database", path) == 0
    shown = capsys.readouterr().out
    assert "tile=32  unchecked" in shown
    assert "failed: compile 1" in shown


def test_best_is_checked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("best", "cpu.linear", "cuda.*", "--database", path) == 0
    shown = capsys.readouterr().out
    assert "2 ms  tile=16" in shown
    assert "nothing that was checked worked" in shown
    [linear] = result(capsys, "best", "cpu.linear", "--database", path)
    assert linear["best"]["values"] == {"tile": 16}


def test_unknown_task_names_the_nearest(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = result(capsys, "best", "cpu.linera", "--database", path, code=2)["error"]
    assert error["code"] == "task-unknown"
    assert "did you mean cpu.linear" in error["next"]


def test_export_then_import(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, other = tmp_path / "all.json", tmp_path / "other.db"
    assert run("export", "cpu.*", "cuda.*", "--database", path, "-o", document) == 0
    assert "5 measurements of 2 tasks" in capsys.readouterr().out
    for count in (5, 0):
        added = result(capsys, "import", document, "--database", other)["added"]
        assert added == {str(document): count}
    assert Database(other).measurements(LINEAR) == Database(path).measurements(LINEAR)
    assert Database(other).measurements(CONV) == Database(path).measurements(CONV)
    assert run("export", "cpu.*", "--database", path, "-o", path) == 2
    assert "output-is-input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code", "why"),
    [
        (b"", 7, "truncated"),
        (b"{}", 7, "none of the fields format, results and cache"),
        (b'{"format": "other"}', 7, "Invalid enum value 'other'"),
        (b'{"format": "qcc-tuning", "version": 2, "tasks": []}', 3, "a version above 1"),
        (
            b'{"format": "qcc-tuning", "version": 1, "tasks": [{"task": {"kernel": "a", "problem":'
            b' {}}, "measurements": [{"values": {}, "seconds": -1}]}]}',
            7,
            "-1.0 seconds",
        ),
        (
            b'{"format": "qcc-tuning", "version": 1, "tasks": [{"task": {"kernel": "a", "problem":'
            b' {}}, "measurements": [{"values": {}, "seconds": "1"}]}]}',
            7,
            "$.tasks[0].measurements[0].seconds",
        ),
        (b"\xff\xfe" * 20, 7, ""),
    ],
)
def test_import_of_anything_else_changes_nothing(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    code: int,
    why: str,
) -> None:
    good, bad, other = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "other.db"
    assert run("export", "--database", path, "-o", good) == 0
    capsys.readouterr()
    bad.write_bytes(content)
    error = result(capsys, "import", good, bad, "--database", other, code=code)["error"]
    assert why in error["why"]
    assert str(bad) in error["where"]
    assert not other.exists()


def test_results_of_another_tuner(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T4 that names no task, in gzip; it wins only where somebody vouches for its checks."""
    document = {
        "metadata": {"timeunit": "miliseconds"},
        "results": [
            {
                "configuration": {"tile": 4, "fast": True},
                "times": {"compilation": 2.0},
                "invalidity": "correct",
                "correctness": 1,
                "measurements": [{"name": "time", "value": 0.5, "unit": ""}],
                "objectives": ["time"],
            }
        ],
    }
    results, other = tmp_path / "results.json.gz", tmp_path / "other.db"
    results.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert run("import", results, "--database", other) == 7
    assert "it does not say what was tuned" in capsys.readouterr().err
    named = ("--kernel", "gemm", "--problem", "n=64", "alpha=0.5", "order=row", "--device", "A100")
    assert run("import", results, "--database", other, *named) == 0
    task = Task("gemm", {"n": 64, "alpha": 0.5, "order": "row"}, device="A100")
    [measured] = Database(other).measurements(task)
    assert (measured.seconds, measured.values) == (5e-4, {"fast": 1, "tile": 4})
    capsys.readouterr()
    assert result(capsys, "best", "gemm", "--database", other)[0]["best"] is None
    assert run("import", results, "--database", other, *named, "--checked") == 0
    capsys.readouterr()
    assert result(capsys, "best", "gemm", "--database", other)[0]["best"]["seconds"] == 5e-4
    assert run("import", results, "--database", other, "--kernel", "a", "--problem", "n") == 2


@pytest.mark.parametrize("kind", ["t4", "cache"])
def test_export_for_another_tuner_and_back(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out, other = tmp_path / "out.json", tmp_path / "other.db"
    assert run("export", "--database", path, "--as", kind, "-o", out) == 2
    assert "holds one task" in capsys.readouterr().err
    assert run("export", LINEAR.key, "--database", path, "--as", kind, "-o", out) == 0
    named = ("--kernel", "cpu.linear") if kind == "cache" else ()
    assert run("import", out, "--database", other, *named) == 0
    [task] = Database(other).tasks()
    found, before = Database(other).measurements(task), Database(path).measurements(LINEAR)
    assert [each.seconds for each in found] == [each.seconds for each in before]
    assert [each.values for each in found] == [each.values for each in before]
    if kind == "t4":
        assert (task, found) == (LINEAR, before)


def test_long_texts_are_cut_for_people_alone(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = '["Split"]' * 100
    task = Task("tvm.metaschedule", {"arguments": trace})
    Database(path).add(task, [Measurement(values={"trace": trace}, seconds=1.0, checked=True)])
    for part in ("list", "show", "best"):
        assert run(part, "tvm.*", "--database", path) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) < 150
    [row] = result(capsys, "best", "tvm.*", "--database", path)
    assert row["best"]["values"]["trace"] == row["task"]["problem"]["arguments"] == trace


def test_export_of_the_best_alone(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.json"
    assert run("export", "--best", "--database", path, "-o", out) == 0
    store = decode_document(out.read_bytes(), str(out))
    [best] = store.measurements(LINEAR)
    assert (best.values, best.host, best.checked) == ({"tile": 16}, "", True)
    assert CONV not in store.tasks()


def test_export_of_what_was_measured_as_a_space(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "space.json"
    arguments = ("--database", path, "--as", "t1", "-o", out, "--recording", "cache.json")
    assert run("export", "cpu.linear", *arguments) == 0
    space = decode_t1(out.read_bytes(), str(out))
    assert space.knobs == (Knob("tile", (8, 16, 32, 64)),)
    assert json.loads(out.read_text())["KernelSpecification"]["SimulationInput"] == "cache.json"


def test_merge_is_a_union(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Database(tmp_path / "other.db", create=True)
    late = Measurement(values={"tile": 128}, seconds=1e-4, checked=True)
    other.add(LINEAR, [late, *Database(path).measurements(LINEAR)])
    for count in (1, 0):
        added = result(capsys, "merge", other.path, "--database", path)["added"]
        assert added == {str(other.path): count}
    assert Database(path).measurements(LINEAR)[-1] == late


def test_check_repairs_and_says_so(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--database", path) == 0
    assert "5 measurements of 2 tasks, all sound" in capsys.readouterr().out
    path.write_bytes(b"garbage" * 1000)
    assert run("check", "--database", path) == 0
    shown = capsys.readouterr()
    assert "5 measurements of 2 tasks" in shown.out
    assert "set aside as 'tuning.db.damaged-1'" in shown.err


@pytest.mark.parametrize("part", ["list", "show", "best", "check"])
def test_named_database_must_exist(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(part, "--database", tmp_path / "none.db") == 2
    assert "database-missing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_own_database_is_made_on_first_use(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QCC_DATABASE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert all(row["from"] == "shipped" for row in result(capsys, "list"))
    assert run("merge", path) == 0
    assert (tmp_path / "data" / "qcc" / "tuning.db").exists()
    capsys.readouterr()
    assert sum(row["from"] == "user" for row in result(capsys, "list")) == 2
    monkeypatch.setenv("QCC_DATABASE", str(path))
    assert sum(row["from"] == "user" for row in result(capsys, "list", "cpu.*")) == 1
