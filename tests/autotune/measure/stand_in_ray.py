"""
What the executor uses of Ray, in threads: nodes with processors, actors that wait for them and die.

Arguments and results are pickled on the way, as Ray does. An actor whose method raises Dies is gone
with all of its calls; that of a node that ends, too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class Dies(BaseException):
    """Raised in an actor: its process ends."""


@dataclass
class Node:
    processors: float
    gpus: float = 0
    alive: bool = True
    actors: list[Actor] = field(default_factory=list)

    @property
    def free(self) -> float:
        return self.processors - sum(actor.processors for actor in self.actors)


class Actor:
    def __init__(self, make: Callable[[], Any], node: Node, processors: float) -> None:
        self.node, self.processors, self.dead = node, processors, False
        self._thread = ThreadPoolExecutor(1)
        self._calls: list[Future] = []
        self._make, self._object = make, None
        self.placed = node.alive and node.free >= processors
        if self.placed:
            node.actors.append(self)

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *words: self._call(method, words))

    def _call(self, method: str, words: tuple[Any, ...]) -> Future:
        call = Future()
        self._calls.append(call)
        if self.dead or not self.node.alive:
            self.die()
        elif self.placed:
            self._thread.submit(self._run, call, method, pickle.dumps(words))
        return call

    def _run(self, call: Future, method: str, words: bytes) -> None:
        try:
            self._object = self._object or self._make()
            answer = pickle.dumps(getattr(self._object, method)(*pickle.loads(words)))  # noqa: S301
        except Dies:
            self.die()
        except Exception as error:  # noqa: BLE001 - as Ray does
            call.set_exception(RayError(repr(error)))
        else:
            if not call.done():
                call.set_result(answer)

    def die(self) -> None:
        self.dead = True
        if self in self.node.actors:
            self.node.actors.remove(self)
        for call in self._calls:
            if not call.done():
                call.set_exception(RayError("the actor died"))
        self._thread.shutdown(wait=False, cancel_futures=True)


class Cluster(ModuleType):
    """The module `ray`, connected to these nodes."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, **nodes: Node) -> None:
        super().__init__("ray")
        self.named = nodes
        self.address: str | None = ""
        self.connected = False

    def init(self, address: str | None, **options: Any) -> None:
        if address == "nowhere":
            raise ConnectionError("nobody answers")
        self.address, self.connected = address, True

    def shutdown(self) -> None:
        self.connected = False

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": name,
                "Alive": node.alive,
                "Resources": {
                    name: count
                    for name, count in (("CPU", node.processors), ("GPU", node.gpus))
                    if count
                },
            }
            for name, node in self.named.items()
        ]

    def remote(self, kind: type) -> SimpleNamespace:
        def options(
            num_cpus: float, max_restarts: int, scheduling_strategy: str, num_gpus: float = 0
        ) -> Any:
            node = self.named[scheduling_strategy]
            assert max_restarts == 0
            assert num_gpus <= node.gpus

            def place(*words: Any) -> Actor:
                sent = pickle.dumps((kind, words))
                return Actor(lambda: _made(sent), node, num_cpus)

            return SimpleNamespace(remote=place)

        return SimpleNamespace(options=options)

    def wait(
        self, calls: Sequence[Future], num_returns: int, timeout: float
    ) -> tuple[list[Future], list[Future]]:
        done, _ = wait(calls, timeout, FIRST_COMPLETED)
        ended = [call for call in calls if call in done][:num_returns]
        return ended, [call for call in calls if call not in ended]

    def get(self, call: Future) -> Any:
        return pickle.loads(call.result())  # noqa: S301

    def kill(self, actor: Actor) -> None:
        actor.die()

    def stop(self, name: str) -> None:
        """The node is cut off, its actors with it."""
        self.named[name].alive = False
        for actor in list(self.named[name].actors):
            actor.die()


def strategies() -> ModuleType:
    """The module ray.util.scheduling_strategies."""
    module = ModuleType("ray.util.scheduling_strategies")

    def on(name: str, soft: bool) -> str:
        assert not soft
        return name

    module.NodeAffinitySchedulingStrategy = on  # type: ignore[attr-defined]
    return module


def _made(sent: bytes) -> Any:
    kind, words = pickle.loads(sent)  # noqa: S301
    return kind(*words)
