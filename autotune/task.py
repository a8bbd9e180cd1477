"""
What is tuned: one kernel for one problem, in one format, on one device, built by one toolchain.

    >>> task = Task("cpu.linear", {"n": 256, "k": 64}, "int4-g32", "zen4, 8 threads", "qcc 0.1.0")
    >>> task.text
    'cpu.linear k=64 n=256 int4-g32 on zen4, 8 threads'
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from ..dialects.errors import UsageError
from ..dialects.knobs import Value

_LARGEST, _EXACT = 1 << 63, 1 << 53


class Task(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """
    `kernel` as "cpu.linear" or "cuda.attention"; `problem` its sizes and whatever else decides what
    is computed; `format` the spelling of all formats that it computes in. `device` says what times
    depend on (model, threads, clock limits), `toolchain` what code depends on.

    Raises UsageError for a problem that is not of finite numbers and texts.
    """

    kernel: str
    problem: dict[str, Value]
    format: str = ""
    device: str = ""
    toolchain: str = ""

    def __post_init__(self) -> None:
        if not self.kernel:
            raise UsageError("task-invalid", "a task names a kernel", next_step='as "cpu.linear"')
        names = {"kernel": self.kernel, "format": self.format, "device": self.device}
        canonical({**names, "toolchain": self.toolchain}, "task")
        msgspec.structs.force_setattr(self, "problem", canonical(self.problem, "problem"))

    @cached_property
    def json(self) -> bytes:
        """The one spelling of this task."""
        return msgspec.json.encode(self, order="sorted")

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits, the same in every process and release."""
        return sha256(self.json).hexdigest()[:16]

    @property
    def text(self) -> str:
        """For people; the toolchain is left out."""
        return f"{self.work} on {self.device}" if self.device else self.work

    @property
    def work(self) -> str:
        """What is computed, on whatever device."""
        sizes = [f"{name}={value}" for name, value in self.problem.items()]
        return " ".join([self.kernel, *sizes, *filter(None, [self.format])])

    def __hash__(self) -> int:
        return hash(self.key)


def canonical(values: Mapping[str, Any], what: str) -> dict[str, Value]:
    """
    Values in the order of their names; whole numbers as int, so that 1, 1.0 and True are the same.

    Raises UsageError for what is neither a finite number nor a text, or is none in JSON: an integer
    of more than 63 bits, a text that Unicode cannot encode.

    >>> canonical({"split": np.int64(2), "fast": True, "alpha": 0.5, "order": "row"}, "values")
    {'alpha': 0.5, 'fast': 1, 'order': 'row', 'split': 2}
    """
    return {name: _canonical(values[name], f"{what}, '{name}'") for name in sorted(values)}


def _canonical(value: Any, where: str) -> Value:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, int) and abs(plain) < _LARGEST:
        return int(plain)
    if isinstance(plain, float) and isfinite(plain):
        return int(plain) if plain.is_integer() and abs(plain) < _EXACT else plain
    if isinstance(plain, str) and plain == plain.encode("utf-8", "replace").decode():
        return plain
    raise UsageError(
        "value-invalid",
        f"{value!r} is neither a finite number nor a text",
        where=where,
        next_step="give a number or a text",
    )
