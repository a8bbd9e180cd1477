"""A native DPU: the program built with the host's compiler, and the process that obeys orders."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....dialects.errors import QccError, UsageError
from ..build_host import build_with_host
from ..dpu_program import DpuProgram
from ..faults import DpuFault
from ..launch import Launch
from ..sources import DEVICE, NATIVE, digest_of, folder_digest

# Linked low and not relocated: addresses in MRAM and of variables fit into 32 bits, as on a DPU.
FLAGS = (
    "-std=gnu11",
    "-O1",
    "-U_FORTIFY_SOURCE",  # where it is usual, it takes tasklets that switch stacks for damage
    "-DQCC_NATIVE",
    "-fno-pie",
    "-fno-builtin",
    f"-I{DEVICE}",
    f"-I{NATIVE}",
)
# Overflows, shifts and indices out of range end the run; no library is needed for that.
CHECKS = (
    "-fsanitize=undefined",
    "-fno-sanitize=integer-divide-by-zero",  # a fault of its own
    "-fsanitize-undefined-trap-on-error",
)
LINK = ("-no-pie", "-Wl,-Ttext-segment=0x10000000", f"-Wl,-T,{NATIVE / 'mram.ld'}")
ORDER = struct.Struct("<QQQ")
Array = NDArray[Any]


class _Outcome(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_int32),
        ("tasklet", ctypes.c_int32),
        ("bytes_read", ctypes.c_uint64),
        ("bytes_written", ctypes.c_uint64),
        ("text", ctypes.c_char * 256),
    ]


def build_native(program: DpuProgram, folder: Path) -> Path:
    """The executable, from `folder` if it was built before; needs gcc and nothing else."""
    text = folder / f"{program.name}-{digest_of((program.source,))}.c"
    folder.mkdir(parents=True, exist_ok=True)
    if not text.exists():
        # Emulators of one kernel start at the same time: none may read what another has begun.
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as part:
            part.write(program.source)
        Path(part.name).replace(text)
    tasklets = f"-DNR_TASKLETS={program.tasklets}"
    keys = (folder_digest(DEVICE), folder_digest(NATIVE))
    runtime = [
        build_with_host(name, [NATIVE / f"{name}.c"], (*FLAGS, tasklets, "-c"), folder, keys)
        for name in ("runtime", "serve")
    ]
    flags = (*FLAGS, *CHECKS, *program.definitions, "-Dmain=qcc_dpu_main", *LINK)
    return build_with_host(program.name, [text], flags, folder, keys, runtime)


class NativeDpu:
    """A process that holds the memories of one DPU; it ends with the object."""

    def __init__(self, program: DpuProgram, cache_folder: Path) -> None:
        self.program = program
        executable = build_native(program, cache_folder)
        self._symbols = symbols_of(executable)
        self._process = subprocess.Popen(
            [str(executable)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __del__(self) -> None:
        if process := getattr(self, "_process", None):
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
            process.wait()

    def poison(self, seed: int) -> None:
        """Fill memory that has no value by definition, differently for each seed."""
        self._order("P", seed)

    def symbol(self, name: str) -> tuple[int, int]:
        """Address and bytes; raises UsageError for a name that the program lacks."""
        if name not in self._symbols:
            raise UsageError("pim-symbol", f"'{self.program.name}' has no symbol '{name}'")
        return self._symbols[name]

    def write(self, symbol: str, data: np.ndarray | bytes, offset: int = 0) -> None:
        raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        self._order("W", self._place(symbol, offset, len(raw)), len(raw), raw)

    def read(self, symbol: str, bytes_: int, offset: int = 0) -> bytes:
        self._order("R", self._place(symbol, offset, bytes_), bytes_)
        return self._answer(bytes_)

    def launch(self, seed: int = 0) -> Launch:
        """
        Run all tasklets to their end.

        Seed 0 runs each to where it waits; another draws who runs next. Raises DpuFault.
        """
        self._order("L", seed)
        return self._launch(self._answer(ctypes.sizeof(_Outcome)))

    def launch_many(
        self, writes: Sequence[tuple[str, int, Array]], read: tuple[str, int, int], seed: int = 0
    ) -> tuple[Array, list[Launch]]:
        """
        A launch after each row of bytes: `writes` are (symbol, offset, [launches, bytes]), `read`
        the (symbol, offset, bytes) that each leaves; orders are sent while answers come back.
        """
        (count,) = {len(rows) for _, _, rows in writes}
        parts: list[Array | bytes] = []
        for symbol, offset, rows in writes:
            size = rows.shape[1]
            parts += [ORDER.pack(ord("W"), self._place(symbol, offset, size), size), rows]
        symbol, offset, size = read
        parts.append(ORDER.pack(ord("L"), seed, 0))
        parts.append(ORDER.pack(ord("R"), self._place(symbol, offset, size), size))
        sending = Thread(target=self._send, args=(_rows_of(parts, count),))
        sending.start()
        try:
            return self._answers(count, size)
        finally:
            sending.join()

    def _send(self, orders: Array) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(orders)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answers tell why it ended

    def _answers(self, count: int, size: int) -> tuple[Array, list[Launch]]:
        assert self._process.stdout
        each = ctypes.sizeof(_Outcome) + size
        raw = self._process.stdout.read(count * each)
        launches = []
        for at in range(0, count * each, each):
            outcome = raw[at : at + ctypes.sizeof(_Outcome)]
            if len(outcome) < ctypes.sizeof(_Outcome):
                raise self._ended()
            launches.append(self._launch(outcome))
        results = np.frombuffer(raw, np.uint8).reshape(count, each)
        return results[:, ctypes.sizeof(_Outcome) :], launches

    def _launch(self, answer: bytes) -> Launch:
        outcome = _Outcome.from_buffer_copy(answer)
        if outcome.code:
            text = outcome.text.decode(errors="replace")
            raise DpuFault(outcome.code, self.program.name, outcome.tasklet, "natively run", text)
        return Launch(outcome.bytes_read, outcome.bytes_written)

    def _place(self, symbol: str, offset: int, size: int) -> int:
        address, extent = self.symbol(symbol)
        if extent and offset + size > extent:
            raise UsageError(
                "pim-symbol", f"{offset} + {size} bytes are more than the {extent} of '{symbol}'"
            )
        return address + offset

    def _order(self, order: str, address: int, size: int = 0, data: bytes = b"") -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(ORDER.pack(ord(order), address, size) + data)
        except BrokenPipeError:
            raise self._ended() from None

    def _answer(self, size: int) -> bytes:
        """Orders are sent when an answer is wanted."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        answer = self._process.stdout.read(size)
        if len(answer) < size:
            raise self._ended()
        return answer

    def _ended(self) -> QccError:
        code = self._process.wait()
        return QccError(
            "dpu-process-ended",
            f"the native run of '{self.program.name}' ended early (status {code})",
            why="3: MRAM could not be mapped at 0x08000000" if code == 3 else "",
            next_step="a DpuFault before this one says why; make a new NativeDpu",
        )


def _rows_of(parts: Sequence[Array | bytes], count: int) -> Array:
    """[count, bytes]: parts beside one another, those of bytes in each row."""
    columns = [
        np.broadcast_to(np.frombuffer(part, np.uint8), (count, len(part)))
        if isinstance(part, bytes)
        else part
        for part in parts
    ]
    return np.concatenate(columns, axis=1)


@cache
def symbols_of(executable: Path) -> dict[str, tuple[int, int]]:
    """Address and size of each symbol of a 64-bit ELF file."""
    image = executable.read_bytes()
    (sections,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections + i * size) for i in range(count)]
    found = {}
    for _, kind, _, _, offset, length, link, *_ in headers:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = headers[link][4]
        for place in range(offset, offset + length, 24):
            name, _, _, _, value, extent = struct.unpack_from("<IBBHQQ", image, place)
            end = image.index(b"\0", names + name)
            found[image[names + name : end].decode()] = (value, extent)
    return found
