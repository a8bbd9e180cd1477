"""
The process that builds or runs candidates: it may be killed at any time, and dies with its tuner.

    python -m qcc.autotune.measure.worker '{"factory": …}' PARENT MEMORY

Requests come on stdin and replies go to what was stdout; what backends print goes to stderr.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import BinaryIO

import msgspec

from ...dialects.errors import QccError
from ..measurement import Measurement
from .backend import (
    Backend,
    BackendName,
    Counted,
    DeviceLost,
    Kernel,
    Refused,
    make_backend,
)
from .messages import (
    Broken,
    Build,
    Built,
    Compare,
    Compared,
    Done,
    Measure,
    Measured,
    Prepare,
    Reply,
    Request,
    attached,
    framed,
    request_of,
)
from .sampling import one_round, sampled

_DIE_WITH_PARENT = 1


def main(words: Sequence[str]) -> int:
    name, parent, memory = words
    _die_with(int(parent))
    if int(memory):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        backend = make_backend(msgspec.json.decode(name, type=BackendName))
    except QccError as error:
        _send(replies, Broken.of(error))
        return 0
    _send(replies, Done())
    while line := requests.readline():
        request, sizes = request_of(line)
        reply, data = _answered(backend, request, attached(requests, sizes))
        _send(replies, reply, data)
        if isinstance(reply, Measured | Compared) and reply.lost:
            return 0
    return 0


def _die_with(parent: int) -> None:
    """A tuner that is killed leaves no worker behind, not even one that hangs."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _send(replies: BinaryIO, reply: Reply, data: Sequence[bytes] = ()) -> None:
    replies.write(framed(reply, data))
    replies.flush()


def _answered(
    backend: Backend, request: Request, data: list[bytes]
) -> tuple[Reply, Sequence[bytes]]:
    if isinstance(request, Prepare):
        return _prepared(backend, request), ()
    if isinstance(request, Build):
        return _built(backend, request)
    if isinstance(request, Compare):
        return _compared(backend, request, data), ()
    return _measured(backend, request, data[0]), ()


def _prepared(backend: Backend, request: Prepare) -> Reply:
    try:
        backend.prepare(request.task)
    except QccError as error:
        return Broken.of(error)
    return Done()


def _built(backend: Backend, request: Build) -> tuple[Reply, Sequence[bytes]]:
    start = time.perf_counter()
    try:
        built = backend.build(request.task, request.values)
    except Exception as error:  # noqa: BLE001 - whatever a candidate does is recorded
        failure = "constraints" if isinstance(error, Refused) else "compile"
        cost = {"compilation": time.perf_counter() - start}
        return Measured(_failed(request, failure, _told(error), cost)), ()
    return Built(time.perf_counter() - start), [built]


def _measured(backend: Backend, request: Measure, built: bytes) -> Measured:
    start = time.perf_counter()
    try:
        with closing(backend.load(request.task, built)) as kernel:
            wrong = kernel.check()
            checked = time.perf_counter()
            cost = {"validation": checked - start}
            if wrong:
                return Measured(_failed(request, "correctness", wrong, cost))
            found = sampled(kernel.run, request.sampling)
            counted = kernel.resources if isinstance(kernel, Counted) else {}
    except Exception as error:  # noqa: BLE001 - whatever a candidate does is recorded
        cost = {"benchmark": time.perf_counter() - start}
        failed = _failed(request, "runtime", _told(error), cost)
        return Measured(failed, lost=isinstance(error, DeviceLost))
    return Measured(
        Measurement(
            values=request.values,
            seconds=found.median,
            spread=found.spread,
            samples=len(found.seconds),
            contended=found.contended,
            checked=True,
            modelled=backend.modelled,
            resources=counted or msgspec.UNSET,
            cost=cost | {"benchmark": time.perf_counter() - checked},
        )
    )


def _compared(backend: Backend, request: Compare, data: list[bytes]) -> Compared:
    """Those that are compared were built anew, so they are checked."""
    lost = False
    with ExitStack() as stack:
        kernels: list[Kernel] = []
        for values, one in zip(request.configs, data, strict=True):
            try:
                kernels.append(stack.enter_context(closing(backend.load(request.task, one))))
                failure, detail = "correctness", kernels[-1].check()
                if not detail:
                    kernels[-1].run()
            except Exception as error:  # noqa: BLE001 - whatever a candidate does is recorded
                failure, detail, lost = "runtime", _told(error), isinstance(error, DeviceLost)
            if detail:
                failed = Measurement(values=values, failure=failure, detail=detail)
                return Compared(failed=failed, lost=lost)
        return Compared([one_round(kernels, number) for number in range(request.rounds)])


def _failed(
    request: Build | Measure, failure: str, detail: str, cost: dict[str, float]
) -> Measurement:
    return Measurement(values=request.values, failure=failure, detail=detail, cost=cost)


def _told(error: Exception) -> str:
    if isinstance(error, Refused | DeviceLost):
        return str(error)
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
