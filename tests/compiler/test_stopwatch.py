"""Phases within phases are counted once, and the lines add up to the total."""

from __future__ import annotations

import pytest

from qcc.compiler.stopwatch import Stopwatch


def test_phases_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("qcc.compiler.stopwatch.time.perf_counter", lambda: now[0])

    def passing(seconds: float) -> None:
        now[0] += seconds

    def failing(seconds: float) -> None:
        passing(seconds)
        raise ValueError("x")

    watch = Stopwatch()
    passing(1)
    with watch.phase("raise"):
        passing(2)
        with watch.phase("validate"):
            passing(4)
        passing(8)
    with pytest.raises(ValueError, match="x"), watch.phase("raise"):
        failing(16)
    assert watch.seconds == {"validate": 4, "raise": 26}
    passing(32)
    times = watch.with_total({"pack": 30})
    assert list(times) == ["validate", "raise", "pack", "other", "total"]
    assert (times["other"], times["total"]) == (3, 63)
