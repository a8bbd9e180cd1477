"""Progress for terminals, logs and programs, and text that cannot harm a terminal."""

from __future__ import annotations

import io
import json

import pytest

from qcc.compiler.console import Bars, Console, Events, Lines, bytes_text, encode, table
from qcc.dialects.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_bars_a_log_gets_lines_a_program_gets_events() -> None:
    out = io.StringIO()
    bars = Console(out, Terminal()).progress()
    bars.close()
    assert isinstance(bars, Bars)
    assert isinstance(Console(out, io.StringIO()).progress(), Lines)
    assert isinstance(Console(out, Terminal(), json=True).progress(), Events)


def test_bars_show_stage_and_step() -> None:
    terminal = Terminal()
    bars = Bars(terminal)
    bars.stage("pack")
    bars.advance(1, 2, "layer [bold]0")
    bars.stage("lower")
    bars.close()
    assert "pack" in terminal.getvalue()
    assert "lower" in terminal.getvalue()


def test_lines_tell_stages_at_once_and_steps_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("qcc.compiler.console.time.monotonic", lambda: now[0])
    log = io.StringIO()
    lines = Lines(log)
    lines.stage("pack")
    for step in range(12):
        now[0] += 1
        lines.advance(step + 1, 12, f"layer {step}")
    lines.close()
    assert log.getvalue().splitlines() == [
        "qcc: pack",
        "qcc: pack 5/12 layer 4",
        "qcc: pack 10/12 layer 9",
    ]


def test_json_has_one_document_on_stdout() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err, json=True)
    console.note("by the way")
    console.result({"a": float("inf"), "b": float("nan")}, "text")
    assert json.loads(out.getvalue()) == {"a": None, "b": None}
    assert json.loads(err.getvalue()) == {"event": "note", "text": "by the way"}


def test_failures_go_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    Console(out, err).failure(UsageError("a-code", "what", where="here", next_step="do"))
    assert out.getvalue() == ""
    assert err.getvalue() == "qcc: error [a-code] what\n  where: here\n  next: do\n"


def test_tables_show_no_control_characters() -> None:
    shown = table([{"name": "\x1b[31mred\n", "n": 0.123456789}], ["name", "n"])
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2
    assert "0.1235" in shown
    assert table([], ["name"]) == "name"


def test_sizes() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 1 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "1024.0 TiB"
    ]  # fmt: skip


def test_encode_indents() -> None:
    assert encode([1]) == "[\n  1\n]"
