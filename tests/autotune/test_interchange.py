"""Spaces and results in the formats of Kernel Tuner and TVM, written and read."""

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from qcc.autotune.database import Entry
from qcc.autotune.draw import draw
from qcc.autotune.interchange.kernel_tuner_cache import decode_cache, encode_cache, recorded_space
from qcc.autotune.interchange.t1 import KernelFile, decode_t1, encode_t1
from qcc.autotune.interchange.t4 import decode_t4, encode_t4
from qcc.autotune.interchange.tvm_records import decode_records, encode_records
from qcc.autotune.measurement import Measurement
from qcc.autotune.recorded import read_recording
from qcc.autotune.task import Task
from qcc.dialects.errors import IntegrityError, UsageError
from qcc.dialects.knobs import Constraint, Knob, Space

TASK = Task("cpu.linear", {"k": 64, "n": 256}, "int4", "zen4", "qcc 1")
MEASURED = [
    Measurement(
        values={"order": "row", "tile": 8},
        seconds=1.5e-3 + 1e-17,
        checked=True,
        spread=0.02,
        samples=7,
        strategy="distinctive",
        seed=3,
        when=1.7e9,
        host="here",
        cost={"benchmark": 0.25, "compilation": 0.5},
    ),
    Measurement(values={"order": "row", "tile": 16}, failure="correctness", detail="off by 3"),
    Measurement(values={"order": "column", "tile": 16}, failure="compile"),
    Measurement(values={"order": "column", "tile": 8}, seconds=2e-3, contended=True),
]
SPACE = Space(
    "tiles",
    (
        Knob("tile", (8, 16, 32, 64)),
        Knob("warps", (1, 2, 4)),
        Knob("alpha", (0.5, 1.0)),
        Knob("order", ("row", "column")),
    ),
    (
        Constraint(("tile", "warps"), lambda tile, warps: tile * warps <= 64, "memory"),
        Constraint(("order", "warps"), lambda o, w: (o == "row") | (w > 1), "columns"),
    ),
)
PUBLISHED = """{
  "General": {"BenchmarkName": "example", "OutputFormat": "JSON"},
  "ConfigurationSpace": {
    "TuningParameters": [
      {"Name": "block_size_x", "Type": "int", "Values": "[16] + list(range(32, 97, 32))", "Default": 16},
      {"Name": "tile", "Type": "int", "Values": "[2**i for i in range(3)]", "Default": 1},
      {"Name": "padding", "Type": "bool", "Values": "[True, False]", "Default": "True"},
      {"Name": "precision", "Type": "int", "Values": "[32]", "Default": [32]}
    ],
    "Conditions": [
      {"Expression": "padding == 0 or block_size_x % 64 != 0", "Parameters": ["padding", "block_size_x"]},
      {"Expression": "block_size_x*tile*precision <= 32*128", "Parameters": ["block_size_x", "tile"]}
    ]
  },
  "KernelSpecification": {
    "Language": "CUDA", "KernelName": "example", "KernelFile": "example.cu",
    "GlobalSize": {"X": "4096"}, "LocalSize": {"X": "block_size_x"}, "ProblemSize": [4096]
  }
}"""  # noqa: E501


def everything(space: Space) -> np.ndarray:
    return np.indices([len(knob.values) for knob in space.knobs]).reshape(len(space.knobs), -1).T


def test_space_survives_t1() -> None:
    written = encode_t1(SPACE, KernelFile("tiles", "tiles.cu"))
    space = decode_t1(written, "tiles.json")
    assert space.knobs == SPACE.knobs
    configs = everything(SPACE)
    assert (space.legal(configs) == SPACE.legal(configs)).all()
    assert 0 < SPACE.legal(configs).mean() < 1
    assert encode_t1(space, KernelFile("tiles", "tiles.cu")) == written
    text = json.loads(written)["ConfigurationSpace"]
    assert [each["Values"] for each in text["TuningParameters"]] == [
        "[8, 16, 32, 64]",
        "[1, 2, 4]",
        "[0.5, 1.0]",
        "['row', 'column']",
    ]
    assert [each["Type"] for each in text["TuningParameters"]] == ["int", "int", "float", "string"]


def test_recorded_space_survives_t1() -> None:
    recorded = recorded_space(TASK, MEASURED[:3])
    space = decode_t1(encode_t1(recorded, KernelFile("tiles", "tiles.cu")), "tiles.json")
    configs = everything(recorded)
    assert (space.legal(configs) == recorded.legal(configs)).all()
    assert space.legal(configs).sum() == 3


@pytest.mark.parametrize("name", ["2 SamplePerfectTile", "lambda", "tile-size"])
def test_knob_that_no_expression_can_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name the knob"):
        encode_t1(Space("tiles", (Knob(name, (1, 2)),)), KernelFile("tiles", "tiles.cu"))


def test_knob_may_be_named_as_anything_in_qcc() -> None:
    names = ("self", "columns", "max", "np")
    rules = tuple(Constraint((name,), lambda value: value < 2, name) for name in names)
    space = Space("names", tuple(Knob(name, (1, 2)) for name in names), rules)
    read = decode_t1(encode_t1(space, KernelFile("names", "names.cu")), "names.json")
    assert read.legal(everything(space)).sum() == 1


def test_published_space_can_be_searched() -> None:
    space = decode_t1(PUBLISHED.encode(), "example.json")
    assert [knob.values for knob in space.knobs] == [(16, 32, 64, 96), (1, 2, 4), (1, 0), (32,)]
    block, tile, padding, _ = space.columns(everything(space)).values()
    expected = ((padding == 0) | (block % 64 != 0)) & (block * tile <= 128)
    assert (space.legal(everything(space)) == expected).all()
    assert space.legal(draw(space, np.random.default_rng(0), 50)).all()
    illegal = space.config({"block_size_x": 64, "tile": 1, "padding": 1, "precision": 32})
    assert space.broken(illegal) == ["padding == 0 or block_size_x % 64 != 0"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"Values": "[32]"', '"Values": "__import__(\'os\')"', "__import__"),
        ('"Values": "[32]"', '"Values": "[[32]]"', "no numbers or texts"),
        ('"Values": "[32]"', '"Values": "[]"', "at least one"),
        ("block_size_x*tile*precision", "block_size_x*tiles", "tiles, which is no parameter"),
        ("block_size_x*tile*precision <= 32*128", "1 > 2", "never true"),
        ('"TuningParameters"', '"Parameters"', "TuningParameters"),
        ('"ConfigurationSpace": {', '"ConfigurationSpace": [', ""),
    ],
)
def test_damaged_space_is_refused(old: str, new: str, why: str) -> None:
    assert old in PUBLISHED
    with pytest.raises(IntegrityError) as caught:
        decode_t1(PUBLISHED.replace(old, new).encode(), "example.json")
    assert why in caught.value.why
    assert caught.value.where == "example.json"


def test_results_survive_t4() -> None:
    written = encode_t4(TASK, MEASURED)
    assert decode_t4(written, "r.json", None) == [Entry(TASK, each) for each in MEASURED]
    results = json.loads(written)["results"]
    assert [each["invalidity"] for each in results] == [
        "correct",
        "correctness",
        "compile",
        "correct",
    ]
    assert [each["correctness"] for each in results] == [1, 0, 0, 0]
    [time] = results[0]["measurements"]
    assert time == {"name": "time", "value": pytest.approx(1.5), "unit": "ms"}
    assert results[0]["times"] == {
        "benchmark": 250,
        "compilation": 500,
        "runtimes": [time["value"]],
    }


def result(**fields: Any) -> dict[str, Any]:
    whole = {
        "timestamp": "2025-03-17 07:22:09+00:00",
        "configuration": {"tile": 8},
        "times": {"compilation_time": 30.0, "runtimes": [1.0, 2.0, 3.0]},
        "invalidity": "correct",
        "correctness": 1,
        "measurements": [{"name": "time", "value": 2.0, "unit": ""}],
        "objectives": ["time"],
    }
    return whole | fields


def t4(result: dict[str, Any], unit: str | None = "milliseconds") -> bytes:
    head = {} if unit is None else {"metadata": {"timeunit": unit}}
    return json.dumps({"schema_version": "1.0.0", "results": [result], **head}).encode()


@pytest.mark.parametrize(
    ("unit", "own", "seconds"),
    [("miliseconds", "", 2e-3), (None, "", 2.0), ("seconds", "us", 2e-6), ("", "ns", 2e-9)],
)
def test_units_of_t4(unit: str | None, own: str, seconds: float) -> None:
    measured = result(measurements=[{"name": "time", "value": 2.0, "unit": own}])
    [entry] = decode_t4(t4(measured, unit), "r.json", TASK)
    assert entry.measurement.seconds == pytest.approx(seconds)
    assert entry.measurement.samples == 3
    assert entry.measurement.when == 1742196129.0
    assert not entry.measurement.checked
    [entry] = decode_t4(t4(measured, unit), "r.json", TASK, checked=True)
    assert entry.measurement.checked


def test_costs_of_t4_have_one_name() -> None:
    [entry] = decode_t4(t4(result()), "r.json", TASK)
    assert entry.measurement.cost == {"compilation": 0.03}


@pytest.mark.parametrize("value", [0, -1.0, "InvalidConfig", None, [1.0]])
def test_correct_result_without_a_time_failed(value: Any) -> None:
    broken = result(measurements=[{"name": "time", "value": value}])
    [entry] = decode_t4(t4(broken), "r.json", TASK)
    assert (entry.measurement.seconds, entry.measurement.failure) == (None, "runtime")


@pytest.mark.parametrize(
    ("fields", "unit", "why"),
    [
        ({"invalidity": "exploded"}, "s", "'exploded' is none of the schema"),
        ({"configuration": {"tile": [1]}}, "s", "configuration"),
        ({"configuration": {"tile": None}}, "s", "configuration"),
        ({}, "fortnights", "'fortnights' is unknown"),
        (
            {"measurements": [{"name": "score", "value": 1.0}], "objectives": ["score"]},
            "s",
            "score",
        ),
    ],
)
def test_damaged_results_are_refused(fields: dict[str, Any], unit: str, why: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        decode_t4(t4(result(**fields), unit), "r.json", TASK)
    assert why in caught.value.why


def test_results_survive_a_cache_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(encode_cache(TASK, MEASURED))
    found = [entry.measurement for entry in decode_cache(path.read_bytes(), str(path), TASK, True)]
    assert [each.values for each in found] == [each.values for each in MEASURED]
    assert [each.seconds for each in found] == [pytest.approx(1.5e-3), None, None, 2e-3]
    assert [each.failure for each in found] == ["", "runtime", "compile", ""]
    recording = read_recording(path)
    assert (recording.optimum, recording.device) == (pytest.approx(1.5e-3), "zen4")
    assert len(recording.seconds) == 4


def test_results_in_t4_can_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(encode_t4(TASK, MEASURED)))
    recording = read_recording(path)
    assert recording.space.names == ("order", "tile")
    configs = np.array([recording.space.config(each.values) for each in MEASURED])
    replayed = recording.measure(configs)
    assert [trial.seconds for trial in replayed] == [each.seconds for each in MEASURED]
    assert recording.optimum == MEASURED[0].seconds
    assert recording.cost.max() == 0.75
    path.write_bytes(encode_t4(TASK, []))
    with pytest.raises(IntegrityError, match="not a recording"):
        read_recording(path)


RECORD = (
    '[1,[[[["GetSBlock",[],["C","main"],["b0"]],["SamplePerfectTile",["l1"],[3,16],["v4"]],'
    '["SampleCategorical",[],[[0,16],[0.5,0.5]],["v10"]]],[[1,[16,2,2]],[2,0]]],[SECONDS],'
    '{"kind":"cuda","arch":"sm_80","tag":""},[["TENSOR","float32",[64,64]]]]]\n'
)
WORKLOADS = b'["17","bW9kdWxl"]\n["42","bW9kdWxl"]\n'


def test_records_of_metaschedule() -> None:
    lines = (
        RECORD.replace("SECONDS", "0.003,0.001,0.002") + RECORD.replace("SECONDS", "1e10")
    ).encode()
    worked, broken = decode_records(lines, WORKLOADS, "records.json")
    assert worked.task == broken.task
    assert worked.task.problem["workload"] == "42"
    assert (worked.task.device, worked.task.format) == ("cuda sm_80", "float32")
    values = dict(worked.measurement.values)
    assert values.pop("instructions")
    assert values == {"1 SamplePerfectTile": "[16,2,2]", "2 SampleCategorical": 0}
    assert (worked.measurement.seconds, worked.measurement.samples) == (2e-3, 3)
    assert (broken.measurement.seconds, broken.measurement.failure) == (None, "runtime")
    written = encode_records([worked, broken], WORKLOADS, "workloads.json").splitlines()
    assert json.loads(written[0]) == json.loads(RECORD.replace("SECONDS", "0.002"))
    assert json.loads(written[1]) == json.loads(RECORD.replace("SECONDS", "1e10"))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[1,[[[", "[2,[[[", "workload 2, of which there are 2"),
        ("[2,0]]", "[9,0]]", "a decision on instruction 9, of 3"),
        ("[SECONDS]", '"fast"', "line 1"),
        ("[1,[[[", "1,[[[", "line 1"),
    ],
)
def test_damaged_records_are_refused(old: str, new: str, why: str) -> None:
    line = RECORD.replace(old, new, 1).replace("SECONDS", "0.1")
    with pytest.raises(IntegrityError) as caught:
        decode_records(line.encode(), WORKLOADS, "records.json")
    assert why in caught.value.why


def test_only_workloads_of_metaschedule_are_written_as_such() -> None:
    with pytest.raises(UsageError, match="is no workload"):
        encode_records([Entry(TASK, MEASURED[0])], WORKLOADS, "workloads.json")
    [entry] = decode_records(RECORD.replace("SECONDS", "0.1").encode(), WORKLOADS, "records.json")
    other = msgspec.structs.replace(entry.task, problem={**entry.task.problem, "workload": "43"})
    with pytest.raises(UsageError, match="is no workload"):
        encode_records([Entry(other, entry.measurement)], WORKLOADS, "workloads.json")
