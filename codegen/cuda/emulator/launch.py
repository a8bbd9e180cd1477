"""Launching emulated kernels on NumPy arrays."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ....dialects.errors import QccError, UsageError

Argument = np.ndarray | np.generic | int | float | bytes | None
Size = int | tuple[int, ...]

MAX_THREADS = 1024
LANES = 32
ALIGNMENT = 256
MAX_DIMENSIONS = 5
TENSOR_MAP_BYTES = 128
FAULTS = (
    "none",
    "out-of-bounds",
    "misaligned",
    "uninitialised",
    "race",
    "divergence",
    "deadlock",
    "misuse",
    "resources",
)
ORDERS = {"forward": 0, "reversed": 1, "random": 2}


@dataclass(frozen=True)
class Mode:
    """
    What a launch leaves open on hardware, chosen: bugs that hide in one mode show in another.

    copies: asynchronous copies land when waited for ("lazy") or when issued ("eager").
    order: in which warps run, and lanes within a warp. checks: tags on shared memory. trace: fill
    the counters of sectors and bank conflicts. workers: OS threads, which run whole blocks.
    accumulator_bits: 0 sums fp32 in index order; else addends are cut that far below the largest.
    """

    copies: Literal["lazy", "eager"] = "lazy"
    order: Literal["forward", "reversed", "random"] = "forward"
    seed: int = 0
    checks: bool = True
    trace: bool = False
    workers: int = 1
    accumulator_bits: int = 0


# Every kernel has to give the same results in each of these (spec cuda.md §6.2).
ALL_MODES = (
    Mode("lazy", "forward"),
    Mode("eager", "forward"),
    Mode("lazy", "reversed"),
    Mode("eager", "random"),
)


class KernelViolation(QccError):
    """A kernel did what hardware leaves undefined; the launch stopped there."""

    def __init__(self, fault: str, text: str, place: Place, line_text: str) -> None:
        super().__init__(
            f"emulated-{fault}",
            f"kernel '{place.kernel}': {text}",
            where=f"{place.source}.cu:{place.line} in block {place.block}, thread {place.thread}"
            + (f"\n    {line_text}" if line_text else ""),
            next_step="this is a bug in the kernel: correct what emitted the line",
        )
        self.fault, self.place = fault, place


@dataclass(frozen=True)
class Place:
    """Where in a launch, and in which line of the emitted source."""

    source: str
    kernel: str
    line: int
    block: tuple[int, ...]
    thread: tuple[int, ...]


class _Violation(ctypes.Structure):
    _fields_ = [
        ("fault", ctypes.c_int32),
        ("line", ctypes.c_int32),
        ("block", ctypes.c_uint32 * 3),
        ("thread", ctypes.c_uint32 * 3),
        ("text", ctypes.c_char * 512),
    ]


class _Extent(ctypes.Structure):
    _fields_ = [
        ("begin", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("used", ctypes.c_uint32),
        ("argument", ctypes.c_uint32),
    ]


def _launch_type(counters: int) -> type[ctypes.Structure]:
    """The record of launch.h, with as many counters as the library has."""

    class Launch(ctypes.Structure):
        _fields_ = [
            ("grid", ctypes.c_uint32 * 3),
            ("block", ctypes.c_uint32 * 3),
            *((name, ctypes.c_uint32) for name in ("shared_bytes", "eager", "order", "seed")),
            *((name, ctypes.c_uint32) for name in ("checks", "trace", "workers")),
            ("accumulator_bits", ctypes.c_int32),
            ("extent_count", ctypes.c_uint32),
            ("extents", ctypes.POINTER(_Extent)),
            ("counters", ctypes.c_uint64 * counters),
            ("violation", _Violation),
        ]

    return Launch


@dataclass
class _Arguments:
    """Addresses of the values of a launch, and the buffers that views may name."""

    values: list[ctypes.Array[ctypes.c_char]] = field(default_factory=list)
    extents: list[_Extent] = field(default_factory=list)


class EmulatedModule:
    """The kernels of one source text, compiled for this machine."""

    def __init__(self, library: Path, source: str, name: str) -> None:
        self.name, self._lines = name, source.splitlines()
        self._library = ctypes.CDLL(str(library))
        self._library.qcc_counter_names.restype = ctypes.c_char_p
        self._counters = self._library.qcc_counter_names().decode().split()
        self._launch_type = _launch_type(len(self._counters))

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        shared_bytes: int,
        arguments: Sequence[Argument],
        mode: Mode = Mode(),
    ) -> dict[str, int]:
        """
        Run `kernel`, which writes into the arrays among `arguments`; what it did, counted.

        Arrays become pointers, None a null pointer, bytes a record; numbers take the type of the
        parameter. Raises UsageError where the arguments are not what the kernel declares, and
        KernelViolation, after which the contents of the arrays are undefined.
        """
        signature = self._signature(kernel)
        packed = _pack(kernel, signature, arguments)
        extents = (_Extent * max(1, len(packed.extents)))(*packed.extents)
        record = self._launch_type()
        record.grid[:], record.block[:] = _size(kernel, grid), _block(kernel, block)
        record.shared_bytes, record.eager = shared_bytes, mode.copies == "eager"
        record.order, record.seed = ORDERS[mode.order], mode.seed
        record.checks, record.trace, record.workers = mode.checks, mode.trace, mode.workers
        record.accumulator_bits = mode.accumulator_bits
        record.extent_count, record.extents = len(packed.extents), extents
        addresses = [ctypes.addressof(value) for value in packed.values]
        table = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
        failed = self._library[f"qcc_emulate_{kernel}"](table, ctypes.byref(record))
        if failed:
            raise self._violation(kernel, record.violation)
        return dict(zip(self._counters, record.counters, strict=True))

    def _signature(self, kernel: str) -> list[tuple[str, int]]:
        try:
            describe = self._library[f"qcc_signature_{kernel}"]
        except AttributeError:
            raise UsageError(
                "kernel-unknown",
                f"'{self.name}' has no kernel '{kernel}'",
                why="only kernels followed by QCC_KERNEL(name) can be launched",
                next_step="name one that the source declares",
            ) from None
        describe.restype = ctypes.c_char_p
        return [(item[0], int(item[1:])) for item in describe().decode().split()]

    def _violation(self, kernel: str, record: _Violation) -> KernelViolation:
        line = int(record.line)
        text = self._lines[line - 1].strip() if 0 < line <= len(self._lines) else ""
        place = Place(self.name, kernel, line, tuple(record.block), tuple(record.thread))
        return KernelViolation(FAULTS[record.fault], record.text.decode(), place, text)


def device_array(values: np.ndarray) -> np.ndarray:
    """A copy that begins where GPU allocators begin, at a multiple of 256 bytes."""
    raw = np.empty(values.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    copy = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def tensor_map(tensor: np.ndarray, box: Sequence[int], swizzle: int = 0) -> bytes:
    """
    The TensorMap argument for copies of `box`, whose axes are those of `tensor`, innermost last.

    swizzle: bytes of a row of the box within which chunks of 16 are exchanged (0, 32, 64, 128).
    """
    missing = [0] * (MAX_DIMENSIONS - tensor.ndim)
    sizes, boxes = [*tensor.shape[::-1], *missing], [*box[::-1], *missing]
    strides = [*tensor.strides[-2::-1], *missing]
    record = struct.pack(
        "<QII5I5I4QI",
        tensor.ctypes.data,
        tensor.ndim,
        tensor.itemsize,
        *sizes,
        *boxes,
        *strides,
        swizzle,
    )
    return record.ljust(TENSOR_MAP_BYTES, b"\0")


def _size(kernel: str, size: Size) -> tuple[int, int, int]:
    given = (size,) if isinstance(size, int) else size
    if not 1 <= len(given) <= 3 or min(given) < 1:
        raise UsageError("launch-size", f"kernel '{kernel}': no launch has the size {size}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z


def _block(kernel: str, size: Size) -> tuple[int, int, int]:
    x, y, z = _size(kernel, size)
    if x * y * z > MAX_THREADS or x * y * z % LANES:
        raise UsageError(
            "launch-size",
            f"kernel '{kernel}': a block of {x * y * z} threads",
            why=f"blocks are whole warps of {LANES} threads, at most {MAX_THREADS}",
        )
    return x, y, z


def _pack(
    kernel: str, signature: Sequence[tuple[str, int]], arguments: Sequence[Argument]
) -> _Arguments:
    if len(signature) != len(arguments):
        raise UsageError(
            "launch-arguments",
            f"kernel '{kernel}' takes {len(signature)} arguments, not {len(arguments)}",
        )
    packed = _Arguments()
    for index, ((letter, size), argument) in enumerate(zip(signature, arguments, strict=True)):
        raw = _bytes_of(argument, letter, size)
        if raw is None:
            raise UsageError(
                "launch-arguments",
                f"kernel '{kernel}': argument {index} ({type(argument).__name__}) does not fit",
                why=f"the parameter is {_KINDS[letter]} of {size} bytes",
            )
        packed.values.append(ctypes.create_string_buffer(raw, size))
        if isinstance(argument, np.ndarray):
            packed.extents.append(_Extent(argument.ctypes.data, argument.nbytes, 0, index))
    return packed


_KINDS = {"p": "a pointer", "f": "a float", "i": "an integer", "s": "a record"}


def _bytes_of(argument: Argument, letter: str, size: int) -> bytes | None:
    """The parameter as it lies in memory; None where the argument is of another kind."""
    if letter == "p":
        return _address(argument)
    if letter == "s":
        return argument if isinstance(argument, bytes) and len(argument) == size else None
    if isinstance(argument, np.ndarray | bytes | None):
        return None
    if letter == "f":
        return np.array(argument, f"f{size}").tobytes()
    whole = int(argument)
    fits = whole == argument and -(1 << (8 * size - 1)) <= whole < 1 << 8 * size
    return (whole % (1 << 8 * size)).to_bytes(size, "little") if fits else None


def _address(argument: Argument) -> bytes | None:
    if argument is None:
        return bytes(8)
    if not isinstance(argument, np.ndarray) or not argument.flags.c_contiguous:
        return None
    return argument.ctypes.data.to_bytes(8, "little")
