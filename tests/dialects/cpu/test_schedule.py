"""Schedules of CPU layers: as attributes, legality, defaults for every shape."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.cpu.default_schedule import MEASURED, default_schedule
from qcc.dialects.cpu.schedule import (
    SCRATCH_BYTES,
    LinearProblem,
    LinearSchedule,
    illegal,
    scratch_bytes,
)
from qcc.dialects.formats import available, parse_spelling
from qcc.dialects.formats.panels import panel_unit

WIDE, NARROW = frozenset({"avx512f"}), frozenset({"avx2"})
SHAPES = [(1, 1), (16, 33), (192, 576), (4096, 4096), (49152, 576), (4096, 28672)]
LUT = "lut4<table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]>"
OPTIONS = {"lut4": LUT, "nvfp4": "nvfp4<two_level=true>"}
SPELLINGS = [
    name
    for name in (OPTIONS.get(name, name) for name in available())
    if panel_unit(parse_spelling(name)) is not None
]
SCHEDULE = LinearSchedule(8, 2, 192, 4, 64)
PROBLEM = LinearProblem(64, 96, "int4<group=32>")


def test_attribute_and_back() -> None:
    with make_context(), ir.Location.unknown():
        for schedule in (SCHEDULE, replace(SCHEDULE, keep=True)):
            assert LinearSchedule.of(schedule.attribute()) == schedule
            text = str(schedule.attribute())
            assert LinearSchedule.of(ir.Attribute.parse(text)) == schedule
        for other in ("8 : i64", "{rows = 8 : i64}"):
            with pytest.raises(ValueError, match="a schedule has rows, panels"):
                LinearSchedule.of(ir.Attribute.parse(other))


@pytest.mark.parametrize("features", [WIDE, NARROW])
@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("spelling", ["fp32", *SPELLINGS])
def test_defaults_are_legal(spelling: str, integers: bool, features: frozenset[str]) -> None:
    for n, k in SHAPES:
        problem = LinearProblem(n, k, spelling, integers and spelling != "fp32")
        schedule = default_schedule(problem, features)
        assert list(illegal(problem, schedule, features)) == []


def test_measured_ones_are_legal_and_differ_from_the_rule() -> None:
    for (n, k, integers), changes in MEASURED.items():
        problem = LinearProblem(n, k, "int4<group=32>", integers)
        found = default_schedule(problem, WIDE)
        assert {name: getattr(found, name) for name in changes} == changes
        assert found != default_schedule(replace(problem, n=n + 1), WIDE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 0}, "rows is 0, not 1 to 16"),
        ({"panels": 5}, "panels is 5, not 1 to 4"),
        ({"task_rows": 20}, "task_rows is 20, not a multiple of rows, 8"),
        ({"task_panels": 3}, "task_panels is 3, not a multiple of panels, 2"),
        ({"depth": 33}, "depth is 33, not a multiple of 32"),
        ({"keep": True}, "keep is of integers; with fp32 x all tiles read decoded weights"),
        ({"rows": 16, "panels": 2}, "a tile needs 35 registers, of which there are 32"),
    ],
)
def test_reasons(changes: dict[str, int], reason: str) -> None:
    schedule = replace(SCHEDULE, **changes)
    assert list(illegal(PROBLEM, schedule, WIDE)) == [reason]


def test_scratch_is_bounded() -> None:
    long = LinearProblem(4096, 1 << 16, "dint4<group=32>", integers=True)
    schedule = replace(default_schedule(long, WIDE), keep=True)
    assert scratch_bytes(long, schedule) > SCRATCH_BYTES
    (reason,) = illegal(long, schedule, WIDE)
    assert "bytes of scratch" in reason
    assert not default_schedule(long, WIDE).keep


def test_tiles_divide_known_rows_of_x() -> None:
    def rows(problem: LinearProblem) -> list[int]:
        found = [default_schedule(problem, WIDE, m) for m in (None, 6, 12, 16, 20, 128)]
        assert not [reason for each in found for reason in illegal(problem, each, WIDE)]
        assert all(each.task_rows % each.rows == 0 for each in found)
        return [each.rows for each in found]

    integers = LinearProblem(768, 768, "int4<group=32>", integers=True)
    assert rows(integers) == [8, 6, 12, 8, 10, 8]
    assert rows(replace(integers, spelling="amxfp4")) == [8, 6, 6, 8, 7, 8]
    assert rows(replace(integers, integers=False)) == [8, 6, 6, 8, 10, 8]
    # Rows of 16 KiB: the same k of each is in the same set of the cache.
    assert rows(LinearProblem(768, 4096, "nf4<group=64>")) == [8, 6, 6, 8, 7, 8]
    assert default_schedule(integers, frozenset({"avx2"}), 12).rows == 4


def test_costly_codes_are_kept() -> None:
    kept = {
        spelling: default_schedule(LinearProblem(64, 64, spelling, integers=True), WIDE).keep
        for spelling in ("int4", "int8", "dint4", "amxfp4")
    }
    assert kept == {"int4": False, "int8": False, "dint4": True, "amxfp4": True}
