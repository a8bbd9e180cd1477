"""Arguments that cannot be obeyed: each is one UsageError that names the nearest word."""

from __future__ import annotations

import sys

import pytest

from qcc.compiler.cli import main
from qcc.compiler.commands import VERBS

QCC = [sys.executable, "-m", "qcc.compiler.cli"]


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["compil", "m.pt2"], "did you mean compile?"),
        (["benhc", "a.qcc"], "did you mean bench?"),
        (["list", "FORMAT"], "did you mean formats?"),
        (["compile", "m.pt2", "--recpie", "w8a16"], "did you mean --recipe?"),
        (["compile", "m.pt2", "--recpie=w8a16"], "did you mean --recipe?"),
        (["compile", "m.pt2", "--recip", "w8a16"], "did you mean --recipe"),
        (["--jsn", "list", "ops"], "did you mean --json?"),
        (["list", "ops", "more"], "'more' is one argument too many"),
        (["verify"], "required: OUT.qcc"),
        (["bench", "a.qcc", "-n", "x"], "'x' is not a whole number"),
        (["bench", "a.qcc", "-n", "-5"], "-5 is not from 1"),
        (["bench", "a.qcc", "-n", "9" * 99], "is not from 1"),
        (["bench", "a.qcc", "-n", "9" * 9999], "is not a whole number"),
        (["bench", "a.qcc", "--tolerance", "nan"], "nan is not 0 or a positive number"),
        (["bench", "a.qcc", "--tolerance", "-1"], "-1 is not 0 or a positive number"),
        (["bench", "a.qcc", "--tolerance", "inf"], "inf is not 0 or a positive number"),
        (["compile", "m.pt2", "--seed", "-1"], "-1 is not from 0"),
        (["compile", "m.pt2", "--seed", "1e3"], "'1e3' is not a whole number"),
        (["compile", "m.pt2", "--calib-samples", "0"], "0 is not from 1"),
        (["compile", "m.pt2", "--require-coverage", "nan"], "nan is not between 0 and 1"),
        (["compile", "m.pt2", "--require-coverage", "x"], "'x' is not a number"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_be_obeyed(
    argv: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert shown in told.err
    assert "error [usage]" in told.err
    assert "--help` " in told.err


@pytest.mark.parametrize(
    "argv",
    [
        [""],
        ["compile", ""],
        ["compile", "m.pt2", "-o", ""],
        ["compile", "m.pt2", "--weights="],
        ["compile", "m.pt2", "--format", ""],
        ["compile", "m.pt2", "--print-ir-after-all", ""],
        ["run", "a.qcc", "--inputs", ""],
        ["verify", ""],
        ["report", "a.qcc", "-o", ""],
        ["bench", "a.qcc", "--precision", ""],
    ],
    ids=" ".join,
)
def test_an_empty_value_is_never_a_name(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert "error [usage]" in capsys.readouterr().err


def test_no_abbreviated_flags() -> None:
    """`--js` would not be found in the arguments when the console is made."""
    for verb in ("list", "verify"):
        assert main([verb, "ops", "--js"]) == 2


def test_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 130, 141, 143):
        assert f"\n  {code}  " in shown
    assert all(verb in shown for verb in VERBS)
