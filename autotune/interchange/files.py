"""
Files of measurements, in the formats that there are.

| format | what | tasks in a file |
|---|---|---|
| `qcc` | JSON document of qcc, all that is known | any number |
| `t4` | results in T4 JSON | one |
| `cache` | cache file of Kernel Tuner, to search in simulation | one |
| `t1` | the configs that were measured as a search space in T1 JSON; written only | one |
| `metaschedule` | `database_tuning_record.json` of TVM | any number that came from there |
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import msgspec

from ...dialects.errors import IntegrityError, UsageError
from ..database import Entry, Store, entries_of
from ..database.document import decode_document, encode_document
from ..task import Task
from .kernel_tuner_cache import decode_cache, encode_cache, recorded_space
from .t1 import KernelFile, encode_t1
from .t4 import decode_t4, encode_t4
from .tvm_records import decode_records, encode_records

LARGEST = 1 << 31
_GZIP = b"\x1f\x8b"


class _Kind(msgspec.Struct):
    """The fields by which formats are told apart."""

    format: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    results: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    cache: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_measurements(path: Path, task: Task | None, checked: bool) -> list[Entry]:
    """
    Of a document of qcc, T4 JSON, a cache of Kernel Tuner, or records of MetaSchedule.

    What does not name its task is of `task`; `checked` says that its results were.

    Raises UsageError for a file that cannot be read, IntegrityError for one of another kind.
    """
    data, where = read(path), str(path)
    if data.lstrip().startswith(b"["):
        return decode_records(data, read(workloads_beside(path)), where)
    try:
        kind = msgspec.json.decode(data, type=_Kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unknown(where, str(error)) from error
    if kind.results is not msgspec.UNSET:
        return decode_t4(data, where, task, checked)
    if kind.cache is not msgspec.UNSET:
        return decode_cache(data, where, task, checked)
    if kind.format is msgspec.UNSET:
        raise _unknown(where, "it has none of the fields format, results and cache")
    return list(entries_of(decode_document(data, where)))


def written(store: Store, kind: str, path: Path, recording: str = "") -> bytes:
    """
    All that `store` holds, as `kind`, one of KINDS, for the file `path`. `recording` is the cache
    file that a T1 file names.

    Raises UsageError for tasks that the format cannot hold.
    """
    if kind == "qcc":
        return encode_document(store)
    if kind == "metaschedule":
        workloads = workloads_beside(path)
        return encode_records(entries_of(store), read(workloads), str(workloads))
    task = _only(store, kind)
    measurements = store.measurements(task)
    if kind == "t1":
        kernel = KernelFile.of(task, path.name, recording)
        return encode_t1(recorded_space(task, measurements), kernel)
    return (encode_t4 if kind == "t4" else encode_cache)(task, measurements)


def _only(store: Store, kind: str) -> Task:
    tasks = store.tasks()
    if len(tasks) == 1:
        return tasks[0]
    raise UsageError(
        "one-task",
        f"a file of format {kind} holds one task, not {len(tasks)}",
        why=", ".join(task.key for task in tasks[:4]),
        next_step="name one by its key, as `qcc db list` shows it",
    )


def workloads_beside(records: Path) -> Path:
    """Where MetaSchedule keeps the workloads of a file of records."""
    return records.with_name(records.name.replace("tuning_record", "workload"))


def read(path: Path) -> bytes:
    """The content of a file, unpacked where it is in gzip; up to LARGEST bytes."""
    try:
        data = path.read_bytes()
        if not data.startswith(_GZIP):
            return data
        with gzip.open(path) as file:
            data = file.read(LARGEST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unknown(str(path), str(error)) from error
    except OSError as error:
        raise UsageError(
            "input-unreadable", f"cannot read '{path}'", why=error.strerror or str(error)
        ) from error
    if len(data) > LARGEST:
        raise _unknown(str(path), f"unpacked it has more than {LARGEST} bytes")
    return data


def _unknown(where: str, why: str) -> IntegrityError:
    return IntegrityError(
        "measurements-unreadable",
        "not a file of measurements",
        where=where,
        why=why,
        next_step="give JSON of `qcc db export`, T4 JSON, a cache file of Kernel Tuner, or "
        "database_tuning_record.json of MetaSchedule",
    )
