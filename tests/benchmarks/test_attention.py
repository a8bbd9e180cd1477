"""The attention benchmark runs, and says what each format takes."""

from __future__ import annotations

import re

import pytest

from benchmarks.attention import main


def test_it_compares_formats_with_fp32(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--lengths", "16", "--layers", "2", "--rounds", "2", "--threads", "1"]
    assert main([*sizes, "--formats", "int4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 layers, 9 heads on 3, 1 threads, 1 tokens a step"
    assert lines[1] == "16 positions before"
    stored = {line.split()[0]: int(line.split()[-4]) for line in lines[2:]}
    assert stored == {"fp32": 2 * 3 * 2 * 256, "int4": 2 * 3 * 2 * 36}
    assert all(re.search(r"fp32 / this +\d+\.\d\d", line) for line in lines[2:])
