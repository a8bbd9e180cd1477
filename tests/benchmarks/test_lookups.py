"""The comparison of tables with products runs, and says which way is faster."""

from __future__ import annotations

import re

import pytest

from benchmarks import lookups
from benchmarks.cpu_probe import Probe


def test_each_line_has_both_ways(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "Probe", lambda threads: Probe(threads, 1 << 22))
    monkeypatch.setattr(lookups, "last_level_cache", lambda: 1 << 16)
    monkeypatch.setattr(lookups, "kept", lambda all_: {n: e.samples for n, e in enumerate(all_)})
    assert lookups.main(["--shape", "64x256", "--formats", "binary", "--rounds", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["binary     fp32 x", "binary     int8 x"]
    for line in lines:
        assert re.search(r"tables \d\.\d{3} ms, products \d\.\d{3} ms", line)
        assert re.search(r"products / tables \d+\.\d\d, tables at \d+% of", line)


def test_a_machine_that_computes_other_things_all_the_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "Probe", lambda threads: Probe(threads, 1 << 22))
    monkeypatch.setattr(lookups, "last_level_cache", lambda: 1 << 16)
    monkeypatch.setattr(lookups, "kept", lambda all_: {0: all_[0].samples, 1: []})
    assert lookups.main(["--shape", "64x256", "--formats", "binary", "--rounds", "1"]) == 0
    assert capsys.readouterr().out.count("no round was undisturbed, load ") == 2
