"""
The cycle model of a DPU: tasklets share a pipeline and a DMA engine (spec pim.md §2.5, §5).

Input is a trace for each tasklet, a list of events:

    ("compute", slots)           issue slots, those of asking for DMA or a barrier included
    ("read", bytes), ("write", bytes)      one DMA request each
    ("barrier", number)          goes on when all tasklets that have not ended arrived
    ("lock", number), ("unlock", number)
    ("notify", any), ("wait", tasklet)     a handshake: both go on once both arrived

Each of k runnable tasklets advances by min(1/interval, 1/k) / factor slots a cycle. The engine
serves requests in their order. Traces are recorded by the emulator or synthesised from IR; this
is the one model for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from ..errors import UsageError
from .device import Device

Event = tuple[str, float]
Trace = Sequence[Event]
NEVER = float("inf")


@dataclass(frozen=True)
class Timing:
    """
    What a run takes: `cycles` of the clock; `slots` issued; `engine` cycles of busy DMA.

    `trusted` is False where locks or handshakes decided: such kernels are predicted to ±50 % or
    worse (§5.1).
    """

    cycles: float
    slots: float
    engine: float
    bytes_read: int
    bytes_written: int
    requests: int
    trusted: bool

    def milliseconds(self, device: Device) -> float:
        return device.milliseconds(self.cycles)


def simulate(traces: Sequence[Trace], device: Device) -> Timing:
    """
    The cycles of tasklets that run these traces together; UsageError where they wait for ever.

    >>> from qcc.dialects.pim.device import device
    >>> round(simulate([[("compute", 1000)]], device("v1A")).cycles)
    12375
    >>> round(simulate([[("compute", 1000)]] * 11, device("v1A")).cycles)
    12375
    >>> round(simulate([[("compute", 1000)]] * 22, device("v1A")).cycles)
    24750
    """
    if len(traces) > device.most_tasklets:
        raise UsageError(
            "pim-tasklets", f"{len(traces)} tasklets; {device.name} runs {device.most_tasklets}"
        )
    return _Run(traces, device).finish()


@dataclass
class _Run:
    """
    A discrete-event simulation. Computing tasklets all advance alike, so each is done when the
    common progress reaches what it was at the start plus its slots.
    """

    traces: Sequence[Trace]
    device: Device
    now: float = 0.0
    progress: float = 0.0
    engine_free: float = 0.0
    engine: float = 0.0
    slots: float = 0.0
    moved: dict[str, int] = field(default_factory=lambda: {"read": 0, "write": 0})
    requests: int = 0
    computing: list[tuple[float, int]] = field(default_factory=list)
    transferring: list[tuple[float, int]] = field(default_factory=list)
    arrived: dict[float, list[int]] = field(default_factory=dict)
    owners: dict[float, int] = field(default_factory=dict)
    queues: dict[float, list[int]] = field(default_factory=dict)
    meeting: dict[tuple[int, bool], int] = field(default_factory=dict)
    contended: bool = False

    def __post_init__(self) -> None:
        self.places = [0] * len(self.traces)
        self.alive = len(self.traces)

    def finish(self) -> Timing:
        for tasklet in range(len(self.traces)):
            self.advance(tasklet)
        while self.computing or self.transferring:
            self.step()
        if self.alive:
            waiting = [t for t, trace in enumerate(self.traces) if self.places[t] <= len(trace)]
            raise UsageError(
                "pim-deadlock", f"tasklets {waiting} wait for ever",
                next_step="all tasklets must reach each barrier, and each handshake needs both",
            )  # fmt: skip
        return Timing(
            self.now, self.slots, self.engine, self.moved["read"], self.moved["write"],
            self.requests, not self.contended,
        )  # fmt: skip

    def step(self) -> None:
        """Go to the next end of a computation or of a transfer."""
        rate = min(1 / self.device.interval, 1 / max(1, len(self.computing))) / self.device.factor
        computed = NEVER
        if self.computing:
            computed = self.now + max(0.0, self.computing[0][0] - self.progress) / rate
        if self.transferring and self.transferring[0][0] <= computed:
            until, tasklet = heappop(self.transferring)
            self.progress += (until - self.now) * rate
            self.now = until
        else:
            self.progress, tasklet = heappop(self.computing)
            self.now = computed
        self.advance(tasklet)

    def advance(self, tasklet: int) -> None:
        """Run events of one tasklet up to one that takes time or waits."""
        trace = self.traces[tasklet]
        while True:
            place = self.places[tasklet]
            self.places[tasklet] = place + 1
            if place >= len(trace):
                self.alive -= 1
                self.release_barriers()
                return
            kind, value = trace[place]
            if kind == "compute":
                if value <= 0:
                    continue
                self.slots += value
                heappush(self.computing, (self.progress + value, tasklet))
                return
            if kind in self.moved:
                self.request(kind, int(value), tasklet)
                return
            if not self.synchronize(kind, value, tasklet):
                return

    def request(self, kind: str, size: int, tasklet: int) -> None:
        dma = self.device.dma
        busy = dma.setup + dma.per_byte * size
        start = max(self.now, self.engine_free)
        latency = dma.read_latency if kind == "read" else dma.write_latency
        self.engine_free = start + busy
        self.engine += busy
        self.moved[kind] += size
        self.requests += 1
        until = max(start + latency + dma.latency_per_byte * size, self.engine_free)
        heappush(self.transferring, (until, tasklet))

    def synchronize(self, kind: str, value: float, tasklet: int) -> bool:
        """Whether the tasklet goes on at once."""
        if kind == "barrier":
            self.arrived.setdefault(value, []).append(tasklet)
            self.release_barriers()
            return False
        self.contended = True
        if kind == "lock":
            if value in self.owners:
                self.queues.setdefault(value, []).append(tasklet)
                return False
            self.owners[value] = tasklet
            return True
        if kind == "unlock":
            self.unlock(value)
            return True
        if kind in ("notify", "wait"):
            return self.meet(kind, int(value), tasklet)
        raise UsageError("pim-trace", f"no event {kind!r}")

    def unlock(self, number: float) -> None:
        del self.owners[number]
        if waiting := self.queues.get(number):
            following = waiting.pop(0)
            self.owners[number] = following
            heappush(self.computing, (self.progress, following))

    def meet(self, kind: str, other: int, tasklet: int) -> bool:
        """Who notifies names nobody: a meeting is known by the notifier."""
        notifier = tasklet if kind == "notify" else other
        partner = self.meeting.pop((notifier, kind != "notify"), None)
        if partner is None:
            self.meeting[(notifier, kind == "notify")] = tasklet
            return False
        heappush(self.computing, (self.progress, partner))
        return True

    def release_barriers(self) -> None:
        for number, waiting in list(self.arrived.items()):
            if len(waiting) == self.alive and waiting:
                del self.arrived[number]
                for tasklet in waiting:
                    heappush(self.computing, (self.progress, tasklet))
