"""The tuning database: what it keeps, what wins, and what is near."""

from pathlib import Path

import msgspec
import pytest

from qcc.autotune.choice import CHOSEN
from qcc.autotune.database import Collection, Database, Entry, Lookup, best_of, entries_of
from qcc.autotune.database.store import distance
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.dialects.errors import UsageError

TASK = Task("cpu.linear", {"k": 64, "n": 256}, "int4", "zen4", "qcc 1")


def took(seconds: float, tile: int = 8, **fields: object) -> Measurement:
    return msgspec.convert(
        {"values": {"tile": tile}, "seconds": seconds, "checked": True, **fields}, Measurement
    )


def failed(how: str, tile: int = 8) -> Measurement:
    return Measurement(values={"tile": tile}, failure=how)


def of(**fields: object) -> Task:
    return msgspec.structs.replace(TASK, **fields)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "tuning.db", create=True)


def test_measurements_come_back_in_order_and_once(database: Database) -> None:
    measured = [took(3e-3), failed("timeout", 16), took(1e-3, 32)]
    assert database.add(TASK, measured) == 3
    assert database.add(TASK, [*measured[1:], took(2e-3, 64)]) == 1
    again = Database(database.path)
    assert again.tasks() == [TASK]
    assert again.measurements(TASK) == [*measured, took(2e-3, 64)]
    assert again.measurements(of(device="other")) == []


def test_every_field_of_a_task_keeps_measurements_apart(database: Database) -> None:
    others = [
        of(kernel="cuda.linear"),
        of(problem={"k": 64, "n": 128}),
        of(format="int8"),
        of(device="zen5"),
        of(toolchain="qcc 2"),
    ]
    for number, task in enumerate([TASK, *others], 1):
        database.add(task, [took(number * 1e-3)])
    found = [database.measurements(task) for task in [TASK, *others]]
    assert found == [[took(number * 1e-3)] for number in range(1, 7)]


def test_missing_database_is_not_made_by_readers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tuning database"):
        Database(tmp_path / "tuning.db")
    assert not list(tmp_path.iterdir())


def test_file_of_somebody_else_is_left_as_it_was(tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"weights" * 100)
    with pytest.raises(UsageError, match="is no tuning database"):
        Database(other, create=True)
    assert list(tmp_path.iterdir()) == [other]
    assert other.read_bytes() == b"weights" * 100


def test_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no tuning database"):
        Database(tmp_path, create=True)
    assert not list(tmp_path.iterdir())


def test_failed_and_unchecked_results_never_win() -> None:
    unchecked = took(1e-9, 1, checked=False)
    assert best_of([failed("compile"), failed("runtime"), unchecked]) is None
    assert best_of([unchecked, took(5e-3, 2), failed("timeout", 3)]) == took(5e-3, 2)


def test_config_that_was_wrong_once_never_wins() -> None:
    measured = [took(1e-3, 1), failed("correctness", 1), took(1e-3, 1), took(5e-3, 2)]
    assert best_of(measured) == took(5e-3, 2)


def test_one_lucky_time_does_not_win() -> None:
    lucky = [took(1e-3, 1), took(9e-3, 1, when=1), took(8e-3, 1, when=2)]
    assert best_of([*lucky, took(5e-3, 2)]) == took(5e-3, 2)
    assert best_of(lucky) == took(8e-3, 1, when=2)


def test_what_a_comparison_chose_wins_unless_it_is_wrong() -> None:
    decided = took(4e-3, 2, strategy=CHOSEN)
    measured = [took(1e-3, 1), took(9e-3, 3, strategy=CHOSEN), decided, took(2e-3, 4)]
    assert best_of(measured) == decided
    assert best_of([*measured, failed("correctness", 2), failed("correctness", 3)]) == measured[0]


def test_contended_times_count_only_where_there_are_no_others() -> None:
    slow = took(9e-3, 1, contended=True)
    assert best_of([slow, took(2e-3, 2)]) == took(2e-3, 2)
    assert best_of([slow, took(1e-3, 1), took(2e-3, 2)]) == took(1e-3, 1)
    assert best_of([slow]) == slow


def test_times_of_a_model_yield_to_measured_ones() -> None:
    modelled = took(1e-6, 1, modelled=True)
    assert best_of([modelled, took(2e-3, 2)]) == took(2e-3, 2)
    assert best_of([modelled]) == modelled


def test_distance_counts_doublings() -> None:
    assert distance(TASK, of(problem={"k": 128, "n": 64})) == (False, 3.0)
    assert distance(TASK, of(device="zen5")) == (True, 0.0)
    assert distance(TASK, of(kernel="cuda.linear")) is None
    near, far = distance(TASK, of(toolchain="qcc 2")), distance(TASK, of(problem={"k": 64}))
    assert near is not None
    assert far is not None
    assert (False, 0.0) < near < far


def test_neighbours_are_the_nearest_that_have_a_best() -> None:
    near, farther, elsewhere = (
        of(problem={"k": 64, "n": 512}),
        of(problem={"k": 64, "n": 2048}),
        of(device="zen5"),
    )
    store = Collection(
        [
            Entry(elsewhere, took(1e-3)),
            Entry(farther, took(2e-3)),
            Entry(near, took(3e-3)),
            Entry(TASK, took(4e-3)),
            Entry(of(problem={"k": 64, "n": 257}), failed("compile")),
            Entry(of(kernel="cuda.linear"), took(5e-3)),
        ]
    )
    found = Lookup([("mine", store)]).neighbours(TASK)
    assert [each.task for each in found] == [near, farther, elsewhere]
    assert [each.measurement.seconds for each in found] == [3e-3, 2e-3, 1e-3]
    assert Lookup([("mine", store)]).neighbours(TASK, 1) == found[:1]


def test_lookup_prefers_the_first_store_then_another_toolchain() -> None:
    mine = Collection([Entry(of(toolchain="qcc 0"), took(7e-3))])
    shipped = Collection([Entry(TASK, took(2e-3)), Entry(of(toolchain="qcc 0"), took(1e-3))])
    lookup = Lookup([("mine", mine), ("shipped", shipped)])
    exact = lookup.best(TASK)
    assert exact is not None
    assert (exact.source, exact.measurement.seconds) == ("shipped", 2e-3)
    other = lookup.best(of(toolchain="qcc 2"))
    assert other is not None
    assert (other.source, other.task.toolchain) == ("mine", "qcc 0")
    assert lookup.best(of(device="zen5")) is None
    assert len(lookup.neighbours(of(device="zen5"))) == 2


def test_collection_holds_what_a_database_holds(database: Database) -> None:
    entries = [Entry(TASK, took(1e-3)), Entry(of(format="int8"), failed("timeout"))]
    database.add_all([*entries, *entries])
    assert list(entries_of(database)) == list(entries_of(Collection([*entries, *entries])))
