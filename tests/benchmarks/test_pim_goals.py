"""The tables that `python -m benchmarks.pim_goals` prints."""

import pytest

from benchmarks import pim_goals
from qcc.dialects.pim.device import device


def test_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert pim_goals.main(["--sizes"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    table = {(row[0], row[1]): row for row in rows[1:]}
    assert table["W2A2", "6"][-1] == table["W3A3", "2"][-1] == "equal"
    assert table["W1A3", "7"][5] == "611.06x"
    assert table["W1A1", "8"][-1] == "162.6x"
    assert table["W1A3", "8"][2:5] == ["4294967296", "6435", "1647360"]


def test_a_model_is_the_sum_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pim_goals.MODELS, "tiny", (((48, 64), 2), ((64, 48), 1)))
    tuned = pim_goals.Tuned(device("v1A"), "kernel")
    both = tuned.block_ms("tiny", 16, "W2A2", ("canonical", "multiply"))
    parts = [
        many * tuned.fastest(shape, 16, "W2A2", ("canonical", "multiply")).cost.kernel_ms
        for shape, many in pim_goals.MODELS["tiny"]
    ]
    assert both == sum(parts)
    assert both <= tuned.block_ms("tiny", 16, "W2A2", ("multiply",))
    assert round(pim_goals.geometric([2.0, 8.0]), 12) == 4.0
