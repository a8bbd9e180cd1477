"""The emulators themselves, C compiled for this machine at first use and found again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...dialects.errors import QccError
from .sources import HOST, RV32, digest_of, folder_digest
from .toolchain import host_compiler, version_of

FLAGS = ("-O2", "-std=gnu11")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")


def build_with_host(
    name: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    folder: Path,
    keys: Sequence[str] = (),
    objects: Sequence[Path] = (),
) -> Path:
    """
    `folder/name-<digest>` made of `sources` and `objects`; `keys` are the headers' digests.

    Raises QccError("pim-emulator-build") where the compiler refuses.
    """
    compiler = host_compiler()
    contents = [path.read_text() for path in sources]
    digest = digest_of((*contents, *flags, *keys, *map(str, objects), version_of(compiler)))
    kept = folder / f"{name}-{digest}"
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        result = Path(scratch, "result")
        command = [compiler, *flags, *map(str, sources), *map(str, objects)]
        command += ["-o", str(result)]
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


def host_program(name: str, sources: Sequence[Path], folder: Path) -> Path:
    """
    A program of the host, its `dpu.h` on emulated DPUs: it loads programs built for RV32.

    The headers beside `sources` are found, and are part of what makes the program another one.
    """
    emulated = [HOST / "dpu_emulated.c", *sorted(RV32.glob("*.c"))]
    keys = [folder_digest(path) for path in (HOST, RV32)]
    shared = (*FLAGS, f"-I{HOST}", f"-I{RV32}", "-fPIC", "-shared", "-fno-gcse")
    library = build_with_host("dpu", emulated, shared, folder, keys)
    beside = sorted({source.parent for source in sources})
    flags = (*FLAGS, *WARNINGS, *(f"-I{path}" for path in (HOST, *beside)))
    keys += [header.read_text() for path in beside for header in sorted(path.glob("*.h"))]
    return build_with_host(name, sources, flags, folder, keys, [library])
