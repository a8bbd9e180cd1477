"""What ships is sound: a best for each of its tasks, and nothing of the machine that measured."""

from qcc.autotune.database import Lookup, best_of
from qcc.autotune.database.shipped import NAME, shipped
from qcc.compiler.tuning.upmem_backend import pim_problem
from qcc.compiler.tuning.upmem_jobs import device_text
from qcc.compiler.upmem.device import chosen_device
from qcc.dialects.pim.legality import illegal
from qcc.dialects.pim.schedule import Share
from qcc.dialects.pim.space import KERNEL, schedule_of


def test_every_shipped_measurement_is_the_best_of_its_task() -> None:
    store = shipped()
    for task in store.tasks():
        [measurement] = store.measurements(task)
        assert best_of([measurement]) == measurement
        assert measurement.host == ""
        found = Lookup([(NAME, store)]).best(task)
        assert found is not None
        assert (found.source, found.measurement) == (NAME, measurement)


def test_shipped_schedules_of_dpus_are_legal_on_them() -> None:
    device, store = chosen_device("v1A", None), shipped()
    tasks = [task for task in store.tasks() if task.kernel == KERNEL]
    assert tasks
    for task in tasks:
        [measurement] = store.measurements(task)
        assert task.device == device_text(device)
        assert measurement.modelled
        share = Share(pim_problem(task), schedule_of(measurement.values))
        assert list(illegal(share, device)) == []
