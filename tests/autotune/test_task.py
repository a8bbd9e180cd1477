"""Tasks and measurements: one spelling each, and nothing impossible gets in."""

from typing import Any

import msgspec
import numpy as np
import pytest

from qcc.autotune.measurement import DETAIL_LIMIT, Measurement, trials_of
from qcc.autotune.task import Task
from qcc.autotune.trials import Trial
from qcc.dialects.errors import UsageError
from qcc.dialects.knobs import Knob, Space

TASK = Task("cpu.linear", {"n": 256, "k": 64}, "int4", "zen4", "qcc 0.1.0")


def test_key_is_stable_over_releases() -> None:
    assert TASK.key == "b53d58da2d8d3f22"


def test_key_ignores_the_order_and_type_of_numbers() -> None:
    same = Task("cpu.linear", {"k": np.int64(64), "n": 256.0}, "int4", "zen4", "qcc 0.1.0")  # pyright: ignore[reportArgumentType]
    assert same == TASK
    assert same.key == TASK.key
    assert {TASK: 1}[same] == 1


@pytest.mark.parametrize("field", ["kernel", "format", "device", "toolchain"])
def test_key_depends_on_every_field(field: str) -> None:
    assert msgspec.structs.replace(TASK, **{field: "other"}).key != TASK.key
    assert msgspec.structs.replace(TASK, problem={"n": 256, "k": 65}).key != TASK.key


def test_task_survives_json() -> None:
    assert msgspec.json.decode(TASK.json, type=Task) == TASK


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), None, [1], np.zeros(2), "\udcff", 1 << 63]
)
def test_problem_of_anything_but_numbers_and_texts_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="neither a finite number nor a text"):
        Task("cpu.linear", {"n": value})


def test_numbers_beyond_doubles_keep_their_type() -> None:
    task = Task("cpu.linear", {"n": 1e300, "k": (1 << 62) + 1})
    assert msgspec.json.decode(task.json, type=Task) == task
    assert task.problem == {"k": (1 << 62) + 1, "n": 1e300}


def test_task_needs_a_kernel() -> None:
    with pytest.raises(UsageError, match="names a kernel"):
        Task("", {})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"seconds": float("nan")}, "nan seconds"),
        ({"seconds": -1e-3}, "-0.001 seconds"),
        ({"seconds": 0.0}, "0.0 seconds"),
        ({"seconds": float("inf")}, "inf seconds"),
        ({}, "either seconds or a failure"),
        ({"seconds": 1e-3, "failure": "timeout"}, "either seconds or a failure"),
        ({"failure": "explosion"}, "'explosion' is none of compile"),
        ({"seconds": 1e-3, "spread": float("nan")}, "spread is nan"),
        ({"seconds": 1e-3, "samples": -1}, "samples is -1"),
        ({"seconds": 1e-3, "cost": {"compilation": -1.0}}, "compilation is -1"),
        ({"seconds": 1e-3, "when": float("nan")}, "when is nan"),
        ({"seconds": 1e-3, "when": 1e300}, "when is 1e"),
        ({"seconds": 1e-3, "when": -1.0}, "when is -1"),
    ],
)
def test_impossible_measurements_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Measurement(values={"tile": 8}, **fields)


def test_impossible_measurements_are_refused_when_read() -> None:
    with pytest.raises(UsageError, match=r"-1\.0 seconds"):
        msgspec.json.decode(b'{"values":{"tile":8},"seconds":-1.0}', type=Measurement)


def test_measurement_survives_json() -> None:
    measured = Measurement(values={"order": "row", "tile": 8}, seconds=1e-3, cost={"benchmark": 2})
    read = msgspec.json.decode(measured.json, type=Measurement)
    assert read == measured
    assert read.hash(TASK) == measured.hash(TASK)
    assert read.hash(TASK) != read.hash(Task("cpu.linear", {}))


def test_details_are_cut_and_made_text() -> None:
    said = b"\xff".decode("utf-8", "surrogateescape") + "x" * DETAIL_LIMIT
    failed = Measurement(values={}, failure="compile", detail=said)
    assert len(failed.detail) == DETAIL_LIMIT
    assert failed.json


def test_numbers_of_numpy_are_spelled_as_others() -> None:
    plain = Measurement(
        values={"tile": 8}, seconds=0.5, cost={"benchmark": 2.0}, samples=3, checked=True, seed=1
    )
    numbers: Any = {
        "values": {"tile": np.int64(8)},
        "cost": {"benchmark": np.int64(2)},
        "samples": np.int32(3),
        "checked": np.True_,
        "seed": np.uint8(1),
    }
    assert Measurement(seconds=np.float64(0.5), **numbers).json == plain.json


def test_trials_leave_out_values_that_the_space_has_not() -> None:
    space = Space("tiles", (Knob("tile", (8, 16)), Knob("fast", (0, 1))))
    measured = [
        Measurement(values={"tile": 16, "fast": True}, seconds=1e-3),
        Measurement(values={"tile": 32, "fast": 0}, seconds=1e-4),
        Measurement(values={"tile": 8}, seconds=1e-4),
        Measurement(values={"tile": 8, "fast": 0}, failure="timeout"),
    ]
    assert trials_of(space, measured) == [Trial((1, 1), 1e-3), Trial((0, 0), None, "timeout")]
