"""The attention benchmark runs, and says what each format takes."""

from __future__ import annotations

import argparse
import re

import pytest

from benchmarks import attention
from benchmarks.attention import main, operations
from benchmarks.cpu_probe import Probe


def test_it_compares_formats_with_fp32(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "Probe", lambda threads: Probe(threads, 1 << 22))
    sizes = ["--lengths", "16", "--layers", "2", "--rounds", "2", "--threads", "1"]
    assert main([*sizes, "--formats", "int4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 layers, 9 heads on 3, 1 threads, 1 tokens a step"
    assert re.fullmatch(
        r"16 positions before; the probe reads .* GB/s and does .* GFLOP/s", lines[1]
    )
    stored = {line.split()[0]: int(line.split()[-4]) for line in lines[2:]}
    plain = 2 * 3 * 2 * 256
    assert stored == {"fp32": plain, "int4": 2 * 3 * 2 * 36, "torch": plain}
    assert all(re.search(r"fp32 / this +\d+\.\d\d", line) for line in lines[2:])
    assert all(re.search(r"of reading +\d+%, of multiplying +\d+%", line) for line in lines[2:])


def test_operations_count_the_keys_that_are_seen() -> None:
    options = argparse.Namespace(tokens=3, layers=2)
    seen = (5 + 1) + (5 + 2) + (5 + 3)
    assert operations(options, 5) == 2 * 2 * 2 * seen * 9 * 64
