"""Measured rows on disk, so that an interrupted table continues where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class State:
    """
    The finished rows of one subject, each on disk before the next one starts.

    A file a subject, so that several may be measured at once. Figures of other settings never meet:
    the settings are part of a row's name.
    """

    def __init__(self, folder: Path | None, subject: str, settings: str) -> None:
        self._path = folder / f"{subject}.json" if folder else None
        self._settings = settings
        self._rows: dict[str, Record] = {}
        if self._path and self._path.is_file():
            self._rows = json.loads(self._path.read_text(encoding="utf-8"))

    def get(self, key: str) -> Record | None:
        return self._rows.get(self._name(key))

    def put(self, key: str, record: Record) -> None:
        self._rows[self._name(key)] = record
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._rows, indent=1), encoding="utf-8")
        os.replace(partial, self._path)

    def _name(self, key: str) -> str:
        return f"{self._settings} | {key}"
