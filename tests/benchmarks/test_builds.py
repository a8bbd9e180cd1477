"""The benchmark of builds runs, and its parts add up."""

from __future__ import annotations

import re

import pytest

from benchmarks.builds import main


def test_it_times_builds_and_first_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--formats", "mxfp4", "int8 + int8 x", "fp32 conv"]) == 0
    *rows, calls = capsys.readouterr().out.splitlines()
    assert [row[:24].rstrip() for row in rows] == ["mxfp4", "int8 + int8 x", "fp32 conv"]
    for row in rows:
        median, best, *parts = map(int, re.findall(r"\d+", row[24:]))
        assert best == median > 0, "of one round"
        assert abs(sum(parts) - median) <= 1
    assert re.fullmatch(r"import \d+ ms, load \d+ ms, first call [\d.]+ ms, later .*", calls)
