"""Each node of a Ray cluster tries one candidate at a time; nodes come, fail and are no use."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from functools import partial
from socket import create_server
from typing import ClassVar

import pytest

from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measure.executors import ray_cluster
from qcc.autotune.measure.executors.base import NotCompared
from qcc.autotune.measure.executors.ray_cluster import ATTEMPTS, RayExecutor
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.compiler.tuning.model_jobs import Tunable
from qcc.compiler.tuning.session import SessionOptions, make_executor, node_executor
from qcc.dialects.errors import ResourceError, UnsupportedError

from .stand_in_ray import Cluster, Dies, Node, RayError, strategies

TASK = Task("fake.kernel", {"n": 3})
WRONG = Measurement(values={"time": 1}, failure="correctness", detail="1 result differs")
FAULTY = BackendName("tests.autotune.faulty_backend:FaultyBackend", exclusive=False)


class Formula:
    """`kills` of the values are the attempts that the actor does not survive."""

    tried: ClassVar[Counter[int]] = Counter()
    at_work, most = 0, 0
    _lock = threading.Lock()

    def measure(self, task, configs):
        ((place, values),) = enumerate(configs)
        with self._lock:
            Formula.at_work += 1
            Formula.most = max(Formula.most, Formula.at_work)
            self.tried[values["time"]] += 1
        time.sleep(0.01)
        with self._lock:
            Formula.at_work -= 1
        if self.tried[values["time"]] <= values.get("kills", 0):
            raise Dies
        if values.get("refused"):
            raise ResourceError("tune-prepare", "too large", next_step="buy memory")
        yield place, Measurement(values=values, seconds=float(values["time"]), checked=True)

    def compare(self, task, configs, rounds):
        if any(values.get("wrong") for values in configs):
            return NotCompared.of(WRONG)
        return [[float(values["time"]) for values in configs]] * rounds

    def close(self) -> None:
        pass


def useless() -> Formula:
    raise UnsupportedError("tune-node", "a node is no 'cpu a'", why="it is 'cpu b'", next_step="")


def broken() -> Formula:
    raise ModuleNotFoundError("qcc")


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    made = Cluster(head=Node(0), a=Node(4), b=Node(8), c=Node(4))
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies())
    monkeypatch.setattr(ray_cluster, "LOOK", 0.05)
    monkeypatch.setattr(Formula, "tried", Counter())
    monkeypatch.setattr(Formula, "most", 0)
    return made


def actors(cluster: Cluster) -> dict[str, int]:
    return {name: len(node.actors) for name, node in cluster.named.items()}


def test_each_node_tries_one_candidate_at_a_time(cluster):
    executor = RayExecutor(Formula, "auto")
    configs = [{"time": number} for number in range(1, 31)]
    found = dict(executor.measure(TASK, configs))
    assert [found[place].seconds for place in range(30)] == list(range(1, 31))
    assert Formula.tried == Counter(range(1, 31))
    assert Formula.most == 3
    assert [node.free for node in cluster.named.values()] == [0, 0, 0, 0]
    assert actors(cluster) == {"head": 0, "a": 1, "b": 1, "c": 1}
    assert executor.compare(TASK, configs[:2], 3) == [[1.0, 2.0]] * 3
    wrong = executor.compare(TASK, [{"time": 1, "wrong": 1}], 3)
    assert wrong == NotCompared.of(WRONG)
    assert (cluster.address, cluster.connected) == ("auto", True)
    executor.close()
    assert (sum(actors(cluster).values()), cluster.connected) == (0, False)


def test_the_candidate_of_a_lost_actor_is_tried_again(cluster):
    executor = RayExecutor(Formula)
    configs = [{"time": 1}, {"time": 2, "kills": ATTEMPTS - 1}, {"time": 3, "kills": ATTEMPTS}]
    found = dict(executor.measure(TASK, configs))
    assert [found[place].seconds for place in range(3)] == [1.0, 2.0, None]
    assert (found[2].failure, found[2].detail) == ("runtime", "3 nodes that had it were lost")
    assert Formula.tried == {1: 1, 2: ATTEMPTS, 3: ATTEMPTS}
    assert [each.seconds for _, each in executor.measure(TASK, [{"time": 4}])] == [4.0]


def test_nodes_go_and_come(cluster):
    executor = RayExecutor(Formula)
    results = executor.measure(TASK, [{"time": number} for number in range(1, 31)])
    found = [next(results)]
    for name in "abc":
        cluster.stop(name)
    cluster.named["d"] = Node(2)
    found += results
    assert {each.seconds for _, each in found} == set(range(1, 31))
    assert len(found) == 30
    assert actors(cluster) == {"head": 0, "a": 0, "b": 0, "c": 0, "d": 1}


def test_a_tuner_that_is_interrupted_leaves_no_actor(cluster, monkeypatch):
    executor = RayExecutor(Formula)
    results = executor.measure(TASK, [{"time": number} for number in range(1, 31)])
    next(results)

    def interrupted(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(results)
    assert sum(actors(cluster).values()) == 3
    executor.close()
    assert sum(actors(cluster).values()) == 0


@pytest.mark.parametrize(("make", "told"), [(useless, "it is 'cpu b'"), (broken, "qcc")])
def test_nodes_that_are_no_use_are_told_at_once(cluster, make, told):
    with pytest.raises(ResourceError, match="no node of the Ray cluster") as raised:
        list(RayExecutor(make).measure(TASK, [{"time": 1}]))
    assert told in raised.value.why
    assert sum(actors(cluster).values()) == 0


def test_nodes_that_others_have_are_waited_for(cluster):
    first = RayExecutor(Formula)
    assert len(list(first.measure(TASK, [{"time": 1}]))) == 1
    with pytest.raises(ResourceError, match="no node") as raised:
        list(RayExecutor(Formula, patience=0.2).measure(TASK, [{"time": 2}]))
    assert raised.value.why == "all of them are busy"


def test_what_no_candidate_is_to_blame_for_is_raised(cluster):
    with pytest.raises(ResourceError, match="too large") as raised:
        list(RayExecutor(Formula).measure(TASK, [{"time": 1, "refused": 1}]))
    assert (raised.value.code, raised.value.next_step) == ("tune-prepare", "buy memory")


def test_a_node_uses_workers_that_can_be_killed(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("QCC_CACHE", str(tmp_path))
    cluster.named = {"a": Node(2)}
    executor = make_executor(Tunable("fake", FAULTY, []), SessionOptions(executor="ray:auto"))
    configs = [{"time": 1, "does": "crash", "stage": "run"}, {"time": 3}]
    found = dict(executor.measure(TASK, configs))
    assert (found[0].failure, found[1].seconds) == ("runtime", 3.0)
    assert "SIGSEGV" in found[0].detail
    assert cluster.address == "auto"
    executor.close()


def test_other_processors_are_no_use_to_a_tuner_of_this_one():
    exclusive = BackendName(FAULTY.factory, exclusive=True)
    make = partial(node_executor, exclusive, "cpu of another kind", SessionOptions())
    with pytest.raises(UnsupportedError, match="no 'cpu of another kind'"):
        make()


def test_for_a_gpu_each_actor_is_lent_one_and_other_nodes_are_left_alone(cluster):
    cluster.named["b"].gpus = 2
    executor = RayExecutor(Formula, "auto", gpu=True)
    assert len(dict(executor.measure(TASK, [{"time": 1}, {"time": 2}]))) == 2
    assert actors(cluster) == {"head": 0, "a": 0, "b": 1, "c": 0}
    executor.close()


@pytest.mark.parametrize("error", [ConnectionError("Failed to connect"), RayError("no token")])
def test_a_cluster_that_wants_a_token_says_what_to_set(cluster, monkeypatch, error: Exception):
    def refuse(**options: object) -> None:
        raise error

    monkeypatch.setattr(cluster, "init", refuse)
    with create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ResourceError, match="does not take us") as raised:
            RayExecutor(Formula, address)
    assert raised.value.why == str(error)
    assert "RAY_AUTH_MODE=token" in raised.value.next_step


def test_without_a_cluster_and_without_ray(cluster, monkeypatch):
    with pytest.raises(ResourceError, match="answers at 'nowhere'") as raised:
        RayExecutor(Formula, "nowhere")
    assert raised.value.why == "nobody answers"
    with pytest.raises(ResourceError, match="answers at") as raised:
        RayExecutor(Formula, "ray://127.0.0.1:9")
    assert "refused" in raised.value.why
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnsupportedError) as missing:
        RayExecutor(Formula)
    assert missing.value.next_step == "pip install 'qcc[ray]'"
