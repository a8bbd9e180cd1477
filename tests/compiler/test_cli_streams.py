"""Signals, and standard streams that are closed, full, or in another encoding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

QCC = [sys.executable, "-m", "qcc.compiler.cli"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(number: int, code: int, tmp_path: Path) -> None:
    """
    A program gets its one JSON document even then.

    The pipe's writer can open it only when the command has opened it to read.

    A shell starts background jobs with SIGINT ignored, and these tests may run in one.
    """
    pipe = tmp_path / "in.mlir"
    os.mkfifo(pipe)
    heed = partial(signal.signal, number, signal.SIG_DFL)
    command = [*QCC, "opt", str(pipe), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    ) as process:
        with pipe.open("wb"):
            process.send_signal(number)
            assert process.wait(timeout=60) == code
        told, problem = process.communicate()
        assert "Traceback" not in problem
        document = json.loads(told)
        assert document["exit_code"] == code
        assert document["error"]["code"] in ("interrupted", "terminated")


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    left = subprocess.run(
        [*QCC, "list", "targets"], stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    assert (left.returncode, left.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
@pytest.mark.parametrize(
    ("argv", "code", "shown"),
    [
        ("list targets", 6, "result-lost"),
        ("list targets --json", 6, "result-lost"),
        ("--help", 6, "result-lost"),
        ("--print-completion bash", 6, "result-lost"),
        ("lits targets --json", 2, "did you mean list?"),
    ],
)
def test_a_result_that_cannot_be_written(argv: str, code: int, shown: str) -> None:
    with open("/dev/full", "w") as full:
        left = subprocess.run(
            [*QCC, *argv.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert left.returncode == code
    assert shown in left.stderr
    assert "Traceback" not in left.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_streams_that_are_not_there(closed: str, sample: Path) -> None:
    """A closed descriptor is the first that a new file would get: messages must not reach it."""
    out = sample.with_suffix(".html")
    command = f'"$@" report {sample} {closed}'
    done = subprocess.run(["sh", "-c", command, "sh", *QCC], capture_output=True, check=False)
    assert done.returncode == 0
    assert out.read_text().startswith("<!doctype html>")
    assert out.read_text().endswith("</html>\n")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_file_names_of_any_bytes(encoding: str, flags: list[str]) -> None:
    done = subprocess.run(
        [*(part.encode() for part in [*QCC, *flags, "inspect"]), "ü \udcff.qcc"],
        capture_output=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    told = (done.stdout if flags else done.stderr).decode()
    assert "file-unreadable" in told
    assert "udcff.qcc" in told
