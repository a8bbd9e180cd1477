"""Convolutions that tests emulate: how images lie in memory, and where kernels are launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcc.dialects.tile.conv_problem import ConvProblem, per_element
from qcc.dialects.tile.conv_schedule import ConvSchedule, illegal
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.operand_types import OPERAND_TYPES
from qcc.passes.conv_kernel import conv_kernel
from tests.codegen.cuda import warp_kernels
from tests.codegen.cuda.warp_kernels import Built, Grid, Launches


@dataclass(frozen=True)
class Case:
    """`size` are the rows and columns of the images."""

    problem: ConvProblem
    schedule: ConvSchedule
    images: int = 2
    size: tuple[int, int] = (9, 7)
    target: str = "sm_80"

    def grid(self, wanted: np.ndarray) -> Grid:
        p, s = self.problem, self.schedule
        tiles = s.tiles(p, self.images, (wanted.shape[2], wanted.shape[3]))
        return tiles, -(-p.strips * 16 // s.block_outputs), p.window.groups


def built(folder: Path, cases: Mapping[str, Case]) -> Iterator[Built]:
    def write() -> Launches:
        launches = {}
        for index, (name, case) in enumerate(cases.items()):
            p, s = case.problem, case.schedule
            assert not list(illegal(p, s, machine(case.target)))
            launches[name] = conv_kernel(p, s, f"conv_{index}", case.target)
        return launches

    return warp_kernels.built(folder, write)


def stored(
    images: np.ndarray, block: int, side_by_side: int, operand: str, row_multiple: int = 1
) -> np.ndarray:
    """
    [N, C, H, W] in blocks of channels and of images, two channels of four bits in a byte; rows of
    pixels padded.
    """
    padding = [(0, -len(images) % side_by_side), (0, 0), (0, 0),
               (0, -images.shape[3] % row_multiple)]  # fmt: skip
    padded = np.pad(images, padding)
    count, channels, height, width = padded.shape
    size = block or channels
    shape = count // side_by_side, side_by_side, channels // size, size, height, width
    blocks = padded.reshape(shape).transpose(0, 2, 4, 5, 1, 3)
    if per_element(operand) == 1:
        return np.ascontiguousarray(blocks)
    codes = blocks.astype(np.uint8) & 15
    return np.ascontiguousarray(codes[..., ::2] | codes[..., 1::2] << 4)


def loaded(
    y: np.ndarray, shape: tuple[int, ...], block: int, side_by_side: int, operand: str
) -> np.ndarray:
    """Undo `stored`."""
    count, channels, height, width = shape
    if per_element(operand) == 2:
        codes = np.stack([y & 15, y >> 4 & 15], -1).astype(np.int64).ravel()
        y = np.where(codes > OPERAND_TYPES[operand].extremes[1], codes - 16, codes)
    size = block or channels
    blocks = y.reshape(-1, channels // size, height, width, side_by_side, size)
    return blocks.transpose(0, 4, 1, 5, 2, 3).reshape(-1, *shape[1:])[:count].astype(np.float64)
