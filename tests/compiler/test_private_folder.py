"""Temporary folders: gone at their end, and after SIGKILL at the next start."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qcc.compiler.private_folder import PREFIX, PrivateFolder

HOLD = """
import sys, time
from qcc.compiler.private_folder import PrivateFolder
folder = PrivateFolder()
(folder.path / "file").write_text("x")
print(folder.path, flush=True)
time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_removed_at_its_end(temporary: Path) -> None:
    folder = PrivateFolder()
    (folder.path / "file").write_text("x")
    assert folder.path.stat().st_mode & 0o77 == 0
    folder.remove()
    assert list(temporary.iterdir()) == []
    kept = PrivateFolder()
    remove, path = kept.remove, kept.path
    del kept
    assert path.is_dir(), "whoever may remove it still needs it"
    del remove
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(temporary: Path) -> None:
    (temporary / "others").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "others")
    mine = PrivateFolder()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env={"TMPDIR": str(temporary), "PYTHONPATH": ":".join(sys.path)},
    ) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        PrivateFolder().remove()
        assert theirs.is_dir(), "its process lives"
        process.send_signal(signal.SIGKILL)
    assert theirs.is_dir()
    PrivateFolder().remove()
    assert not theirs.exists()
    assert mine.path.is_dir()
    assert (temporary / "others").is_dir()
    mine.remove()
