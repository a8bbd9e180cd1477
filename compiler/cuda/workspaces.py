"""
Memory for calls on several streams, which may run at the same time.

The last few streams have a workspace each. Another one takes over that of the stream that was used
longest ago: what it does there waits, on the device, for what was put on that stream.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...codegen.cuda.execution import Device, Workspace

KEPT_STREAMS = 4


@dataclass
class _Held:
    """A workspace, and the mark behind the last call that used it."""

    workspace: Workspace
    used: Any = None


class Workspaces:
    """By the handles of streams; None is the device's own."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._held: OrderedDict[int | None, _Held] = OrderedDict()

    @contextmanager
    def on(self, stream: int | None) -> Iterator[Workspace]:
        """For what is put on that stream, which is the one that the device works on."""
        held = self._taken(stream)
        try:
            yield held.workspace
        finally:
            former, held.used = held.used, self._device.mark()
            self._device.forget(former)

    def _taken(self, stream: int | None) -> _Held:
        if stream not in self._held:
            if len(self._held) < KEPT_STREAMS:
                self._held[stream] = _Held(Workspace(self._device))
            else:
                longest = next(iter(self._held))
                self._device.wait_for(self._held[longest].used)
                self._held[stream] = self._held.pop(longest)
        self._held.move_to_end(stream)
        return self._held[stream]

    def close(self) -> None:
        for held in self._held.values():
            held.workspace.close()
            self._device.forget(held.used)
        self._held.clear()
