"""A tuner that is killed leaves what it measured, no process behind, and is gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from qcc.autotune.database import Database
from tests.autotune.tuning_process import JOB, tuned

TRIALS = 16


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_and_repeats_nothing(tmp_path: Path, how: signal.Signals) -> None:
    process = started(tmp_path)
    until(lambda: len(lines(tmp_path)) >= 5)
    os.kill(process.pid, how)
    process.wait(timeout=20)
    begun = lines(tmp_path)
    kept = Database(tmp_path / "tuning.db").measurements(JOB.task)
    # The one that was under way when it was killed may be lost.
    assert 0 < len(kept) <= len(begun) <= len(kept) + 1 < TRIALS
    until(lambda: not workers(tmp_path))
    found = tuned(tmp_path, TRIALS)
    assert (found.repeated, found.measured) == (len(kept), TRIALS - len(kept))
    again = Counter(lines(tmp_path)) - Counter(begun[len(kept) :])
    assert max(again.values()) == 1
    assert len(Database(tmp_path / "tuning.db").measurements(JOB.task)) == TRIALS


def test_two_tuners_on_one_device_and_database_take_turns(tmp_path: Path) -> None:
    both = [started(tmp_path), started(tmp_path)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    kept = Database(tmp_path / "tuning.db").measurements(JOB.task)
    # Each has its trials, of which both may have drawn some.
    assert len(kept) >= TRIALS
    assert {each.failure for each in kept} == {""}


def started(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.autotune.tuning_process", str(folder), str(TRIALS)]
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )


def lines(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def workers(folder: Path) -> list[str]:
    """The processes that have this folder in their command line."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
