"""
Small real PyTorch models: the families qcc must compile, loaders for real weights, metrics.

`FAMILIES[name]()` gives a `Sample`: the module in eval mode, example inputs, dynamic shapes. Torch
is imported when a family is built, not before. Nothing here imports the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

from .family import DynamicShapes, Sample

__all__ = ["FAMILIES", "DynamicShapes", "Sample"]


def sample(file: str, factory: str = "tiny") -> Sample:
    """The small model of a family file of this folder, with its inputs and free sizes."""
    family = import_module(f".{file}", __name__)
    return Sample(getattr(family, factory)(), family.example_inputs(), family.dynamic_shapes())


FAMILIES: dict[str, Callable[[], Sample]] = {
    "mlp": partial(sample, "mlp"),
    "resnet": partial(sample, "resnet"),
    "resnet_bottleneck": partial(sample, "resnet_bottleneck"),
    "bert": partial(sample, "bert"),
    "gpt2": partial(sample, "gpt2"),
    "llama": partial(sample, "llama"),
    "vit": partial(sample, "vit"),
    "moe": partial(sample, "moe"),
    "lstm": partial(sample, "lstm"),
    "gru": partial(sample, "gru"),
    "unet": partial(sample, "unet"),
    "mobile": partial(sample, "mobile"),
}
