"""What ships is sound: a best for each of its tasks, and nothing of the machine that measured."""

from qcc.autotune.database import Lookup, best_of
from qcc.autotune.database.shipped import NAME, shipped, shipped_trials
from qcc.autotune.related import MOST, related
from qcc.compiler.tuning.cpu_jobs import cpu_task
from qcc.compiler.tuning.upmem_backend import pim_problem
from qcc.compiler.tuning.upmem_jobs import device_text
from qcc.compiler.upmem.device import chosen_device
from qcc.dialects.cpu.schedule import LinearProblem
from qcc.dialects.cpu.space import linear_space
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


def test_shipped_trials_teach_about_shapes_that_they_do_not_have() -> None:
    store = shipped_trials()
    measurements = [each for task in store.tasks() for each in store.measurements(task)]
    assert {each.host for each in measurements} == {""}
    assert len(measurements) > 1000
    problem = LinearProblem(640, 512, "int4<group=32>")
    task = cpu_task(problem, 12, "", 1)
    assert task not in store.tasks()
    found = related(task, linear_space(problem, 12, frozenset({"avx512f"})), [store])
    assert len(found) == MOST
    assert {each.task.format for each in found} == {"int4<group=32>"}
