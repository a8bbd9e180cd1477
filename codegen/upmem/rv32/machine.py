"""The interpreter (machine.h) from Python: a DPU with a program, its memory, launches, traces."""

from __future__ import annotations

import ctypes
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ....dialects.errors import QccError, UsageError
from ..build_host import build_with_host
from ..dpu_program import DpuProgram
from ..faults import DpuFault
from ..launch import Launch, Trace
from ..sources import RV32, folder_digest

# No merging of the indirect jumps: each operation predicts its own successor.
FLAGS = ("-O2", "-std=gnu11", "-fPIC", "-shared", "-fno-gcse")
EVENTS = (
    "compute",
    "read",
    "write",
    "barrier",
    "lock",
    "unlock",
    "notify",
    "wait",
    "take",
    "give",
)
MOST_INSTRUCTIONS = 20_000_000_000
QUANTUM = 200  # instructions of a turn at most, where turns are drawn


class _Config(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("tasklets", "wram", "mram", "stack", "pairs")]


class _Symbol(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * 60),
        ("address", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    ]


class _Fault(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_int32),
        ("tasklet", ctypes.c_int32),
        ("pc", ctypes.c_uint32),
        ("address", ctypes.c_uint32),
        ("text", ctypes.c_char * 256),
    ]


@cache
def load_interpreter(folder: Path) -> ctypes.CDLL:
    """The interpreter, compiled at first use into `folder`."""
    sources = sorted(RV32.glob("*.c"))
    built = build_with_host("rv32", sources, FLAGS, folder, (folder_digest(RV32),))
    library = ctypes.CDLL(str(built))
    library.qcc_machine_load.restype = ctypes.c_void_p
    library.qcc_machine_load.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Config),
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    library.qcc_machine_free.argtypes = [ctypes.c_void_p]
    library.qcc_machine_symbol.restype = ctypes.POINTER(_Symbol)
    library.qcc_machine_symbol.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.qcc_machine_symbol_at.restype = ctypes.POINTER(_Symbol)
    library.qcc_machine_symbol_at.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.qcc_machine_copy.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
    ]
    library.qcc_machine_poison.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.qcc_machine_launch.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_uint64,
    ]
    library.qcc_machine_fault.restype = ctypes.POINTER(_Fault)
    library.qcc_machine_fault.argtypes = [ctypes.c_void_p]
    library.qcc_machine_events.restype = ctypes.POINTER(ctypes.c_uint32)
    library.qcc_machine_events.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.POINTER(ctypes.c_size_t),
    ]
    library.qcc_machine_instructions.restype = ctypes.c_uint64
    library.qcc_machine_instructions.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    return library


class Dpu:
    """A DPU with `program` loaded; its memories stay as they are from launch to launch."""

    def __init__(
        self, program: DpuProgram, image: bytes, cache_folder: Path, *, pairs: bool = False
    ) -> None:
        """pairs: count 64-bit loads, stores and additions once (spec pim.md §5, optional)."""
        self._library = load_interpreter(cache_folder)
        memories = program.memories
        config = _Config(
            program.tasklets,
            memories.wram_bytes,
            memories.mram_bytes,
            program.stack_bytes,
            int(pairs),
        )
        self._machine = None
        self._load(program, image, config)

    def reload(self, program: DpuProgram, image: bytes) -> None:
        """`dpu_load` of another program: WRAM is new, MRAM stays as it is."""
        self._load(program, image, None)

    def _load(self, program: DpuProgram, image: bytes, config: _Config | None) -> None:
        why = ctypes.create_string_buffer(128)
        load = self._library.qcc_machine_load
        loaded = load(self._machine, config, image, len(image), why, len(why))
        if not loaded:
            raise QccError(
                "pim-program-damaged",
                f"the DPU program '{program.name}' cannot be loaded",
                why=why.value.decode(),
            )
        self.program, self._machine = program, loaded

    def __del__(self) -> None:
        if machine := getattr(self, "_machine", None):
            self._library.qcc_machine_free(machine)

    def poison(self, seed: int) -> None:
        """Fill memory that has no value by definition, differently for each seed."""
        self._library.qcc_machine_poison(self._machine, seed)

    def symbol(self, name: str) -> tuple[int, int]:
        """Address and bytes; raises UsageError for a name that the program lacks."""
        found = self._library.qcc_machine_symbol(self._machine, name.encode())
        if not found:
            raise UsageError("pim-symbol", f"'{self.program.name}' has no symbol '{name}'")
        return found.contents.address, found.contents.size

    def write(self, symbol: str, data: np.ndarray | bytes, offset: int = 0) -> None:
        raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        raw = np.ascontiguousarray(raw)
        self._copy(symbol, offset, raw.ctypes.data, raw.nbytes, 1)

    def read(self, symbol: str, bytes_: int, offset: int = 0) -> bytes:
        buffer = ctypes.create_string_buffer(bytes_)
        self._copy(symbol, offset, buffer, bytes_, 0)
        return buffer.raw

    def _copy(self, symbol: str, offset: int, buffer: Any, size: int, to_dpu: int) -> None:
        address, extent = self.symbol(symbol)
        if extent and offset + size > extent:
            raise UsageError(
                "pim-symbol", f"{offset} + {size} bytes are more than the {extent} of '{symbol}'"
            )
        copy = self._library.qcc_machine_copy
        if copy(self._machine, address + offset, buffer, size, to_dpu):
            raise UsageError("pim-symbol", f"'{symbol}' is in neither WRAM nor MRAM")

    def launch(self, seed: int = 0, most_instructions: int = MOST_INSTRUCTIONS) -> Launch:
        """
        Run all tasklets to their end; seed 0 in order, else in turns drawn from the seed.

        Raises DpuFault, after which the memories are as the fault left them.
        """
        started = time.thread_time()
        code = self._library.qcc_machine_launch(self._machine, seed, QUANTUM, most_instructions)
        seconds = time.thread_time() - started
        if code:
            fault = self._library.qcc_machine_fault(self._machine).contents
            place = self._place(fault.pc)
            text = fault.text.decode(errors="replace")
            raise DpuFault(code, self.program.name, fault.tasklet, place, text)
        tasklets = range(self.program.tasklets)
        counted = [self._library.qcc_machine_instructions(self._machine, t) for t in tasklets]
        traces = [self._trace(t) for t in tasklets]
        read, written = (
            int(sum(value for trace in traces for kind, value in trace if kind == way))
            for way in ("read", "write")
        )
        return Launch(read, written, sum(counted), traces, seconds)

    def _trace(self, tasklet: int) -> Trace:
        count = ctypes.c_size_t()
        events = self._library.qcc_machine_events(self._machine, tasklet, ctypes.byref(count))
        if not count.value:
            return []
        pairs = np.ctypeslib.as_array(events, (count.value, 2)).tolist()
        # The interpreter counts halves of slots.
        return [(EVENTS[kind], value / 2 if kind == 0 else value) for kind, value in pairs]

    def _place(self, pc: int) -> str:
        found = self._library.qcc_machine_symbol_at(self._machine, pc)
        if not found:
            return f"0x{pc:x}"
        symbol = found.contents
        return f"{symbol.name.decode()}+{pc - symbol.address}"
