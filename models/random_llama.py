"""
Llama-shaped models of any size without their weights, and random weights for them on disk.

The modules lie on the meta device: they have names and shapes, and export like real ones. Weights
are written as a stream, so a file far larger than memory can be made.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from torch.export import Dim

from .family import DynamicShapes, Sample
from .llama import Llama, LlamaConfig, inverse_frequencies

LLAMA_6_7B = LlamaConfig(
    vocabulary=32000, width=4096, layers=32, heads=32, kv_heads=32, hidden=11008, norm_eps=1e-6
)
LLAMA_SMALL = LlamaConfig(
    vocabulary=4096, width=512, layers=7, heads=8, kv_heads=4, hidden=1408, norm_eps=1e-6
)

DTYPE_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
CHUNK = 1 << 22  # values drawn at a time


def llama_6_7b() -> Sample:
    """6.7 billion parameters: `qcc compile qcc.models.random_llama:llama_6_7b --weights FILE`."""
    return on_meta(LLAMA_6_7B)


def llama_small() -> Sample:
    """The same with seven layers and 25 million parameters."""
    return on_meta(LLAMA_SMALL)


def on_meta(config: LlamaConfig, dtype: torch.dtype = torch.float32) -> Sample:
    """A model that computes in `dtype`; its weights may be stored in another."""
    with torch.device("meta"):
        model = Llama(config).to(dtype)
        tokens = torch.zeros((1, 16), dtype=torch.int64)
    return Sample(model.eval().requires_grad_(False), (tokens,), dynamic_shapes())


def dynamic_shapes() -> DynamicShapes:
    return ({1: Dim("time", min=2, max=1024)},)


def write_random_weights(
    model: Llama | LlamaConfig,
    path: str | Path,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
) -> None:
    """
    Write a safetensors file for `model`, the same bytes for the same seed, published by rename.

    Matrices are N(0, 1 / inputs), norms uniform in [0.5, 1.5), `inv_freq` its true float32 values.
    Never more than 4 Mi values are held in memory. A tied head is left out.
    """
    config = model.config if isinstance(model, Llama) else model
    shapes = parameter_shapes(config)
    partial = Path(f"{path}.partial")
    try:
        with partial.open("wb") as file:
            file.write(header(config, shapes, dtype))
            for index, shape in enumerate(shapes.values()):
                write_random(
                    file, shape, dtype, torch.Generator().manual_seed(seed * 65537 + index)
                )
            file.write(raw(inverse_frequencies(config)))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def parameter_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = Llama(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def header(config: LlamaConfig, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """Length, JSON and padding that open a safetensors file; `inv_freq` comes last in the data."""
    entries: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = entry(DTYPE_NAMES[dtype], shape, start, end)
    pairs = config.head_size // 2
    entries["inv_freq"] = entry("F32", (pairs,), end, end + 4 * pairs)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}


def write_random(
    file: BinaryIO, shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator
) -> None:
    for count in chunks(math.prod(shape)):
        values = torch.empty(count)
        if len(shape) == 1:
            values.uniform_(0.5, 1.5, generator=source)
        else:
            values.normal_(std=shape[-1] ** -0.5, generator=source)
        file.write(raw(values.to(dtype)))


def chunks(total: int) -> Iterator[int]:
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)


def raw(values: Tensor) -> bytes:
    return values.view(torch.uint8).numpy().tobytes()
