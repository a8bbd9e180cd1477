"""
What is needed to see an internal error again: a folder with the IR, the command and the versions.

Weights are not part of it, as the IR only names them.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from .manifest import tool_versions


class PassCrash(Exception):
    """A pass failed in a way it should not; carries the IR that it was given."""

    def __init__(self, name: str, ir: str) -> None:
        super().__init__(f"pass '{name}' crashed")
        self.name, self.ir = name, ir


def write_difference(
    name: str,
    before: str,
    after: str,
    inputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
) -> Path:
    """
    Make a bundle for a pass that changed what a program computes; returns its path.

    `before.mlir` is empty where the program before was torch's; `values.npz` holds input.N,
    expected.N and result.N.
    """
    folder = Path(tempfile.mkdtemp(prefix="qcc-validation-"))
    (folder / "before.mlir").write_text(before)
    (folder / "after.mlir").write_text(after)
    groups = {"input": inputs, "expected": expected, "result": results}
    arrays = {
        f"{kind}.{index}": array
        for kind, group in groups.items()
        for index, array in enumerate(group)
    }
    with (folder / "values.npz").open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    record = {"pipeline": name, "versions": tool_versions()}
    (folder / "reproducer.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    return folder


def write(error: BaseException, argv: Sequence[str]) -> Path:
    """
    Make the bundle in a new folder of the temporary directory and return its path.

    `before.mlir` and the pass to run on it (`qcc opt before.mlir --pipeline NAME`) are there when
    a pass failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="qcc-crash-"))
    record = {"argv": list(argv), "versions": tool_versions(), "error": repr(error)}
    if isinstance(error, PassCrash):
        record["pipeline"] = error.name
        (folder / "before.mlir").write_text(error.ir)
    (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
    (folder / "reproducer.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    return folder
