"""
Arrays that users hand over in `.npz` files, and results given back in them.

Read without pickles and without trust: an array that would run code, or that claims more bytes
than its file holds, is an error. NumPy is imported on use, as the command line imports this file.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..dialects.errors import IntegrityError, ResourceError, UsageError
from .file_kind import ARRAYS, EMPTY, kind_of, sound_kind
from .publish import StagedFile, writing

if TYPE_CHECKING:
    import numpy as np

# What a deflated member may grow to, in all; inputs of a model are far smaller.
_LARGEST = 16 << 30
_MAX_RATIO = 1100
_WRITE = "write it with numpy.savez(path, name=array, …)"


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays by name. Raises UsageError for no file, IntegrityError for a bad one."""
    import numpy as np

    kind = sound_kind(path)
    if kind not in ("", ARRAYS):
        raise UsageError(
            "inputs-kind",
            f"'{path}' is no .npz file",
            why=f"it is {kind}",
            next_step=_WRITE,
        )
    if not path.is_file():
        raise UsageError("inputs-missing", f"there is no file '{path}'", next_step=_WRITE)
    if not os.access(path, os.R_OK):
        raise UsageError(
            "inputs-unreadable",
            f"cannot open '{path}'",
            why="permission denied",
            next_step="give a file that you may read",
        )
    try:
        _check_growth(path)
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is not a zip archive")
            return {name: _array(archive[name], name) for name in archive.files}
    except MemoryError as error:
        raise ResourceError("inputs-too-large", f"'{path}' does not fit into memory") from error
    except (ValueError, OSError, EOFError, KeyError, TypeError, *_ZIP_ERRORS) as error:
        raise IntegrityError(
            "inputs-damaged",
            f"'{path}' is not a readable .npz file of plain arrays",
            why=f"it is {EMPTY}" if kind_of(path) == EMPTY else str(error) or type(error).__name__,
            next_step=_WRITE,
        ) from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """
    Publish `arrays` by name; the old file stays until the new one is complete.

    They are written one by one: a copy of all in memory might not fit beside them.
    """
    import numpy as np

    with StagedFile(path) as staged:
        with writing(path), staged.temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        staged.publish()


def in_order(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    """
    The arrays of `names`, found by name or, in a file of unnamed arrays, as arr_0, arr_1, ….

    Raises UsageError unless the file holds exactly the inputs.
    """
    unnamed = [f"arr_{index}" for index in range(len(names))]
    for keys in (list(names), unnamed):
        if set(keys) == set(arrays):
            return [arrays[key] for key in keys]
    raise UsageError(
        "inputs-mismatch",
        f"the file holds {', '.join(sorted(arrays)) or 'nothing'}",
        why=f"the model takes {', '.join(names)}",
        next_step="save the inputs by these names, or unnamed and in this order",
    )


def _array(value: object, name: str) -> np.ndarray:
    import numpy as np

    if not isinstance(value, np.ndarray):  # NumPy gives the bytes of members that are no arrays
        raise ValueError(f"its member '{name}' is no array")
    return value


_ZIP_ERRORS = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError)


def _check_growth(path: Path) -> None:
    """Refuse a zip bomb before a byte of it is inflated."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if size > _LARGEST or size > _MAX_RATIO * max(path.stat().st_size, 1):
        raise ValueError(f"its arrays would take {size} bytes")
