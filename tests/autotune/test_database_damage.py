"""Kills, damage, full disks and other processes: the database loses nothing that it took."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from qcc.autotune.database import Database, Entry, entries_of, open_store
from qcc.autotune.database.journal import locked
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.dialects.errors import IntegrityError, ResourceError, UnsupportedError

WRITER = """
import sys
from pathlib import Path
from qcc.autotune.database import Database
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
database = Database(Path(sys.argv[1]), create=True)
task = Task("cpu.linear", {"n": 64})
for number in range(int(sys.argv[2])):
    values = {"writer": int(sys.argv[3]), "number": number}
    database.add(task, [Measurement(values=values, seconds=1e-3)])
    print(number, flush=True)
"""
TASKS = [Task("cpu.linear", {"n": 64 << shift}, "int4", "zen4", "qcc 1") for shift in range(6)]


def measured(count: int, start: int = 0) -> list[Measurement]:
    return [
        Measurement(values={"tile": start + tile}, seconds=(1 + tile) * 1e-3, checked=True)
        for tile in range(count)
    ]


def filled(path: Path, count: int = 40) -> list[Entry]:
    """A database of `count` measurements of each task in `path`; gives its entries."""
    database = Database(path, create=True)
    database.add_all([Entry(task, each) for task in TASKS for each in measured(count)])
    return list(entries_of(database))


def writer(path: Path, count: int, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count), str(number)],
        stdout=subprocess.PIPE,
        text=True,
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuning.db"


@pytest.mark.parametrize("after", [1, 7])
def test_killed_writer_loses_nothing_that_it_was_told_is_kept(path: Path, after: int) -> None:
    process = writer(path, 10_000, 0)
    assert process.stdout is not None
    acknowledged = -1
    for _ in range(after):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    acknowledged = int((process.stdout.read().split() or [acknowledged])[-1])
    process.wait()
    process.stdout.close()
    [task] = Database(path).tasks()
    kept = [each.values["number"] for each in Database(path).measurements(task)]
    assert kept in (list(range(acknowledged + 1)), list(range(acknowledged + 2)))


def test_two_writers_at_once(path: Path) -> None:
    processes = [writer(path, 30, number) for number in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert [len(text.split()) for text in said] == [30, 30]
    [task] = Database(path).tasks()
    found = Database(path).measurements(task)
    for number in range(2):
        own = [each.values["number"] for each in found if each.values["writer"] == number]
        assert own == list(range(30))
    Database(path).verify()


def test_kill_between_journal_and_index(path: Path) -> None:
    filled(path, 1)
    late = Entry(TASKS[0], measured(1, start=100)[0])
    with locked(Database(path).journal_path) as journal:
        journal.append([late])
    assert late.measurement in Database(path).measurements(TASKS[0])


def test_torn_last_line_is_cut_off(path: Path) -> None:
    entries = filled(path)
    journal = path.with_name("tuning.db.journal")
    whole = journal.read_bytes()
    path.unlink()
    journal.write_bytes(whole[:-7])
    database = Database(path)
    assert list(entries_of(database)) == entries[:-1]
    database.add(entries[-1].task, [entries[-1].measurement])
    assert journal.read_bytes() == whole


def test_zeros_after_a_power_cut_are_cut_off(path: Path) -> None:
    entries = filled(path)
    journal = path.with_name("tuning.db.journal")
    whole = journal.read_bytes()
    for tail in (1, 1 << 16, 200_000):
        journal.write_bytes(whole + bytes(tail))
        assert list(entries_of(Database(path))) == entries
        assert journal.read_bytes() == whole


def test_line_of_an_impossible_measurement_is_left_out(path: Path) -> None:
    entries = filled(path, 1)
    journal = path.with_name("tuning.db.journal")
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    raw = msgspec.json.decode(first, type=dict[str, msgspec.Raw])["entry"]
    raw = bytes(raw).replace(b'"seconds":0.001', b'"seconds":-1.0')
    line = b'{"sum":"%s","entry":%s}\n' % (sha256(raw).hexdigest()[:32].encode(), raw)
    path.unlink()
    journal.write_bytes(b"".join([line, *rest]))
    assert list(entries_of(Database(path))) == entries[1:]


def test_damaged_line_is_left_out_and_counted(path: Path) -> None:
    entries = filled(path)
    journal = path.with_name("tuning.db.journal")
    data = bytearray(journal.read_bytes())
    place = data.index(b'"seconds":0.001') + 12
    data[place] ^= 1
    journal.write_bytes(data)
    path.unlink()
    told: list[str] = []
    assert list(entries_of(Database(path, told.append))) == entries[1:]
    assert any("1 damaged lines" in text for text in told)


def test_verify_writes_a_damaged_journal_again(path: Path) -> None:
    entries = filled(path)
    journal = path.with_name("tuning.db.journal")
    whole = journal.read_bytes()
    damaged = whole.replace(b'"seconds":0.001', b'"seconds":0.002', 1)
    journal.write_bytes(damaged)
    assert Database(path).verify() == 1
    assert journal.read_bytes() == whole
    assert path.with_name("tuning.db.journal.damaged-1").read_bytes() == damaged
    assert Database(path).verify() == 0
    assert list(entries_of(Database(path))) == entries


@pytest.mark.parametrize("size", [0, 50, 4096, 10_000])
def test_truncated_index_is_rebuilt(path: Path, size: int) -> None:
    entries = filled(path)
    os.truncate(path, size)
    check_rebuilt(path, entries, aside=size > 0)


def test_garbage_is_set_aside(path: Path) -> None:
    entries = filled(path)
    path.write_bytes(b"not a database" * 1000)
    check_rebuilt(path, entries)
    assert path.with_name("tuning.db.damaged-1").read_bytes() == b"not a database" * 1000
    path.write_bytes(b"nor this" * 1000)
    check_rebuilt(path, entries)
    assert path.with_name("tuning.db.damaged-2").exists()


def check_rebuilt(path: Path, entries: list[Entry], aside: bool = True) -> None:
    told: list[str] = []
    assert list(entries_of(Database(path, told.append))) == entries
    assert any("was built from its journal: 240 measurements" in text for text in told)
    assert any("set aside as 'tuning.db.damaged" in text for text in told) == aside


@pytest.mark.parametrize("part", ["header", "pages"])
def test_any_flipped_bit_is_harmless_or_repaired(path: Path, part: str) -> None:
    entries = filled(path)
    kept = path.with_name("kept")
    shutil.copy(path, kept)
    size = path.stat().st_size
    draw = random.Random(part)
    repaired = 0
    for _ in range(25):
        place = draw.randrange(100 if part == "header" else size)
        shutil.copy(kept, path)
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0] ^ 1 << draw.randrange(8)
            file.seek(place)
            file.write(bytes([byte]))
        told: list[str] = []
        assert sorted(each.hash for each in entries_of(Database(path, told.append))) == sorted(
            each.hash for each in entries
        ), place
        repaired += bool(told)
    assert repaired


def test_changed_value_that_sqlite_finds_in_order_is_repaired(path: Path) -> None:
    entries = filled(path)
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("""UPDATE measurements SET json = replace(json, '0.001', '0.0001')""")
        sql.execute("DELETE FROM measurements WHERE number = 7")
        sql.commit()
    check_rebuilt(path, entries)


def test_lost_journal_is_written_again(path: Path) -> None:
    entries = filled(path)
    journal = path.with_name("tuning.db.journal")
    before = journal.read_bytes()
    journal.unlink()
    told: list[str] = []
    assert list(entries_of(Database(path, told.append))) == entries
    assert journal.read_bytes() == before
    assert "240 measurements were written again" in told[0]


@pytest.mark.parametrize("copied", ["other.db", "other.db.journal"])
def test_one_side_of_another_database_loses_nothing(path: Path, copied: str) -> None:
    """A backup of one of the two files is put over a database that has grown since."""
    other = path.with_name("other.db")
    Database(other, create=True).add(TASKS[1], measured(20))
    Database(path, create=True).add(TASKS[0], measured(60))
    shutil.copy(path.with_name(copied), path.with_name(copied.replace("other", "tuning")))
    told: list[str] = []
    database = Database(path, told.append)
    expected = {TASKS[0]: measured(60), TASKS[1]: measured(20)}
    assert {task: database.measurements(task) for task in database.tasks()} == expected
    assert len(told) == 2
    path.unlink()
    rebuilt = Database(path)
    assert {task: rebuilt.measurements(task) for task in rebuilt.tasks()} == expected


def test_verify_compares_journal_and_index(path: Path) -> None:
    """Journals that differ far from their ends only, and in no length, pass for each other."""
    first, *rest = filled(path)
    changed = Entry(first.task, msgspec.structs.replace(first.measurement, seconds=9e-3))
    other = path.with_name("other.db")
    Database(other, create=True).add_all([changed, *rest])
    shutil.copy(other.with_name("other.db.journal"), path.with_name("tuning.db.journal"))
    assert Database(path).verify() == 0
    for _ in range(2):
        kept = {each.hash for each in entries_of(Database(path))}
        assert kept == {each.hash for each in (first, changed, *rest)}
        path.unlink()


def test_damage_without_a_journal_is_told_and_changes_nothing(path: Path) -> None:
    filled(path)
    os.truncate(path, 5000)
    path.with_name("tuning.db.journal").unlink()
    with pytest.raises(IntegrityError, match="its journal is empty or lost"):
        Database(path)
    assert path.stat().st_size == 5000


def test_newer_schema_is_refused(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA user_version = 2")
        sql.execute("UPDATE facts SET value = 2 WHERE name = 'version'")
        sql.commit()
    before = path.read_bytes()
    with pytest.raises(UnsupportedError, match="a newer qcc wrote") as caught:
        Database(path)
    assert (caught.value.code, caught.value.exit_code) == ("database-newer", 3)
    assert path.read_bytes() == before


def test_newer_journal_is_refused(path: Path) -> None:
    database = Database(path, create=True)
    with locked(database.journal_path) as journal:
        journal.append([Entry(TASKS[0], measured(1)[0], version=2)])
    with pytest.raises(UnsupportedError, match="a newer qcc wrote"):
        Database(path)


def test_full_disk_keeps_what_was_there(path: Path) -> None:
    entries = filled(path)
    database = Database(path)
    journal = database.journal_path
    before = journal.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(ResourceError, match="no room") as caught:
            database.add(TASKS[0], measured(1, start=100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "disk-full"
    assert journal.read_bytes() == before
    assert list(entries_of(Database(path))) == entries
    assert database.add(TASKS[0], measured(1, start=100)) == 1


def test_disk_that_fills_after_the_journal_loses_nothing(path: Path) -> None:
    filled(path, 1)
    database = Database(path)
    many = measured(400, start=100)
    # Room for the lines of the journal, not for the rollback file and pages of SQLite.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(*_: object) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qcc.autotune.database.journal.os.fsync", fill)
        try:
            with pytest.raises(ResourceError):
                database.add(TASKS[0], many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Database(path).measurements(TASKS[0])[1:] == many


@contextmanager
def unprivileged() -> Iterator[None]:
    """Rights count for root only where it gives them up."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that a process without rights may read and not write."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)
        Path(folder).chmod(0o755)


@pytest.mark.parametrize("lost", ["", "tuning.db", "tuning.db.journal"])
def test_read_only_folder_can_be_read(public: Path, lost: str) -> None:
    entries = filled(public / "tuning.db")
    if lost:
        (public / lost).unlink()
    before = names(public)
    for file in public.iterdir():
        file.chmod(0o444)
    public.chmod(0o555)
    with unprivileged():
        assert list(entries_of(open_store(public / "tuning.db"))) == entries
        with pytest.raises(ResourceError) as caught:
            Database(public / "tuning.db").add(TASKS[0], measured(1, start=100))
    assert caught.value.code == "database-read-only"
    assert names(public) == before


def test_damaged_database_in_a_read_only_folder_is_read_from_its_journal(public: Path) -> None:
    entries = filled(public / "tuning.db")
    os.truncate(public / "tuning.db", 5000)
    for file in public.iterdir():
        file.chmod(0o444)
    public.chmod(0o555)
    told: list[str] = []
    with unprivileged():
        assert list(entries_of(open_store(public / "tuning.db", told.append))) == entries
    assert "may not be repaired" in told[0]


def test_new_database_in_a_read_only_folder(public: Path) -> None:
    public.chmod(0o555)
    with unprivileged(), pytest.raises(ResourceError, match="cannot write") as caught:
        Database(public / "tuning.db", create=True)
    assert caught.value.code == "database-read-only"
