"""A backend whose candidates do what real ones may: hang, crash, fill the memory, compute wrong."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from qcc.autotune.measure.backend import Refused, Run, Values
from qcc.autotune.task import Task
from qcc.dialects.errors import ResourceError

HUGE = 3 << 30


class FaultyBackend:
    """
    `does` of the values says what the candidate does, `stage` when; `time` its seconds.

    Each run of a candidate is a line of the file `log`, if there is one.
    """

    modelled = False

    def __init__(self, log: str = "", refuse: bool = False, slow: float = 0.0) -> None:
        if refuse:
            raise ResourceError("no-device", "there is no device", next_step="plug one in")
        self._log, self._slow = log, slow

    def prepare(self, task: Task) -> None:
        self._prepared = task.key

    def build(self, task: Task, values: Values) -> bytes:
        if values.get("stage") == "build":
            _do(str(values["does"]))
        return repr(dict(values)).encode()

    def load(self, task: Task, built: bytes) -> FaultyKernel:
        assert self._prepared == task.key
        values = eval(built)  # noqa: S307 - our own repr
        if self._log:
            with Path(self._log).open("a") as log:
                log.write(f"{values}\n")
        time.sleep(self._slow)
        return FaultyKernel(values)


class FaultyKernel:
    def __init__(self, values: Values) -> None:
        self._values = values

    def check(self) -> str:
        if self._values.get("stage") == "run":
            _do(str(self._values["does"]))
        return "2 of 3 results differ" if self._values.get("does") == "wrong" else ""

    def run(self) -> Run:
        return Run(float(self._values["time"]), bool(self._values.get("disturbed", 0)))

    def close(self) -> None:
        pass


def _do(what: str) -> None:
    if what == "hang":
        ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock
    elif what == "crash":
        ctypes.string_at(0)
    elif what == "memory":
        len(bytearray(HUGE))
    elif what == "leave":
        print("goodbye", flush=True)  # noqa: T201 - candidates may
        os._exit(3)
    elif what == "raise":
        raise ValueError("not today")
    elif what == "refuse":
        raise Refused("7 threads are no warp")
