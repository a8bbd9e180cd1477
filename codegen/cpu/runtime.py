"""
Running a compiled CPU object: load it, bind its parameters, call it on NumPy arrays.

Needs NumPy and llvmlite only; neither torch nor MLIR. llvmlite links the relocatable object into
the process; the object brings its own thread pool.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np

from ...dialects.errors import ResourceError


@dataclass(frozen=True, slots=True)
class BufferType:
    """Element type and rank of an argument or a result."""

    dtype: np.dtype
    rank: int

    def descriptor(self) -> type[ctypes.Structure]:
        """MLIR's strided buffer descriptor of this rank."""
        fields: list[tuple[str, type]] = [
            ("allocated", ctypes.c_void_p),
            ("aligned", ctypes.c_void_p),
            ("offset", ctypes.c_int64),
        ]
        if self.rank:
            extents = ctypes.c_int64 * self.rank
            fields += [("sizes", extents), ("strides", extents)]
        return type(f"Buffer{self.rank}", (ctypes.Structure,), {"_fields_": fields})


class CompiledObject:
    """
    A loaded object with its parameters bound.

    Calls are serialized: the object has one thread pool and one job at a time.
    """

    def __init__(self, code: bytes, parameters: Sequence[np.ndarray], threads: int) -> None:
        self._engine = _link(code)
        self._lock = threading.Lock()
        # The object keeps raw addresses, so the arrays must live as long as it does.
        self._parameters = [np.ascontiguousarray(array) for array in parameters]
        addresses = [array.ctypes.data for array in self._parameters]
        self._table = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
        self._function("qcc_set_parameters", None, ctypes.c_void_p)(self._table)
        self._stop = self._function("qcc_stop_workers", None)
        self._start_workers(threads)

    def _function(self, name: str, result: type | None, *arguments: type):
        address = self._engine.get_function_address(name)
        return ctypes.CFUNCTYPE(result, *arguments)(address)

    def _start_workers(self, threads: int) -> None:
        start = self._function("qcc_start_workers", ctypes.c_int64, ctypes.c_int64)
        started = start(threads - 1)
        if started < threads - 1:
            self._stop()
            raise ResourceError(
                "cpu-threads",
                f"the system refused to start {threads} threads ({started + 1} possible)",
                next_step="run with fewer threads (--threads)",
            )
        if threads > 1:
            self._forget_workers = self._function("qcc_forget_workers", None)
            _LIVE.add(self)
        self.close = weakref.finalize(self, _close, self._stop, self._engine, os.getpid())

    def bind_caches(self, capacity: int, caches: Sequence[np.ndarray]) -> None:
        """Give the KV caches of the next calls, keys and values in turn, of `capacity` each."""
        self._caches = list(caches)
        table = [capacity, *(array.ctypes.data for array in self._caches)]
        self._cache_table = (ctypes.c_int64 * len(table))(*table)
        self._function("qcc_set_caches", None, ctypes.c_void_p)(self._cache_table)

    def call(
        self, entry: str, inputs: Sequence[np.ndarray], results: Sequence[BufferType]
    ) -> list[np.ndarray]:
        """Run function `entry`; results are fresh arrays that own their memory."""
        function = self._function(
            f"_mlir_ciface_{entry}", None, *[ctypes.c_void_p] * _arity(inputs)
        )
        fields = [(f"r{index}", type_.descriptor()) for index, type_ in enumerate(results)]
        frame = type("Results", (ctypes.Structure,), {"_fields_": fields})()
        held = [np.ascontiguousarray(array) for array in inputs]
        buffers = [_describe(array) for array in held]
        with self._lock:
            function(ctypes.byref(frame), *[ctypes.addressof(buffer) for buffer in buffers])
        return [
            _adopt(getattr(frame, name), type_)
            for (name, _), type_ in zip(fields, results, strict=True)
        ]


def _arity(inputs: Sequence[np.ndarray]) -> int:
    return len(inputs) + 1


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
    engine.close()


def _forget_in_child() -> None:
    """A forked child has none of its parent's threads, so it must not wait for them."""
    for loaded in _LIVE:
        loaded._forget_workers()


_LIVE: weakref.WeakSet[CompiledObject] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_in_child)


def _describe(array: np.ndarray) -> ctypes.Structure:
    type_ = BufferType(array.dtype, array.ndim)
    buffer = type_.descriptor()()
    buffer.allocated = buffer.aligned = array.ctypes.data
    buffer.offset = 0
    for axis in range(array.ndim):
        buffer.sizes[axis] = array.shape[axis]
        buffer.strides[axis] = array.strides[axis] // array.itemsize
    return buffer


def _adopt(buffer, type_: BufferType) -> np.ndarray:
    """The array over a result buffer; the buffer is freed with the last view of it."""
    sizes = list(buffer.sizes) if type_.rank else []
    count = int(np.prod(sizes, dtype=np.int64))
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    if count == 0:
        free(buffer.allocated)
        return np.zeros(sizes, type_.dtype)
    address = buffer.aligned + buffer.offset * type_.dtype.itemsize
    memory = (ctypes.c_char * (count * type_.dtype.itemsize)).from_address(address)
    weakref.finalize(memory, free, buffer.allocated)
    return np.frombuffer(memoryview(memory), type_.dtype).reshape(sizes)
