"""Weights to and from safetensors; a tensor under several names is stored once."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors.torch
from torch import nn


def write_safetensors(module: nn.Module, path: str | Path) -> None:
    """
    Write parameters and persistent buffers, published by rename.

    Of tied tensors the first name is stored; the header's metadata maps the others to it.
    """
    partial = Path(f"{path}.partial")
    try:
        safetensors.torch.save_model(module, str(partial))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_safetensors(module: nn.Module, path: str | Path) -> None:
    """Load a file into a module of the same names and shapes, in place; ties may be left out."""
    safetensors.torch.load_model(module, str(path))
