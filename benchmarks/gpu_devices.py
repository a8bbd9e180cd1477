"""
What kernels run on: a GPU through the CUDA driver, or the emulator, for the suite's own tests.

Both take one source, launches of its kernels, and arguments by role. Times are medians of graphs
of launches over rotating arguments, so that neither Python's calls nor a warm L2 cache are
measured.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.gpu_launches import Call
from qcc.codegen.cuda.compilers import find_compiler
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import Mode, device_array, tensor_map
from qcc.codegen.cuda.toolchain import Job, build

ROUNDS, WARM_UP = 15, 3
LEAST_LAUNCHES = 20  # of a graph
CACHES = 4  # times the L2 cache that rotating arguments take, so that none is found there
MOST_COPIES = 512


class Device(Protocol):
    """`target` is the machine that kernels are made for, `slug` the name of its results."""

    name: str
    target: str
    slug: str

    def prepared(self, source: str, calls: Sequence[Call]) -> Any: ...

    def result(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], output: str
    ) -> np.ndarray:
        """What the launches write; raises where one fails or leaves counters behind."""
        ...

    def seconds(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], size: int
    ) -> float:
        """Of the launches, which move `size` bytes, from memory."""
        ...


class Emulator:
    """The emulator: right and wrong are those of hardware, times mean nothing."""

    name, slug = "emulator", "emulate"

    def __init__(self, folder: Path, target: str) -> None:
        self.target, self._folder, self._count = target, folder, 0

    def prepared(self, source: str, calls: Sequence[Call]) -> Any:
        return build_emulated(source, self._folder, calls[0].kernel)

    def result(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], output: str
    ) -> np.ndarray:
        return self._run(kernels, calls, given)[output]

    def seconds(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], size: int
    ) -> float:
        start = time.perf_counter()
        self._run(kernels, calls, given)
        return time.perf_counter() - start

    def _run(self, kernels: Any, calls: Sequence[Call], given: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the launches leave them."""
        held = {role: device_array(part) if isinstance(part, np.ndarray) else part
                for role, part in given.items()}  # fmt: skip
        for call in calls:
            maps = {box.argument: tensor_map(held[box.argument], box.box, box.swizzle)
                    for box in call.maps}  # fmt: skip
            arguments = [(held | maps)[role] for role in call.arguments]
            kernels.launch(call.kernel, call.grid, call.threads, call.shared_bytes, arguments,
                           Mode())  # fmt: skip
        if "arrivals" in held and held["arrivals"].any():
            raise RuntimeError(f"{calls[0].kernel} leaves counters behind")
        return held


class Gpu:
    """The first GPU: memory and events of torch, kernels through the driver on its stream."""

    def __init__(self, folder: Path) -> None:
        import torch

        self._torch, self._folder = torch, folder
        self._api: Any = import_module("cuda.bindings.driver")
        torch.cuda.init()
        torch.zeros(1, device="cuda")  # makes the context
        properties = torch.cuda.get_device_properties(0)
        self.name = properties.name
        self.slug = "".join(letter if letter.isalnum() else "-" for letter in self.name.lower())
        number = 10 * properties.major + properties.minor
        self.target = f"sm_{number}{'a' if number >= 90 else ''}"
        self._cache = properties.L2_cache_size
        self._modules: list[Any] = []

    def call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._api, name)(*arguments)
        if int(status) != 0:
            _, text = self._api.cuGetErrorString(status)
            raise RuntimeError(f"{name}: {text.decode()}")
        return results[0] if results else None

    def prepared(self, source: str, calls: Sequence[Call]) -> Any:
        cubin = build(Job(calls[0].kernel, source, self.target), self._folder, find_compiler())
        self._modules.append(self.call("cuModuleLoadData", cubin.code))
        most = self._api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        kernels = {}
        for call in calls:
            function = self.call("cuModuleGetFunction", self._modules[-1], call.kernel.encode())
            self.call("cuFuncSetAttribute", function, most, call.shared_bytes)
            kernels[call.kernel] = function
        return kernels

    def result(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], output: str
    ) -> np.ndarray:
        held = self._held(given)
        self._launched(kernels, calls, given, held)
        self._torch.cuda.synchronize()
        if "arrivals" in held and bool(held["arrivals"].any()):
            raise RuntimeError(f"{calls[0].kernel} leaves counters behind")
        return held[output].cpu().numpy().view(given[output].dtype).reshape(given[output].shape)

    def seconds(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], size: int
    ) -> float:
        copies = min(MOST_COPIES, -(-CACHES * self._cache // max(size, 1)))
        sets = [self._held(given) for _ in range(max(1, copies))]
        return self.timed([lambda held=held: self._launched(kernels, calls, given, held)
                           for held in sets])  # fmt: skip

    def timed(self, calls: Sequence[Callable[[], Any]]) -> float:
        """Seconds of one call: the median over replays of a graph that makes each in turn."""
        torch = self._torch
        stream = torch.cuda.Stream()
        turns = max(1, -(-LEAST_LAUNCHES // len(calls)))
        with torch.cuda.stream(stream):
            for call in calls:
                call()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                for _ in range(turns):
                    for call in calls:
                        call()
            samples = [self._replayed(graph, stream) for _ in range(WARM_UP + ROUNDS)]
        return float(np.median(samples[WARM_UP:])) / (turns * len(calls))

    def _replayed(self, graph: Any, stream: Any) -> float:
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(stream)
        graph.replay()
        end.record(stream)
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    def _held(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arrays as bytes in the memory of the GPU; allocations begin at multiples of 512."""
        flat = {role: np.ascontiguousarray(part).reshape(-1).view(np.uint8)
                for role, part in given.items() if isinstance(part, np.ndarray)}  # fmt: skip
        return {role: self._torch.from_numpy(part.copy()).cuda() if part.size else None
                for role, part in flat.items()}  # fmt: skip

    def _launched(
        self, kernels: Any, calls: Sequence[Call], given: dict[str, Any], held: dict[str, Any]
    ) -> None:
        stream = self._torch.cuda.current_stream().cuda_stream
        for call in calls:
            values, kinds = zip(*self._packed(call, given, held), strict=True)
            self.call("cuLaunchKernel", kernels[call.kernel], *call.grid, call.threads, 1, 1,
                      call.shared_bytes, stream, (values, kinds), 0)  # fmt: skip

    def _packed(
        self, call: Call, given: dict[str, Any], held: dict[str, Any]
    ) -> Iterator[tuple[Any, Any]]:
        """Values and C types of the arguments; those of tensor maps are known to the driver."""
        boxes = {box.argument: box for box in call.maps}
        for role in call.arguments:
            if role in boxes:
                yield self._map(boxes[role], held[role].data_ptr(), given[role].shape), None
            elif isinstance(given[role], np.ndarray):
                yield held[role].data_ptr() if held[role] is not None else 0, ctypes.c_void_p
            else:
                yield given[role], ctypes.c_int32

    def _map(self, box: Any, address: int, shape: tuple[int, ...]) -> Any:
        api, (rows, columns) = self._api, shape
        kind = {1: "UINT8", 2: "UINT16"}[box.element_bytes]
        whole = api.cuuint64_t
        return self.call(
            "cuTensorMapEncodeTiled",
            getattr(api.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{kind}"),
            2,
            address,
            [whole(columns), whole(rows)],
            [whole(columns * box.element_bytes)],
            [api.cuuint32_t(box.box[1]), api.cuuint32_t(box.box[0])],
            [api.cuuint32_t(1), api.cuuint32_t(1)],
            api.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            getattr(api.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{box.swizzle}B"),
            api.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            api.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
