"""
Candidates tried on the nodes of a Ray cluster, by an actor on each that has its processors.

The actor tries one candidate at a time as this machine would: in workers that it kills when they
hang. It declares all processors of its node, so Ray starts nothing else there meanwhile, and ends
with the tuner, however that ends. A node that is lost gives its candidate back to the others.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from socket import create_connection
from typing import Any

import msgspec

from ....dialects.errors import QccError, ResourceError, UnsupportedError
from ...measurement import Measurement
from ...task import Task
from ..backend import Values
from ..messages import Broken, Compared, Done, Measured
from .base import Executor, NotCompared, Rounds

PATIENCE = 120.0
"""Seconds that nothing may happen while no node is ready."""
LOOK = 2.0
CONNECT = 10.0
TOKEN = (
    "run the same version of Ray; if the cluster has token authentication, set "
    "RAY_AUTH_MODE=token, and put its token into RAY_AUTH_TOKEN or ~/.ray/auth_token"
)
ATTEMPTS = 3

Make = Callable[[], Executor]
Reply = Measured | Compared | Done | Broken


class Host:
    """The actor of one node. Replies are JSON, QccErrors too: others' would arrive as Ray's."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._executor: Executor | None = None

    def start(self) -> bytes:
        """Broken where this node cannot try the tuner's candidates."""
        return _encoded(self._started)

    def answer(self, task: Task, configs: list[Values], rounds: int) -> bytes:
        """Measured for a single config without `rounds`, else Compared."""
        return _encoded(lambda: self._answered(task, configs, rounds))

    def _started(self) -> Reply:
        self._executor = self._make()
        return Done()

    def _answered(self, task: Task, configs: list[Values], rounds: int) -> Reply:
        executor = self._executor
        assert executor is not None
        if rounds:
            found = executor.compare(task, configs, rounds)
            if isinstance(found, NotCompared):
                return Compared(failed=found.failed, why=found.why)
            return Compared(found)
        ((_, measurement),) = executor.measure(task, configs)
        return Measured(measurement)


class RayExecutor:
    """
    `make` is called on each node, and raises a QccError where the node is no use; it is pickled.

    `address` is that of ray.init: None is the cluster of this machine, or one made of it alone.
    With `gpu` an actor is lent one GPU of its node, and nodes without one are left alone. Raises
    UnsupportedError without Ray, ResourceError where there is no cluster.
    """

    def __init__(
        self,
        make: Make,
        address: str | None = None,
        patience: float = PATIENCE,
        *,
        gpu: bool = False,
    ) -> None:
        self._ray = _connected(address)
        self._affinity = import_module(
            "ray.util.scheduling_strategies"
        ).NodeAffinitySchedulingStrategy
        self._make, self._patience = make, patience
        self._lent = {"num_gpus": 1} if gpu else {}
        self._hosts: dict[str, Any] = {}
        self._starting: dict[Any, str] = {}
        self._ready: list[str] = []
        self._refused: dict[str, str] = {}
        """By id of a node, which is another one after the node was away: why it is no use."""
        self._looked = float("-inf")

    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        for place, reply in self._replies(task, [[values] for values in configs]):
            if reply is None:
                values = dict(configs[place])
                yield place, Measurement(values=values, failure="runtime", detail=_NO_ANSWER)
            else:
                assert isinstance(reply, Measured)
                yield place, reply.measurement

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        """On one node, whichever is ready."""
        ((_, reply),) = self._replies(task, [configs], rounds)
        if reply is None:
            return NotCompared(_NO_ANSWER)
        assert isinstance(reply, Compared)
        return NotCompared(reply.why, reply.failed) if reply.why else reply.seconds

    def close(self) -> None:
        """Workers die with their actors, actors at once; the cluster goes on without us."""
        for node in list(self._hosts):
            self._forget(node)
        self._ray.shutdown()

    def _replies(
        self, task: Task, jobs: Sequence[Sequence[Values]], rounds: int = 0
    ) -> Iterator[tuple[int, Reply | None]]:
        """The place of each job and what came of it; None if no node survived it."""
        waiting, lost = deque(range(len(jobs))), [0] * len(jobs)
        under_way: dict[Any, tuple[str, int]] = {}
        active = time.monotonic()
        while waiting or under_way:
            self._look()
            free = [node for node in self._ready if node not in _nodes(under_way)]
            for node, place in zip(free, list(waiting), strict=False):
                configs = [dict(values) for values in jobs[place]]
                call = self._hosts[node].answer.remote(task, configs, rounds)
                under_way[call] = node, waiting.popleft()
            for call in self._finished(under_way):
                node, place = under_way.pop(call)
                reply = self._reply(call, node)
                if isinstance(reply, str):
                    lost[place] += 1
                    if lost[place] < ATTEMPTS:
                        waiting.append(place)
                        continue
                yield place, None if isinstance(reply, str) else reply
            active = time.monotonic() if self._ready else active
            self._expect_somebody(time.monotonic() - active)

    def _look(self) -> None:
        """An actor on each living node that has none: nodes come and go."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        for name, processors in self._living().items():
            if name in self._hosts or name in self._refused:
                continue
            host = self._ray.remote(Host).options(
                num_cpus=processors,
                max_restarts=0,
                scheduling_strategy=self._affinity(name, soft=False),
                **self._lent,
            )
            self._hosts[name] = host.remote(self._make)
            self._starting[self._hosts[name].start.remote()] = name

    def _living(self) -> dict[str, float]:
        """Processors of each node that lends what is needed; the head may lend none."""
        lent = {
            node["NodeID"]: node["Resources"].get("CPU", 0)
            for node in self._ray.nodes()
            if node["Alive"] and (not self._lent or node["Resources"].get("GPU", 0) >= 1)
        }
        return {node: processors for node, processors in lent.items() if processors}

    def _finished(self, under_way: dict[Any, tuple[str, int]]) -> list[Any]:
        """Jobs that ended within some seconds; meanwhile nodes become ready."""
        calls = [*under_way, *self._starting]
        if not calls:
            time.sleep(LOOK / 10)
            return []
        ended, _ = self._ray.wait(calls, num_returns=1, timeout=LOOK)
        for call in ended:
            if call in self._starting:
                self._started(call)
        return [call for call in ended if call in under_way]

    def _started(self, call: Any) -> None:
        node = self._starting.pop(call)
        try:
            reply = self._reply(call, node)
        except QccError as error:
            reply = f"{error.what}: {error.why}" if error.why else error.what
            self._forget(node)
        if isinstance(reply, str):
            self._refused[node] = reply
        else:
            self._ready.append(node)

    def _reply(self, call: Any, node: str) -> Reply | str:
        """Why there is none, where the node was lost. Raises what its executor raised."""
        try:
            reply = msgspec.json.decode(self._ray.get(call), type=Reply)
        except self._ray.exceptions.RayError as error:
            self._forget(node)
            return str(error).strip() or type(error).__name__
        if isinstance(reply, Broken):
            raise reply.error()
        return reply

    def _forget(self, node: str) -> None:
        """Its actor is killed, if it lives; later the node may get another."""
        self._ray.kill(self._hosts.pop(node))
        self._ready = [each for each in self._ready if each != node]
        self._starting = {call: each for call, each in self._starting.items() if each != node}

    def _expect_somebody(self, seconds: float) -> None:
        useless = self._refused and not self._hosts and self._living().keys() <= {*self._refused}
        if seconds >= self._patience or useless:
            raise ResourceError(
                "tune-no-host",
                "no node of the Ray cluster can try candidates",
                why="; ".join(sorted(set(self._refused.values()))) or "all of them are busy",
                next_step="start nodes that have this version of qcc; then go on with --resume",
            )


_NO_ANSWER = f"{ATTEMPTS} nodes that had it were lost"


def _connected(address: str | None) -> Any:
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise UnsupportedError(
            "tune-ray",
            "the executor 'ray' needs Ray, which is not installed",
            why=str(error),
            next_step="pip install 'qcc[ray]'",
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    reached = False
    try:
        reached = address is not None and _reached(address)
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, error, reached) from error
    return ray


def _no_cluster(address: str | None, error: Exception, reached: bool) -> ResourceError:
    """What is `reached` but does not take us has a token, or is another version."""
    what = f"no Ray cluster answers at '{address}'" if address else "Ray does not start"
    step = "start one with `ray start --head`"
    if reached or "token" in str(error).lower():
        what, step = f"the Ray cluster at '{address}' does not take us", TOKEN
    why = str(error).strip() or type(error).__name__
    return ResourceError("tune-cluster", what, why=why, next_step=f"{step}, or --executor local")


def _reached(address: str) -> bool:
    """
    Whether somebody listens there; False for what is no host and port. Raises OSError where nobody
    does: Ray would try for minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return False
    create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
    return True


def _nodes(under_way: dict[Any, tuple[str, int]]) -> set[str]:
    return {node for node, _ in under_way.values()}


def _encoded(answer: Callable[[], Reply]) -> bytes:
    try:
        reply = answer()
    except QccError as error:
        reply = Broken.of(error)
    return msgspec.json.encode(reply)
