"""
ggml, the kernels of llama.cpp, through its C interface.

The libraries come from the package `libggml-python`, or from a folder with a build for this
processor (`--ggml`). Of several builds in a folder the one that rates itself highest is taken, as
ggml itself does. "repack" is ggml's own layout for the processor, made when weights are set.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path

import numpy as np

from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant

PACKAGE = "libggml"
F32, F16, BF16 = 0, 1, 30
# Row → ggml's type number, the class by bits, and whether there is a repacked form to try.
TYPES = {
    "f32": (F32, 32, False),
    "f16": (F16, 16, False),
    "bf16": (BF16, 16, False),
    "q8_0": (8, 8, False),
    "q6_K": (14, 6, False),
    "q4_0": (2, 4, True),
    "q4_1": (3, 4, False),
    "q4_K": (12, 4, True),
    "iq4_nl": (20, 4, True),
    "mxfp4": (39, 4, True),
    "nvfp4": (40, 4, False),
    "q3_K": (11, 3, False),
    "q2_K": (10, 2, True),
    "tq2_0": (35, 2, False),
}
GRAPH_BYTES = 1 << 20


class _Memory(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _Traits(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("bytes", ctypes.c_size_t),
        ("quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


class _PoolOptions(ctypes.Structure):
    _fields_ = (
        ("processors", ctypes.c_bool * 512),
        ("threads", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


class Ggml:
    def __init__(self, folder: Path | None = None) -> None:
        self._library = Library(folder or _installed())
        self.version = self._library.file if folder else metadata.version("libggml-python")

    def variants(self) -> Sequence[Variant]:
        rows = []
        for name, (kind, width, repacked) in TYPES.items():
            compute = {F32: "fp32", F16: "fp32", BF16: "bf16"}.get(kind, "int8")
            rows.append(Variant(name, width, compute))
            if repacked:
                rows.append(Variant(f"{name} repack", width, compute))
        return rows

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        name, _, layout = variant.name.partition(" ")
        kind = TYPES[name][0]
        data, meaning = self._library.packed(kind, weight)
        layer = GgmlLinear(self._library, kind, bool(layout), data, weight.shape, copies)
        return layer, meaning


class Library:
    """The two shared libraries with the types of the functions that are called."""

    def __init__(self, folder: Path) -> None:
        self._base = ctypes.CDLL(str(_first(folder, "libggml-base.so*")), ctypes.RTLD_GLOBAL)
        path = _best(folder)
        self.file = path.name
        self._cpu = ctypes.CDLL(str(path))

    def __call__(self, name: str, result: type | None, *arguments: object):
        """`name`(arguments); floats, structures and pointers are given as ctypes values."""
        library = self._base if hasattr(self._base, name) else self._cpu
        function = getattr(library, name)
        function.restype = result
        function.argtypes = None
        return function(*arguments)

    def pointer(self, name: str, *arguments: object) -> ctypes.c_void_p:
        found = self(name, ctypes.c_void_p, *arguments)
        if not found:
            raise RuntimeError(f"{name} failed")
        return ctypes.c_void_p(found)

    def context(self, size: int) -> ctypes.c_void_p:
        """Room for tensors' descriptions, not their values."""
        return self.pointer("ggml_init", _Memory(size, None, True))

    def tensor(self, context: ctypes.c_void_p, kind: int, columns: int, rows: int):
        sizes = ctypes.c_int64(columns), ctypes.c_int64(rows)
        return self.pointer("ggml_new_tensor_2d", context, ctypes.c_int(kind), *sizes)

    def plain_buffers(self) -> ctypes.c_void_p:
        return self.pointer("ggml_backend_cpu_buffer_type")

    def repacking_buffers(self) -> ctypes.c_void_p:
        """The buffer type whose tensors ggml lays out for the processor."""
        registry = self.pointer("ggml_backend_cpu_reg")
        name = b"ggml_backend_dev_get_extra_bufts"
        address = self.pointer("ggml_backend_reg_get_proc_address", registry, name)
        device = self.pointer("ggml_backend_reg_dev_get", registry, ctypes.c_size_t(0))
        kind = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
        found = kind(address.value or 0)(device)
        for index in range(8):
            if not found or not found[index]:
                break
            buffers = ctypes.c_void_p(found[index])
            if b"REPACK" in self("ggml_backend_buft_name", ctypes.c_char_p, buffers):
                return buffers
        raise RuntimeError("this build has no repacked layouts")

    def pool(self, threads: int) -> ctypes.c_void_p:
        options = _PoolOptions()
        self("ggml_threadpool_params_init", None, ctypes.byref(options), ctypes.c_int(threads))
        return self.pointer("ggml_threadpool_new", ctypes.byref(options))

    def packed(self, kind: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of fp32 `weight` as bytes of a type, and the fp32 values they stand for."""
        n, k = weight.shape
        row = self("ggml_row_size", ctypes.c_size_t, ctypes.c_int(kind), ctypes.c_int64(k))
        data = np.empty(n * row, np.uint8)
        sizes = [ctypes.c_int64(value) for value in (0, n, k)]
        source, target = _address(weight), _address(data)
        self(
            "ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int(kind), source, target, *sizes, None
        )
        if kind == F32:
            return data, weight
        meaning = np.empty_like(weight)
        traits = self("ggml_get_type_traits", ctypes.POINTER(_Traits), ctypes.c_int(kind))
        traits.contents.to_float(target, _address(meaning), weight.size)
        return data, meaning


class GgmlLinear(Plain):
    def __init__(
        self,
        library: Library,
        kind: int,
        repack: bool,
        data: np.ndarray,
        shape: tuple[int, ...],
        copies: Copies,
    ) -> None:
        self._library = library
        self._shape = shape
        self.weight_bytes = data.nbytes
        self.copies = copies.of(data.nbytes)
        buffers = library.repacking_buffers() if repack else library.plain_buffers()
        self._context = library.context(GRAPH_BYTES)
        rows, columns = shape
        self._weights = [
            library.tensor(self._context, kind, columns, rows) for _ in range(self.copies)
        ]
        library.pointer("ggml_backend_alloc_ctx_tensors_from_buft", self._context, buffers)
        self._backend = library.pointer("ggml_backend_cpu_init")
        self._require_kernels(columns)
        size = ctypes.c_size_t(data.nbytes)
        for tensor in self._weights:
            library(
                "ggml_backend_tensor_set", None, tensor, _address(data), ctypes.c_size_t(0), size
            )
        self._pool: ctypes.c_void_p | None = None
        self._values: tuple[ctypes.c_void_p, ctypes.c_void_p] | None = None

    def ready(self, threads: int, x: np.ndarray) -> Step:
        library = self._library
        self._use(threads)
        n, k = self._shape
        if self._values is not None:
            library("ggml_backend_buffer_free", None, self._values[1])
            library("ggml_free", None, self._values[0])
        context = library.context(GRAPH_BYTES)
        given = library.tensor(context, F32, k, len(x))
        products = [library.pointer("ggml_mul_mat", context, w, given) for w in self._weights]
        allocate = "ggml_backend_alloc_ctx_tensors_from_buft"
        self._values = context, library.pointer(allocate, context, library.plain_buffers())
        values = np.ascontiguousarray(x, np.float32)
        size = ctypes.c_size_t(values.nbytes)
        library("ggml_backend_tensor_set", None, given, _address(values), ctypes.c_size_t(0), size)
        graphs = []
        for product in products:
            graphs.append(library.pointer("ggml_new_graph", context))
            library("ggml_build_forward_expand", None, graphs[-1], product)
        result = np.empty((len(x), n), np.float32)
        compute = library._base.ggml_backend_graph_compute

        def step(copy: int) -> tuple[ctypes.c_void_p, np.ndarray]:
            index = copy % len(graphs)
            status = compute(self._backend, graphs[index])
            if status:
                raise RuntimeError(f"ggml's status {status}")
            return products[index], result

        return step

    def as_array(self, result: object) -> np.ndarray:
        product, values = result  # pyright: ignore[reportGeneralTypeIssues]
        size = ctypes.c_size_t(values.nbytes)
        get = "ggml_backend_tensor_get"
        self._library(get, None, product, _address(values), ctypes.c_size_t(0), size)
        return values.copy()

    def rest(self) -> None:
        """Its workers poll for a long time after a call; the next call wakes them."""
        if self._pool is not None:
            self._library("ggml_threadpool_pause", None, self._pool)

    def _require_kernels(self, columns: int) -> None:
        """Not every type has a repacked form on every processor; setting weights would crash."""
        library = self._library
        context = library.context(GRAPH_BYTES)
        x = library.tensor(context, F32, columns, 1)
        product = library.pointer("ggml_mul_mat", context, self._weights[0], x)
        possible = library("ggml_backend_supports_op", ctypes.c_bool, self._backend, product)
        library("ggml_free", None, context)
        if not possible:
            raise RuntimeError("no such kernel for this processor")

    def _use(self, threads: int) -> None:
        library = self._library
        old, self._pool = self._pool, library.pool(threads)
        library("ggml_backend_cpu_set_n_threads", None, self._backend, ctypes.c_int(threads))
        library("ggml_backend_cpu_set_threadpool", None, self._backend, self._pool)
        if old is not None:
            library("ggml_threadpool_free", None, old)


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _installed() -> Path:
    spec = util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(PACKAGE)
    return Path(next(iter(spec.submodule_search_locations))) / "lib64"


def _first(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise OSError(f"no {pattern} in {folder.name}")
    return found[0]


def _best(folder: Path) -> Path:
    """Builds for several processors each export a score, 0 where they cannot run."""
    candidates = sorted(folder.glob("libggml-cpu*.so")) or [_first(folder, "libggml-cpu.so*")]
    return max(candidates, key=_score)


def _score(path: Path) -> int:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return -1
    return library.ggml_backend_score() if hasattr(library, "ggml_backend_score") else 1
