"""
Measurements as one JSON document: what `qcc db export` writes, and what qcc ships.

    {"format": "qcc-tuning", "version": 1, "tasks": [
    {"task": {…}, "measurements": [
    {…},
    {…}]}]}

A measurement a line, so that a version control system shows what changed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ...dialects.errors import IntegrityError, QccError, UsageError
from ..measurement import Measurement
from ..task import Task
from .journal import VERSION, Entry, newer
from .store import Collection, Store

FORMAT = "qcc-tuning"


def invalid(what: str, error: Exception, where: str) -> IntegrityError:
    """The error that says of a file why it is not `what`."""
    why = f"{error.what}, at {error.where}" if isinstance(error, QccError) else str(error)
    return IntegrityError(
        "tuning-document", f"not {what}", where=where, why=why, next_step="write the file again"
    )


class _Head(msgspec.Struct):
    format: Literal["qcc-tuning"]
    version: int


class _OfTask(msgspec.Struct, forbid_unknown_fields=True):
    task: Task
    measurements: list[Measurement]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal["qcc-tuning"]
    version: int
    tasks: list[_OfTask]


def encode_document(store: Store) -> bytes:
    """All that `store` holds."""
    parts = [
        b'{"task": %s, "measurements": [\n%s]}'
        % (task.json, b",\n".join(each.json for each in store.measurements(task)))
        for task in store.tasks()
    ]
    head = f'{{"format": "{FORMAT}", "version": {VERSION}, "tasks": [\n'
    return head.encode() + b",\n".join(parts) + b"]}\n"


def decode_document(data: bytes, where: str) -> Collection:
    """
    Undo `encode_document`; `where` is the file, for errors.

    Raises IntegrityError for anything else, UnsupportedError for a document of a newer qcc.
    """
    try:
        if msgspec.json.decode(data, type=_Head).version > VERSION:
            raise newer("the document", where)
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, UsageError) as error:
        raise invalid("measurements as `qcc db export` writes them", error, where) from error
    return Collection(
        Entry(each.task, measurement)
        for each in document.tasks
        for measurement in each.measurements
    )
