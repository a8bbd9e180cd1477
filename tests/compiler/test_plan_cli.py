"""`qcc plan --target pim-cluster`."""

import json

import pytest

from qcc.compiler.cli import main

ARGUMENTS = ["plan", "--target", "pim-cluster", "--nodes", "4", "--requests", "6", "--json"]


def test_rows_for_each_context(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*ARGUMENTS, "--model", "7B", "--node", "aim", "--context", "8192", "1048576"]
    assert main(given) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["context"] for row in rows] == [8192] * 4 + [1048576] * 4
    dynamic, static, heads, gpus = rows[:4]
    assert dynamic["tokens/s"] >= static["tokens/s"] >= heads["tokens/s"] > 0
    assert gpus["system"] == "1 x H100-80GB"
    assert "needs" in rows[4]["note"]
    assert rows[7]["system"] == "4 x H100-80GB"


def test_dpus(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*ARGUMENTS, "--model", "7B", "--node", "upmem", "--context", "4096"]
    assert main(given) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["tokens/s"] > 0
    assert 0 < row["GiB/node"] < 128


@pytest.mark.parametrize(
    ("flags", "code"), [(["--model", "9B"], "pim-cluster-model"),
                        (["--node", "gpu"], "pim-cluster-node")],
)  # fmt: skip
def test_unknown_names(flags: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, *flags]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
