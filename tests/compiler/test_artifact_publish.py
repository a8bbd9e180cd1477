"""Whatever interrupts a writer, the destination holds the old file or the new one, never half."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcc.compiler.artifact import Artifact, ArtifactWriter, TensorSpec
from qcc.compiler.publish import StagedFile, publish_bytes
from qcc.dialects.errors import ResourceError, UsageError

# Writes an artifact over OUT and kills itself at the Nth call that touches the disk.
KILLED_WRITER = """
import json, os, pathlib, runpy, signal, sys
made = runpy.run_path(sys.argv[1])["write_artifact"]
out, at = pathlib.Path(sys.argv[2]), int(sys.argv[3])
calls = 0
def counted(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, name, call)
for name in ("posix_fallocate", "pwrite", "fsync", "replace"):
    counted(name)
made(out)
print(calls)
"""

CONFTEST = Path(__file__).with_name("conftest.py")


def write_killed(out: Path, at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, str(CONFTEST), str(out), str(at)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_at_any_step_leaves_old_or_new(tmp_path: Path, write_sample: Callable) -> None:
    new = write_sample(tmp_path / "new.qcc").read_bytes()
    out = tmp_path / "folder" / "model.qcc"
    out.parent.mkdir()
    steps = int(write_killed(out, 0).stdout)
    assert steps > 20
    # The last steps (sync, rename, sync of the folder) one by one, the many writes by samples.
    for at in [1, 2, *range(3, steps - 4, 6), *range(steps - 4, steps + 1)]:
        out.write_bytes(b"old")
        killed = write_killed(out, at)
        assert killed.returncode == -signal.SIGKILL
        assert out.read_bytes() == (new if at == steps else b"old")
    assert write_killed(out, 0).returncode == 0
    assert out.read_bytes() == new
    assert os.listdir(out.parent) == ["model.qcc"], "the killed writers' files are cleared"


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.qcc"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with ArtifactWriter(path) as writer:
            writer.add("plan.json", b"{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.qcc"]


def test_a_full_disk_is_found_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "model.qcc"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with ArtifactWriter(path) as writer, pytest.raises(ResourceError) as caught:
            writer.add_weights([TensorSpec("w", (1 << 20,), np.float32)], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.code, caught.value.exit_code) == ("disk-full", 6)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.qcc"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_devices_and_folders_are_never_replaced(tmp_path: Path) -> None:
    for target in (Path("/dev/full"), tmp_path):
        with pytest.raises(UsageError, match="not a regular file"):
            publish_bytes(target, b"data")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """As another user, because root may write everywhere."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    program = (
        "import os, sys, json\n"
        "from qcc.compiler.publish import publish_bytes\n"
        "from qcc.dialects.errors import QccError\n"
        "from pathlib import Path\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: publish_bytes(Path(sys.argv[1]), b'data')\n"
        "except QccError as error: print(json.dumps([error.code, error.exit_code, error.why]))\n"
    )
    own = (parent for parent in tmp_path.parents if "pytest-of-" in str(parent))
    for parent in (tmp_path, *own):
        parent.chmod(parent.stat().st_mode | 0o011)
    told = subprocess.run(
        [sys.executable, "-c", program, str(folder / "model.qcc")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == ["output-not-writable", 2, "Permission denied"]
    assert os.listdir(folder) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        publish_bytes(tmp_path / "none" / "model.qcc", b"data")
    assert caught.value.code == "output-not-writable"


def test_a_link_keeps_pointing_at_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "real.qcc").write_bytes(b"old")
    link = tmp_path / "link.qcc"
    link.symlink_to("real.qcc")
    publish_bytes(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.qcc").read_bytes() == b"new"


def test_new_files_obey_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        publish_bytes(tmp_path / "file", b"data")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with StagedFile(path) as first, StagedFile(path) as second:
        first.write_at(0, b"first")
        second.write_at(0, b"second")
        first.publish()
        assert path.read_bytes() == b"first"
        second.publish()
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["file"]


def test_a_damaged_write_is_never_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_sample: Callable
) -> None:
    """A disk that loses a byte is noticed by the verification, before the rename."""
    path = write_sample(tmp_path / "model.qcc")
    old = path.read_bytes()
    real = os.pwrite

    def lossy(fd: int, data: memoryview, offset: int) -> int:
        data = memoryview(bytes([data[0] ^ 1]) + bytes(data[1:])) if len(data) == 15 else data
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", lossy)
    with pytest.raises(Exception, match="do not match their SHA-256"):
        write_sample(path)
    assert path.read_bytes() == old
    Artifact.open(path).close()
