"""Where compiled kernels are kept between processes: QCC_CACHE, or below the user's own cache."""

from __future__ import annotations

import os
from pathlib import Path

from ..dialects.errors import ResourceError


def cache_folder(name: str) -> Path:
    """
    The folder `name` of this user's cache, made if need be, for nobody else to read or write.

    Libraries are loaded from it: raises ResourceError for a folder of another user, or one that
    others may write to.
    """
    path = cache_root() / name
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise _unusable(path, str(error)) from error
    if found.st_uid != os.geteuid():
        raise _unusable(path, "it belongs to another user")
    if found.st_mode & 0o022:
        raise _unusable(path, "others may write to it")
    return path


def cache_root() -> Path:
    chosen = os.environ.get("QCC_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qcc"


def _unusable(path: Path, why: str) -> ResourceError:
    return ResourceError(
        "cache-folder",
        f"'{path}' cannot keep compiled kernels",
        where=str(path),
        why=why,
        next_step="name another folder of yours in the environment variable QCC_CACHE",
    )
