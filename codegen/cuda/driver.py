"""
The CUDA driver as qcc uses it: one context, one stream, kernels of loaded cubins.

`Driver` is the interface, in terms of numbers and bytes; `CudaBindings` implements it with the
package `cuda-bindings`, and tests with a recorder. Every failure names the call and what was being
done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

from ...dialects.errors import ResourceError
from .driver_api import DriverApi

DYNAMIC_SHARED_DEFAULT = 48 << 10
C_TYPES: dict[str, Any] = {
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}


class Driver(Protocol):
    """The calls that a runtime makes; handles are the implementation's own."""

    ordinal: int
    """The number of the GPU."""

    def capability(self) -> tuple[int, int]: ...

    def name(self) -> str: ...

    def processors(self) -> int:
        """How many multiprocessors the GPU has."""
        ...

    def allocate(self, size: int) -> int: ...

    def free(self, address: int) -> None: ...

    def ordinal_of(self, address: int) -> int:
        """The number of the GPU on which that memory lies, whoever allocated it."""
        ...

    def to_device(self, address: int, host: int, size: int) -> None: ...

    def to_host(self, host: int, address: int, size: int) -> None:
        """Waits for all work before it."""
        ...

    def between(self, target: int, source: int, size: int) -> None: ...

    def clear(self, address: int, size: int) -> None: ...

    def load(self, cubin: bytes) -> Any: ...

    def unload(self, module: Any) -> None: ...

    def function(self, module: Any, name: str, shared_bytes: int) -> Any: ...

    def launch(
        self,
        function: Any,
        grid: Sequence[int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[tuple[Any, Any]],
        what: str,
    ) -> None:
        """`arguments` are (value, ctypes type) in order, the type None for a tensor map."""
        ...

    def tensor_map(
        self,
        address: int,
        shape: tuple[int, int],
        element_bytes: int,
        box: tuple[int, int],
        swizzle: int,
    ) -> Any:
        """An argument for tensor copies: see execution.TensorMap."""
        ...

    def working_on(self, stream: int) -> AbstractContextManager[None]:
        """Within it, work goes to the stream of that handle, of the same context."""
        ...

    def mark(self) -> Any:
        """A point behind all work that is on the stream."""
        ...

    def wait_for(self, mark: Any) -> None:
        """Let work that is put on the stream from here on wait for a mark of any stream."""
        ...

    def forget(self, mark: Any) -> None: ...

    def capture(self, work: Callable[[], None]) -> Any:
        """What `work` puts on the stream, as a graph that can be launched."""
        ...

    def replay(self, graph: Any) -> None: ...

    def seconds(self, graph: Any) -> float:
        """Replay a graph, wait for it, and tell how long the device was at work on it."""
        ...

    def cache_bytes(self) -> int:
        """Of the L2 cache."""
        ...

    def drop(self, graph: Any) -> None: ...

    def synchronize(self) -> None: ...

    def close(self) -> None: ...


class CudaBindings(DriverApi):
    """The driver API of one GPU, in its primary context."""

    def __init__(self, ordinal: int = 0) -> None:
        super().__init__(ordinal)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        try:
            self._current()
            # Torch works on the legacy stream unless told otherwise; this one waits for it.
            self._stream = self._call("cuStreamCreate", 0)
        except ResourceError:
            self._call("cuDevicePrimaryCtxRelease", self._device)
            raise

    def _current(self) -> None:
        """Calls may come from any thread, and each has a context of its own."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        self._current()
        return int(self._call("cuMemAlloc", size, doing=f"allocating {size} bytes"))

    def free(self, address: int) -> None:
        self._current()
        self._call("cuMemFree", address)

    def ordinal_of(self, address: int) -> int:
        self._current()
        attribute = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(
            self._call("cuPointerGetAttribute", attribute, address, doing="telling an input's GPU")
        )

    def to_device(self, address: int, host: int, size: int) -> None:
        self._current()
        self._call("cuMemcpyHtoDAsync", address, host, size, self._stream)
        self._call("cuStreamSynchronize", self._stream)

    def to_host(self, host: int, address: int, size: int) -> None:
        self._current()
        self._call("cuMemcpyDtoHAsync", host, address, size, self._stream)
        self._call("cuStreamSynchronize", self._stream, doing="waiting for kernels")

    def between(self, target: int, source: int, size: int) -> None:
        self._current()
        self._call("cuMemcpyDtoDAsync", target, source, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        self._current()
        self._call("cuMemsetD8Async", address, 0, size, self._stream)

    def load(self, cubin: bytes) -> Any:
        self._current()
        return self._call("cuModuleLoadData", cubin, doing="loading a cubin")

    def unload(self, module: Any) -> None:
        self._current()
        self._call("cuModuleUnload", module)

    def function(self, module: Any, name: str, shared_bytes: int) -> Any:
        self._current()
        function = self._call("cuModuleGetFunction", module, name.encode(), doing=f"finding {name}")
        if shared_bytes > DYNAMIC_SHARED_DEFAULT:
            attribute = self._api.CUfunction_attribute
            most = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call("cuFuncSetAttribute", function, most, shared_bytes,
                       doing=f"giving {name} {shared_bytes} bytes of shared memory")  # fmt: skip
        return function

    def launch(
        self,
        function: Any,
        grid: Sequence[int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[tuple[Any, Any]],
        what: str,
    ) -> None:
        self._current()
        values = tuple(value for value, _ in arguments), tuple(kind for _, kind in arguments)
        self._call("cuLaunchKernel", function, *grid, threads, 1, 1, shared_bytes, self._stream,
                   values, 0, doing=what)  # fmt: skip

    def tensor_map(
        self,
        address: int,
        shape: tuple[int, int],
        element_bytes: int,
        box: tuple[int, int],
        swizzle: int,
    ) -> Any:
        api = self._api
        data, swizzles = api.CUtensorMapDataType, api.CUtensorMapSwizzle
        # Copies move bits: floats of a width are integers of that width.
        kind = {
            1: data.CU_TENSOR_MAP_DATA_TYPE_UINT8,
            2: data.CU_TENSOR_MAP_DATA_TYPE_UINT16,
            4: data.CU_TENSOR_MAP_DATA_TYPE_UINT32,
        }[element_bytes]
        exchanged = {
            0: swizzles.CU_TENSOR_MAP_SWIZZLE_NONE,
            32: swizzles.CU_TENSOR_MAP_SWIZZLE_32B,
            64: swizzles.CU_TENSOR_MAP_SWIZZLE_64B,
            128: swizzles.CU_TENSOR_MAP_SWIZZLE_128B,
        }[swizzle]
        sizes = [api.cuuint64_t(extent) for extent in reversed(shape)]
        strides = [api.cuuint64_t(shape[1] * element_bytes)]
        boxes = [api.cuuint32_t(extent) for extent in reversed(box)]
        steps = [api.cuuint32_t(1), api.cuuint32_t(1)]
        return self._call(
            "cuTensorMapEncodeTiled", kind, 2, address, sizes, strides, boxes, steps,
            api.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE, exchanged,
            api.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            api.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            doing=f"making a tensor map of {shape[0]} by {shape[1]}",
        )  # fmt: skip

    @contextmanager
    def working_on(self, stream: int) -> Iterator[None]:
        own, self._stream = self._stream, self._api.CUstream(stream)
        try:
            yield
        finally:
            self._stream = own

    def mark(self) -> Any:
        self._current()
        event = self._call("cuEventCreate", self._api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        try:
            self._call("cuEventRecord", event, self._stream, doing="marking a stream")
        except ResourceError:
            self.forget(event)
            raise
        return event

    def wait_for(self, mark: Any) -> None:
        self._current()
        self._call("cuStreamWaitEvent", self._stream, mark, 0)

    def forget(self, mark: Any) -> None:
        self._current()
        self._call("cuEventDestroy", mark)

    def capture(self, work: Callable[[], None]) -> Any:
        self._current()
        relaxed = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", self._stream, relaxed)
        try:
            work()
        except BaseException:
            # The capture ends in any case; why it failed is what matters.
            with suppress(ResourceError):
                self._call("cuGraphDestroy", self._call("cuStreamEndCapture", self._stream))
            raise
        graph = self._call("cuStreamEndCapture", self._stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0, doing="making a graph")
        finally:
            self._call("cuGraphDestroy", graph)

    def replay(self, graph: Any) -> None:
        self._current()
        self._call("cuGraphLaunch", graph, self._stream, doing="launching a graph")

    def seconds(self, graph: Any) -> float:
        self._current()
        events = [self._call("cuEventCreate", self._api.CUevent_flags.CU_EVENT_DEFAULT)]
        try:
            events.append(self._call("cuEventCreate", self._api.CUevent_flags.CU_EVENT_DEFAULT))
            self._call("cuEventRecord", events[0], self._stream)
            self.replay(graph)
            self._call("cuEventRecord", events[1], self._stream)
            self._call("cuEventSynchronize", events[1], doing="waiting for kernels")
            return self._call("cuEventElapsedTime", *events) / 1e3
        finally:
            for event in events:
                self.forget(event)

    def cache_bytes(self) -> int:
        attribute = self._api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
        return self._call("cuDeviceGetAttribute", attribute, self._device)

    def drop(self, graph: Any) -> None:
        self._current()
        self._call("cuGraphExecDestroy", graph)

    def synchronize(self) -> None:
        self._current()
        self._call("cuStreamSynchronize", self._stream, doing="waiting for kernels")

    def close(self) -> None:
        self._current()
        self._call("cuStreamDestroy", self._stream)
        self._call("cuDevicePrimaryCtxRelease", self._device)
