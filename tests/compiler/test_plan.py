"""The plan's JSON, table and coverage."""

import json

import pytest

from qcc.compiler.plan import LayerInfo, LayerPlan, Plan
from qcc.dialects.errors import UsageError
from qcc.dialects.formats import format

INT8 = format("int8")
PLAN = Plan(
    "mine",
    (
        LayerPlan("embed", "embedding", "embed.weight", reason="left"),
        LayerPlan("q", "linear", "q.weight", weights=format("int4", group=32), activations=INT8),
        LayerPlan("s", "linear", "s.weight", activations=INT8, static_percent=99.9),
        LayerPlan("attention", "attention", None, keys=INT8, values=format("fp8_e4m3")),
        LayerPlan("head", "linear", "embed.weight"),
    ),
)


def test_json_round_trip():
    assert Plan.from_json(json.loads(json.dumps(PLAN.as_json()))) == PLAN


def test_table_has_a_row_a_layer():
    rows = PLAN.table()
    assert [row["layer"] for row in rows] == ["embed", "q", "s", "attention", "head"]
    assert [row["weights"] for row in rows] == ["-", "int4<group=32>", "-", "-", "-"]
    assert [row["activations"] for row in rows[1:3]] == ["int8 dynamic", "int8 static 99.9%"]
    assert rows[3]["kv"] == "k int8, v fp8_e4m3"
    assert len({tuple(row) for row in rows}) == 1


def test_coverage_counts_each_parameter_once():
    sizes = {"embed.weight": 100, "q.weight": 200, "s.weight": 100, "bias": 999}
    assert PLAN.coverage(sizes) == 0.5
    assert Plan("none", ()).coverage({}) == 0.0


@pytest.mark.parametrize(
    ("op", "shape", "k"),
    [("linear", (3, 7), 7), ("embedding", (9, 4), 4), ("conv2d", (8, 3, 5, 2), 30)],
)
def test_reduction_length(op, shape, k):
    assert LayerInfo("layer", op, "w", shape).k == k


def damaged(**layer):
    data = PLAN.as_json()
    data["resolved"][1] = {**data["resolved"][1], **layer}
    return data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({**PLAN.as_json(), "version": 1}, "plan-invalid"),
        ({**PLAN.as_json(), "rule": []}, "plan-invalid"),
        ({**PLAN.as_json(), "recipe": 3}, "plan-invalid"),
        ({**PLAN.as_json(), "resolved": "abc"}, "plan-invalid"),
        ({**PLAN.as_json(), "resolved": [{}]}, "plan-invalid"),
        ({**PLAN.as_json(), "definitions": {"x": 3}}, "plan-invalid"),
        ({**PLAN.as_json(), "definitions": {"x": "format x {"}}, "format-syntax"),
        (damaged(op="linaer"), "plan-invalid"),
        (damaged(op=["linear"]), "plan-invalid"),
        (damaged(static_percent=True), "plan-invalid"),
        (damaged(static_percent=0), "plan-invalid"),
        (damaged(weight=3), "plan-invalid"),
        (damaged(weights=3), "plan-invalid"),
        (damaged(weights="int9"), "format-unknown"),
        (damaged(weights="mine@0123456789ab"), "format-unknown"),
        (damaged(extra=1), "plan-invalid"),
    ],
)
def test_damaged_plans_are_refused(data, code):
    with pytest.raises(UsageError) as caught:
        Plan.from_json(data, where="plan.json")
    assert caught.value.code == code
    assert caught.value.where.startswith("plan.json")
