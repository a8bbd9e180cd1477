"""`qcc db`: every part, on databases that are whole, damaged, missing or somebody else's."""

import json
from pathlib import Path
from typing import Any

import pytest

from qcc.autotune.database import Database
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.compiler.cli import main

LINEAR = Task("cpu.linear", {"k": 64, "n": 256}, "int4", "zen4", "qcc 1")
CONV = Task("cuda.conv2d", {"n": 8}, "int8", "sm_90", "qcc 1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    database = Database(tmp_path / "tuning.db", create=True)
    database.add(
        LINEAR,
        [
            Measurement(values={"tile": 8}, seconds=3e-3, checked=True, samples=5),
            Measurement(values={"tile": 16}, seconds=2e-3, checked=True, strategy="distinctive"),
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
    assert "did you mean cpu.linear?" in error["next"]


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
        (b"{}", 7, "missing required field `format`"),
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
