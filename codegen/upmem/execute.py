"""
Kernels run on emulated DPUs, as the host would run them: transfers, a launch, the results.

`rv32` is the timed emulator, `native` needs gcc only. Both are what dialects/pim/execute.py calls
a Run: arrays [dpus, elements…] by the names of a kernel's arguments.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dialects.errors import UsageError
from ...dialects.pim.dialect import size_of
from .build_dpu import build_rv32
from .dpu_program import DpuProgram
from .emit_dpu import OFFSETS, array_types, dpu_program
from .launch import Launch
from .native import NativeDpu
from .program import Rung
from .rv32 import Dpu

HEAP = "__sys_used_mram_end"
"""The symbol behind DPU_MRAM_HEAP_POINTER."""
Array = NDArray[Any]
GARBAGE = 0xA5
AT_ONCE = 1 << 24
"""Bytes of arrays that an emulator is sent in one go."""


@dataclass
class _Kept:
    """An emulator, and what it was given that all DPUs have alike, which nobody writes."""

    dpu: Dpu | NativeDpu
    same: dict[str, Array] = field(default_factory=dict)

    def bring(self, name: str, array: Array, offset: int) -> None:
        """Unless it has it: the same memory, which is held here, so that it stays the same."""
        had = self.same.get(name)
        if had is None or had.ctypes.data != array.ctypes.data:
            self.dpu.write(HEAP, array, offset)
            self.same[name] = array


@dataclass
class Emulated:
    """
    A kernel on emulated DPUs of one kind.

    `seed` 0 runs tasklets in order, another draws a schedule. After a run `launches` holds what
    each DPU did: the timed emulator's have traces for the cycle model.
    """

    kernel: Any
    folder: Path
    rung: Rung = "rv32"
    seed: int = 0
    results: tuple[str, ...] = ("results",)
    workers: int = 1
    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self.program: DpuProgram = dpu_program(self.kernel)
        self.sizes = {name: size_of(type_) for name, type_ in array_types(self.kernel).items()}
        self._make = self._maker()

    def _maker(self) -> Callable[[], Dpu | NativeDpu]:
        if self.rung == "native":
            return lambda: NativeDpu(self.program, self.folder)
        image = build_rv32(self.program, self.folder)
        return lambda: Dpu(self.program, image, self.folder)

    @property
    def offsets(self) -> dict[str, int]:
        """Arrays one after another."""
        found, place = {}, 0
        for name, size in self.sizes.items():
            found[name], place = place, place + size
        return found

    def __call__(self, arrays: Mapping[str, Array], words: Mapping[str, int] = {}) -> None:
        """Run all DPUs, `workers` at a time, and write the arrays named in `results`."""
        given = {name: self._bytes(name, arrays) for name in self.sizes}
        (dpus,) = {len(each) for each in given.values()}
        workers = min(self.workers or os.cpu_count() or 1, dpus)
        parts = [range(first, dpus, workers) for first in range(workers)]
        if workers == 1:
            ran = [self._run_some(parts[0], given, words)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                ran = list(pool.map(lambda part: self._run_some(part, given, words), parts))
        done = {dpu: launch for part in ran for dpu, launch in part.items()}
        self.launches = [done[dpu] for dpu in range(dpus)]

    def _bytes(self, name: str, arrays: Mapping[str, Array]) -> Array:
        """
        [dpus, bytes], the memory of the array itself, which results are written to.

        What all DPUs have alike may be one array seen as many.
        """
        array = arrays[name]
        if not array[0].flags.c_contiguous or array[0].nbytes > self.sizes[name]:
            raise UsageError(
                "pim-argument",
                f"{name} has {array[0].nbytes} bytes for each DPU",
                why=f"the kernel takes {self.sizes[name]}, one DPU after another",
            )
        return array.reshape(len(array), -1).view(np.uint8)

    def _run_some(
        self, dpus: range, given: Mapping[str, Array], words: Mapping[str, int]
    ) -> dict[int, Launch]:
        """
        One emulator stands for all of them: it is given all that a DPU's memory holds. The first
        finds memory poisoned, the others what the one before left, as a DPU does. It stays for the
        next run, unless it ends with a fault.
        """
        kept = self._kept.pop(dpus.start, None) or self._started()
        dpu = kept.dpu
        for name, value in words.items():
            dpu.write(name, np.array([value], np.uint32))
        same = {name for name, array in given.items() if array.strides[0] == 0}
        for name in same:
            kept.bring(name, given[name][0], self.offsets[name])
        found: dict[int, Launch] = {}
        size = sum(array.shape[1] for name, array in given.items() if name not in same)
        at_once = max(1, AT_ONCE // max(1, size))
        for first in range(0, len(dpus), at_once):
            some = dpus[first : first + at_once]
            own = {name: self._rows(name, array, some) for name, array in given.items()
                   if name not in same}  # fmt: skip
            launch = self._many if isinstance(dpu, NativeDpu) else self._one_by_one
            found |= zip(some, launch(dpu, own, given, some), strict=True)
        self._kept[dpus.start] = kept
        return found

    def _started(self) -> _Kept:
        dpu = self._make()
        dpu.poison(self.seed)
        if self.sizes:
            dpu.write(OFFSETS, np.array(list(self.offsets.values()), np.uint32))
        return _Kept(dpu)

    def _rows(self, name: str, array: Array, dpus: range) -> Array:
        """What those DPUs are given; garbage where results will be."""
        if name in self.results:
            return np.full((len(dpus), array.shape[1]), GARBAGE, np.uint8)
        return array[dpus.start : dpus.stop : dpus.step]

    def _one_by_one(
        self, dpu: Any, own: Mapping[str, Array], given: Mapping[str, Array], dpus: range
    ) -> list[Launch]:
        launches = []
        for index, number in enumerate(dpus):
            for name, rows in own.items():
                dpu.write(HEAP, rows[index], self.offsets[name])
            launches.append(dpu.launch(self.seed))
            for name in self.results:
                raw = dpu.read(HEAP, given[name].shape[1], self.offsets[name])
                given[name][number] = np.frombuffer(raw, np.uint8)
        return launches

    def _many(
        self, dpu: Any, own: Mapping[str, Array], given: Mapping[str, Array], dpus: range
    ) -> list[Launch]:
        """In one stream of orders; what lies between several results is read with them."""
        offsets = self.offsets
        first = min(offsets[name] for name in self.results)
        last = max(offsets[name] + given[name].shape[1] for name in self.results)
        writes = [(HEAP, offsets[name], rows) for name, rows in own.items()]
        raw, launches = dpu.launch_many(writes, (HEAP, first, last - first), self.seed)
        for name in self.results:
            at, width = offsets[name] - first, given[name].shape[1]
            given[name][dpus.start : dpus.stop : dpus.step] = raw[:, at : at + width]
        return launches
