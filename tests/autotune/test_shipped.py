"""What ships is sound: a best for each of its tasks, and nothing of the machine that measured."""

from qcc.autotune.database import Lookup, best_of
from qcc.autotune.database.shipped import NAME, shipped


def test_every_shipped_measurement_is_the_best_of_its_task() -> None:
    store = shipped()
    for task in store.tasks():
        [measurement] = store.measurements(task)
        assert best_of([measurement]) == measurement
        assert measurement.host == ""
        found = Lookup([(NAME, store)]).best(task)
        assert found is not None
        assert (found.source, found.measurement) == (NAME, measurement)
