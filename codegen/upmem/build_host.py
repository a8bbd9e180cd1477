"""The emulators themselves, C compiled for this machine at first use and found again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...dialects.errors import QccError
from .sources import digest_of, folder_digest
from .toolchain import host_compiler, version_of

RV32_LIBRARY_FLAGS = ("-O2", "-std=gnu11", "-fPIC", "-shared", "-fno-gcse")


def build_with_host(
    name: str, sources: Sequence[Path], flags: Sequence[str], folder: Path, keys: Sequence[str] = ()
) -> Path:
    """`folder/name-<digest>` made of `sources`; `keys` are whatever else the result depends on."""
    compiler = host_compiler()
    contents = [path.read_text() for path in sources]
    parts = [*contents, *flags, *keys, version_of(compiler)]
    parts += [folder_digest(path.parent) for path in sources[-1:]]
    kept = folder / f"{name}-{digest_of(parts)}"
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        result = Path(scratch, "result")
        command = [compiler, *flags, *map(str, sources), "-o", str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise QccError(
                "pim-emulator-build",
                f"{Path(compiler).name} refuses the sources of '{name}'",
                where=", ".join(path.name for path in sources),
                why=done.stderr.strip()[:4000],
                next_step="report the message",
            )
        os.replace(result, kept)
    return kept
