"""
Running a compiled CPU object: load it, bind its parameters, call it on NumPy arrays.

Needs NumPy and llvmlite only; neither torch nor MLIR. llvmlite links the relocatable object into
the process; the object brings its own thread pool.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import llvmlite.binding as llvm
import numpy as np

from ...dialects.errors import ResourceError
from .thread_stack import require_stack, require_worker_stacks


@dataclass(frozen=True, slots=True)
class BufferType:
    """Element type and rank of an argument or a result."""

    dtype: np.dtype
    rank: int

    @property
    def words(self) -> int:
        """The size of MLIR's strided descriptor: two addresses, offset, sizes, strides."""
        return 3 + 2 * self.rank


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of a loaded object, and how its results are laid out, one behind the other."""

    function: Callable[..., None]
    frame: type[ctypes.Array[ctypes.c_int64]]
    results: tuple[tuple[int, BufferType], ...]


class CacheTable:
    """The addresses of KV caches, keys and values in turn, with room for `capacity` positions."""

    def __init__(self, capacity: int, arrays: Sequence[np.ndarray]) -> None:
        self._arrays = list(arrays)  # The addresses are theirs.
        words = [capacity, *(array.ctypes.data for array in self._arrays)]
        self.words = (ctypes.c_int64 * len(words))(*words)


Device = Callable[[int, int, int, int, int], None]
"""Answers a call: its number, input, rows, bias or 0, result; the last four are addresses."""
MOST_THREADS = 256
"""As many handles as threads.mlir has room for, and the thread that calls."""
_DEVICE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)


class CompiledObject:
    """
    A loaded object with its parameters bound, and the `device` that answers its calls.

    Calls are serialized: the object has one thread pool and one job at a time. Given
    `processors`, one for each of the `threads`, all but the first, which is the caller's, are
    pinned to theirs.
    """

    def __init__(
        self,
        code: bytes,
        parameters: Sequence[np.ndarray],
        threads: int,
        processors: Sequence[int] = (),
        device: Device | None = None,
    ) -> None:
        self._engine = _link(code)
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, int, tuple[BufferType, ...]], Entry] = {}
        # The object keeps raw addresses, so the arrays must live as long as it does.
        self._parameters = [np.ascontiguousarray(array) for array in parameters]
        addresses = [array.ctypes.data for array in self._parameters]
        self._table = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
        self._function("qcc_set_parameters", None, ctypes.c_void_p)(self._table)
        self._set_caches = self._function("qcc_set_caches", None, ctypes.c_void_p)
        self._failure: BaseException | None = None
        if device is not None:
            self._device = _DEVICE(self._answering(device))
            self._function("qcc_set_device", None, ctypes.c_void_p)(self._device)
        self._refused = self._refusal()
        self._stop = self._function("qcc_stop_workers", None)
        self._start_workers(threads)
        for index, processor in enumerate(processors[1:]):
            self._pin(index, processor)

    def _function(self, name: str, result: type | None, *arguments: type):
        address = self._engine.get_function_address(name)
        return ctypes.CFUNCTYPE(result, *arguments)(address)

    def _refusal(self) -> ctypes.c_int64:
        """The bytes that a call was refused; 0 for ever in objects of an earlier qcc."""
        if not self._engine.get_function_address("qcc_refused"):
            return ctypes.c_int64(0)
        return ctypes.c_int64.from_address(self._function("qcc_refused", ctypes.c_void_p)())

    def _answering(self, device: Device) -> Device:
        """`device` with its failure kept: no exception passes through compiled code."""

        def answer(number: int, *addresses: int) -> None:
            if self._failure is None:
                try:
                    device(number, *addresses)
                except BaseException as error:  # noqa: BLE001
                    self._failure = error

        return answer

    def _start_workers(self, threads: int) -> None:
        if threads > MOST_THREADS:
            raise ResourceError(
                "cpu-threads",
                f"kernels share work among at most {MOST_THREADS} threads, not {threads}",
                next_step=f"give fewer: qcc.load(path, threads={MOST_THREADS})",
            )
        if threads > 1:
            require_worker_stacks()
        start = self._function("qcc_start_workers", ctypes.c_int64, ctypes.c_int64)
        started = start(threads - 1)
        if started < threads - 1:
            self._stop()
            raise ResourceError(
                "cpu-threads",
                f"the system refused to start {threads} threads ({started + 1} possible)",
                next_step=f"give fewer: qcc.load(path, threads={started + 1}), or start the "
                f"command on fewer processors: taskset -c 0-{started} qcc …",
            )
        self._forget_workers = self._function("qcc_forget_workers", None)
        _LIVE.add(self)
        self.close = weakref.finalize(self, _close, self._stop, self._engine, os.getpid())

    def _pin(self, index: int, processor: int) -> None:
        worker = self._function("qcc_worker", ctypes.c_ulong, ctypes.c_int64)(index)
        mask = (1 << processor).to_bytes(processor // 64 * 8 + 8, sys.byteorder)
        refused = _set_affinity(worker, len(mask), mask)
        if refused:
            self.close()
            raise ResourceError(
                "cpu-processor",
                f"no thread can be pinned to processor {processor}",
                why=os.strerror(refused),
                next_step="name processors that this process may use, or give a number of threads",
            )

    def call(
        self,
        entry: str,
        inputs: Sequence[np.ndarray],
        results: Sequence[BufferType],
        caches: CacheTable | None = None,
    ) -> list[np.ndarray]:
        """
        Run function `entry`; results are fresh arrays that own their memory.

        A function with KV caches reads and extends those of `caches`. Raises ResourceError where
        the system refuses memory or the thread's stack is small; the object can be called again.
        """
        require_stack()
        found = self._entry(entry, len(inputs), tuple(results))
        held = [np.ascontiguousarray(array) for array in inputs]
        frame = found.frame()
        buffers = [describe(array) for array in held]
        with self._lock:
            if caches is not None:  # The object has one place for their addresses.
                self._set_caches(caches.words)
            found.function(frame, *buffers)
            failure, self._failure = self._failure, None
            refused, self._refused.value = self._refused.value, 0
        if refused:
            raise ResourceError(
                "cpu-memory",
                f"the system has no {refused} bytes more of memory for a call",
                next_step="call with fewer rows or shorter sequences at a time, or close other "
                "programs",
            )
        words = frame[:]
        adopted = [_adopt(words[at : at + type_.words], type_) for at, type_ in found.results]
        if failure is not None:
            raise failure
        return adopted

    def _entry(self, name: str, arity: int, results: tuple[BufferType, ...]) -> Entry:
        key = name, arity, results
        if key not in self._entries:
            function = self._function(
                f"_mlir_ciface_{name}", None, *[ctypes.c_void_p] * (arity + 1)
            )
            starts = [0, *accumulate(type_.words for type_ in results)]
            located = tuple(zip(starts, results, strict=False))
            self._entries[key] = Entry(function, ctypes.c_int64 * starts[-1], located)
        return self._entries[key]


def _link(code: bytes) -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        codemodel="jitdefault", jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _close(stop, engine: llvm.ExecutionEngine, owner: int) -> None:
    if os.getpid() == owner:
        stop()
    free_kept = engine.get_function_address("qcc_free_kept")
    if free_kept:  # Objects of an earlier qcc keep nothing.
        ctypes.CFUNCTYPE(None)(free_kept)()
    engine.close()


def _forget_in_child() -> None:
    """A forked child has none of its parent's threads: they neither help nor hold a lock."""
    for loaded in _LIVE:
        if loaded.close.alive:  # Of one that was closed, the code is gone.
            loaded._lock = threading.Lock()
            loaded._forget_workers()


_LIVE: weakref.WeakSet[CompiledObject] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_in_child)


def describe(array: np.ndarray) -> bytes:
    """MLIR's strided descriptor of a contiguous array, which must outlive it."""
    address, width = _address(array), array.itemsize
    strides = [stride // width for stride in array.strides]
    return _packer(array.ndim)(address, address, 0, *array.shape, *strides)


@cache
def _packer(rank: int) -> Callable[..., bytes]:
    return struct.Struct(f"{3 + 2 * rank}q").pack


def _address(array: np.ndarray) -> int:
    try:
        # A quarter of the time of `array.ctypes`, but refused for what is read-only or empty.
        # That arrays are buffers is known to type checkers from Python 3.12 on only.
        lent = ctypes.c_char.from_buffer(array)  # pyright: ignore[reportArgumentType]
        return ctypes.addressof(lent)
    except (TypeError, ValueError, BufferError):
        return array.ctypes.data


# Without giving up the interpreter lock for so little.
_free = ctypes.PyDLL(None).free
_free.argtypes, _free.restype = [ctypes.c_void_p], None
_set_affinity = ctypes.PyDLL(None).pthread_setaffinity_np
_set_affinity.argtypes = [ctypes.c_ulong, ctypes.c_size_t, ctypes.c_char_p]


class _Allocation:
    """Memory that a call allocated, which NumPy arrays may use; freed with the last of them."""

    __slots__ = ("__array_interface__", "_allocated")

    def __init__(self, allocated: int, start: int, shape: tuple[int, ...], typestr: str) -> None:
        self._allocated = allocated
        self.__array_interface__ = {
            "version": 3,
            "data": (start, False),
            "shape": shape,
            "typestr": typestr,
        }

    def __del__(self, free: Callable[[int], None] = _free) -> None:
        free(self._allocated)


def _adopt(words: Sequence[int], type_: BufferType) -> np.ndarray:
    """The array over a result's descriptor; the memory is freed with the last view of it."""
    allocated, aligned, offset, *extents = words
    shape, dtype = tuple(extents[: type_.rank]), type_.dtype
    if 0 in shape:
        _free(allocated)
        return np.zeros(shape, dtype)
    start = aligned + offset * dtype.itemsize
    array = np.asarray(_Allocation(allocated, start, shape, dtype.str))
    # Types that NumPy only knows from others, such as bfloat16, have no name of their own there.
    return array if array.dtype == dtype else array.view(dtype)
