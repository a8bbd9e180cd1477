"""qcc: a one-linear model, compiled with a recipe and loaded from its artifact."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim

import qcc
from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant
from qcc.codegen.cpu.runtime import describe
from qcc.compiler.artifact import Artifact
from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.panels import from_panels

TABLE = "[-1,-0.8,-0.65,-0.5,-0.37,-0.25,-0.15,-0.07,0,0.07,0.15,0.25,0.4,0.55,0.75,1]"
NESTED = "nestedfp16"

_FREE = ctypes.CDLL(None).free
_FREE.argtypes = [ctypes.c_void_p]

# Row → the format of the weights; nothing else in these rows is quantized.
FORMATS = {
    "fp32": ("fp32", 32),
    "bf16": ("bf16", 16),
    "fp16": ("fp16", 16),
    "nestedfp16": (NESTED, 16),
    "int8": ("int8", 8),
    "int8 g32": ("int8<group=32>", 8),
    "fp8_e4m3": ("fp8_e4m3<group=channel>", 8),
    "fp8_e5m2": ("fp8_e5m2<group=channel>", 8),
    "mxfp8_e4m3": ("mxfp8_e4m3", 8),
    "mxfp8_e5m2": ("mxfp8_e5m2", 8),
    "mxint8": ("mxint8", 8),
    "mxfp6_e2m3": ("mxfp6_e2m3", 6),
    "mxfp6_e3m2": ("mxfp6_e3m2", 6),
    "int4 g32": ("int4<group=32>", 4),
    "int4 g32, fp16 scales": ("int4<group=32,scale=fp16>", 4),
    "int4 g128": ("int4<group=128>", 4),
    "int4 g32 affine": ("int4<group=32,symmetric=false>", 4),
    "uint4 g32": ("uint4<group=32>", 4),
    "dint4 g32": ("dint4<group=32>", 4),
    "dint4 g32, fp16 scales": ("dint4<group=32,scale=fp16>", 4),
    "dint4 g128": ("dint4<group=128>", 4),
    "nf4 g64": ("nf4<group=64>", 4),
    "nf4 g64, fp16 scales": ("nf4<group=64,scale=fp16>", 4),
    "lut4 g32": (f"lut4<table={TABLE},group=32>", 4),
    "mxfp4": ("mxfp4", 4),
    "nvfp4": ("nvfp4<two_level=true>", 4),
    "amxfp4": ("amxfp4", 4),
    "sawb4": ("sawb4<group=channel>", 4),
    "int3 g32": ("int3<group=32>", 3),
    "dint3 g32": ("dint3<group=32>", 3),
    "sawb3": ("sawb3<group=channel>", 3),
    "int2 g32": ("int2<group=32>", 2),
    "int2 g32, fp16 scales": ("int2<group=32,scale=fp16>", 2),
    "sawb2": ("sawb2<group=channel>", 2),
}
# Rows with activations rounded to int8 by token; the weights' name is that of a row above.
DYNAMIC = (
    "int8", "int4 g32", "int4 g128", "dint4 g32", "dint4 g128", "mxfp4", "nvfp4", "amxfp4",
    "int2 g32",
)  # fmt: skip
VIEW, VIEWED = "nestedfp16 as fp8_e4m3", "fp8_e4m3"


class Qcc:
    version = "this checkout"

    def variants(self) -> Sequence[Variant]:
        plain = [Variant(name, width) for name, (_, width) in FORMATS.items()]
        dynamic = [Variant(f"{name} + int8 x", FORMATS[name][1], "int8") for name in DYNAMIC]
        return [*plain, Variant(VIEW, 8), *dynamic]

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        layer = self._layer(variant, weight, copies)
        return layer, layer.decoded()

    def _layer(self, variant: Variant, weight: np.ndarray, copies: Copies) -> QccLinear:
        if variant.name == VIEW:
            return QccLinear(weight, {"weights": NESTED}, copies, VIEWED)
        name, _, activations = variant.name.partition(" + ")
        recipe = {"weights": FORMATS[name][0]} if name != "fp32" else {}
        if activations:
            recipe |= {"activations": "int8", "calibration": "dynamic"}
        return QccLinear(weight, recipe, copies, None)


class QccLinear(Plain):
    """The artifact of the layer, in one file for each copy."""

    def __init__(
        self, weight: np.ndarray, recipe: Mapping[str, str], copies: Copies, precision: str | None
    ) -> None:
        self._precision = precision
        self._folder = tempfile.TemporaryDirectory(prefix="qcc-benchmark-")
        self._activations = recipe.get("activations")
        module = _compiled(weight, {"default": dict(recipe)} if recipe else None)
        refused = [layer["reason"] for layer in module.report["layers"] if layer["reason"]]
        if refused:
            raise ValueError(f"the recipe was not followed: {refused[0]}")
        path = Path(self._folder.name) / "0.qcc"
        module.save(path)
        (self._n, self._k), self._weights = weight.shape, recipe.get("weights")
        self.weight_bytes = sum(array.nbytes for array in self._stored(path).values())
        self._paths = [path]
        # One file mapped twice is one piece of memory: each copy needs a file of its own.
        for index in range(1, copies.of(self.weight_bytes)):
            self._paths.append(path.with_name(f"{index}.qcc"))
            module.save(self._paths[-1])
        self.copies = len(self._paths)
        self._loaded: tuple[int, list[qcc.Module]] = (0, [])

    def multiplied(self, x: np.ndarray) -> np.ndarray:
        if self._activations is None:
            return x
        fmt = parse_spelling(self._activations)
        return fmt.decode_rows(fmt.encode_rows(x), x.shape[1])

    def decoded(self) -> np.ndarray:
        stored = self._stored(self._paths[0])
        if self._weights is None:
            return next(iter(stored.values()))
        fmt = parse_spelling(self._weights)
        if self._precision is not None:
            fmt = fmt.with_options(view=self._precision)
        parts = {name.rpartition("/")[2]: array for name, array in stored.items()}
        with Artifact.open(self._paths[0], verify=False) as artifact:
            in_panels = "weight/layout" in artifact.weights_metadata
        if in_panels:
            parts = from_panels(fmt, parts, self._n, self._k)
        return fmt.decode_rows(parts, self._k)

    def _stored(self, path: Path) -> dict[str, np.ndarray]:
        """The parts that the code reads, by name."""
        opened = qcc.load(path, verify=False, precision=self._precision, threads=1)
        return {name: opened._artifact.tensor(name) for name in opened._running.code.parts}

    def ready(self, threads: int, x: np.ndarray) -> Step:
        if self._loaded[0] != threads:
            self._loaded = (threads, [self._load(path, threads) for path in self._paths])
        copies = [module._running for module in self._loaded[1]]
        # One pool of threads, as in a model, or most calls would find theirs asleep.
        calls = [KernelCall(copies[0], weights, x) for weights in copies]
        return lambda copy: calls[copy % len(calls)]()

    def whole_call(self, x: np.ndarray) -> Step:
        """As `ready`, through the public call of a module; on the threads of the last `ready`."""
        modules = self._loaded[1]
        return lambda copy: modules[copy % len(modules)](x)

    def _load(self, path: Path, threads: int) -> qcc.Module:
        return qcc.load(path, verify=False, precision=self._precision, threads=threads)


class KernelCall:
    """
    The entry of loaded code on one input, without the wrapping of arguments and results.

    The kernels and the allocation of the result remain; a result lives until the next call. The
    weights are those that `weights`, a copy of the code, has bound.
    """

    def __init__(self, running: Any, weights: Any, x: np.ndarray) -> None:
        self._held = running, weights, np.ascontiguousarray(x)
        self._bind = running._object._function("qcc_set_parameters", None, ctypes.c_void_p)
        self._table = ctypes.addressof(weights._object._table)
        described = describe(self._held[2])
        self._input = ctypes.create_string_buffer(described, len(described))
        self._result = (ctypes.c_int64 * running._results[0].words)()
        self._shape_at = slice(3, 3 + running._results[0].rank)
        arguments = [ctypes.c_void_p] * 2
        self._function = running._object._function("_mlir_ciface_main", None, *arguments)
        self._addresses = ctypes.addressof(self._result), ctypes.addressof(self._input)

    def __call__(self) -> KernelCall:
        _FREE(self._result[0])
        self._bind(self._table)
        self._function(*self._addresses)
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        sizes = tuple(self._result[self._shape_at])
        values = (ctypes.c_float * int(np.prod(sizes))).from_address(self._result[1])
        return np.array(values, np.float32).reshape(sizes)

    def __del__(self) -> None:
        _FREE(self._result[0])


def _compiled(weight: np.ndarray, recipe: Mapping[str, Any] | None) -> qcc.Module:
    n, k = weight.shape
    layer = torch.nn.Linear(k, n, bias=False)
    layer.weight = torch.nn.Parameter(torch.from_numpy(weight), requires_grad=False)
    rows = ({0: Dim("rows", min=1, max=4096)},)
    inputs = (torch.zeros(2, k),)
    return qcc.compile(layer, inputs, recipe=recipe, dynamic_shapes=rows, golden=False)
