"""CIFAR-10 images and the ResNets trained on them, from files the user names."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .assets import AssetError, check_size
from .resnet import CifarResNet
from .weights import read_safetensors

FILE_SIZES = {20: 1_092_520, 56: 3_451_984}
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
NOT_AN_NPZ = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


def load_resnet20(path: str | Path) -> CifarResNet:
    return load(path, depth=20)


def load_resnet56(path: str | Path) -> CifarResNet:
    return load(path, depth=56)


def load(path: str | Path, depth: int) -> CifarResNet:
    """The published checkpoint of that depth in eval mode; AssetError on a file of another size."""
    check_size(Path(path), FILE_SIZES[depth], f"name the safetensors file of ResNet-{depth}")
    model = CifarResNet(blocks=(depth - 2) // 6)
    read_safetensors(model, path)
    return model.eval().requires_grad_(False)


def read_images(path: str | Path) -> tuple[Tensor, np.ndarray]:
    """
    Normalized float32 images [count, 3, 32, 32] and labels [count] of an npz file.

    The file holds `images`, uint8 [count, 32, 32, 3] in RGB, and `labels`; pickles are refused.
    """
    try:
        with np.load(path, allow_pickle=False) as members:
            images, labels = members["images"], members["labels"]
    except NOT_AN_NPZ as error:
        reason = f"{path} is not an npz file with `images` and `labels` ({error})"
        raise AssetError(f"{reason}; see the docstring for its layout") from error
    return normalize(images), labels.astype(np.int64)


def normalize(images: np.ndarray) -> Tensor:
    """uint8 [count, height, width, 3] -> float32 [count, 3, height, width]."""
    scaled = (images.astype(np.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
