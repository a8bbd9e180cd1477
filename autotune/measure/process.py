"""A worker process as its tuner sees it: asked, waited for, killed, started again."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from ...dialects.errors import ResourceError
from .backend import BackendName
from .messages import Broken, Reply, Request, framed, reply_of

STARTING_SECONDS = 120.0
CHUNK = 1 << 16
DETAIL = 400


class Lost(Exception):
    """A worker that died or hung; `hung` tells which."""

    def __init__(self, detail: str, *, hung: bool) -> None:
        super().__init__(detail)
        self.hung = hung


class Worker:
    """
    Started at the first question, and again after it was lost.

    `memory` bytes may be allocated by it, 0 for any number.
    """

    def __init__(self, backend: BackendName, memory: int = 0) -> None:
        self._name, self._memory = backend, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object
        self.starts = 0
        """Times that a process was started: what was prepared in an earlier one is gone."""

    def start(self) -> None:
        """Raises ResourceError, or what making the backend raised, where none can be started."""
        if self._process is not None:
            return
        self._said.seek(0)
        self._said.truncate()
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "qcc.autotune.measure.worker",
                msgspec.json.encode(self._name).decode(), str(os.getpid()), str(self._memory),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )  # fmt: skip
        self.starts += 1
        try:
            reply, _ = self._received(time.monotonic() + STARTING_SECONDS)
        except Lost as lost:
            raise ResourceError(
                "tune-worker",
                "the process that runs candidates does not start",
                why=str(lost),
                next_step="run `qcc doctor`; then report this with the message above",
            ) from lost
        if isinstance(reply, Broken):
            self.kill()
            raise reply.error()

    def ask(
        self, request: Request, data: Sequence[bytes] = (), *, seconds: float
    ) -> tuple[Reply, list[bytes]]:
        """
        Raises Lost where no answer came in time, or the process died; it is gone then.

        Raises the error that the worker met where no candidate is at fault.
        """
        self.start()
        try:
            self._sent(framed(request, data))
        except OSError:
            raise self._died() from None
        reply, parts = self._received(time.monotonic() + seconds)
        if isinstance(reply, Broken):
            raise reply.error()
        return reply, parts

    def _sent(self, frame: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise Lost("it was stopped", hung=False)
        process.stdin.write(frame)
        process.stdin.flush()

    def _received(self, deadline: float) -> tuple[Reply, list[bytes]]:
        buffer = b""
        while b"\n" not in buffer:
            buffer += self._more(deadline)
        line, _, rest = buffer.partition(b"\n")
        reply, sizes = reply_of(line)
        while len(rest) < sum(sizes):
            rest += self._more(deadline)
        parts = []
        for size in sizes:
            parts.append(rest[:size])
            rest = rest[size:]
        return reply, parts

    def _more(self, deadline: float) -> bytes:
        process = self._process
        if process is None or process.stdout is None:
            raise Lost("it was stopped", hung=False)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise Lost("no answer in time", hung=True)
        data = os.read(process.stdout.fileno(), CHUNK)
        if not data:
            raise self._died()
        return data

    def _died(self) -> Lost:
        """How the process ended, with the last that it said."""
        process = self._process
        if process is None:
            return Lost("it was stopped", hung=False)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        code = process.returncode
        self.kill()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()[-DETAIL:]
        return Lost(f"{_ending(code)}{': ' if said else ''}{said}", hung=False)

    def kill(self) -> None:
        """End it, and all that it started, at once; the next question starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def close(self) -> None:
        self.kill()
        self._said.close()


def _ending(code: int | None) -> str:
    if code is None:
        return "it closed its output"
    if code >= 0:
        return f"it ended with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
