"""ResNets in integers on the emulator: how images lie between their layers changes no bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

import qcc
from qcc.autotune.database import Database
from qcc.autotune.measurement import Measurement
from qcc.compiler.tuning.cuda_tasks import conv_task, device_text
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import default_convolution
from qcc.dialects.tile.schedule_space import values_of
from qcc.models import resnet

IMAGES, SIZE = 8, 8
STAGES = (16, 32, 64)
OPERANDS = {"w8a8-static": ("int8", "i8", 16), "w4a4-static": ("int4", "i4", 32)}
BLOCKS = {"w8a8-static": 3, "w4a4-static": 1}  # of a stage: ResNet-20 and ResNet-8


def layers(recipe: str) -> Iterator[ConvProblem]:
    """Those of the stages, and of the steps between them, whose images may come in blocks."""
    weight, operand, channels = OPERANDS[recipe]
    size = SIZE
    for inputs, outputs in zip((16, *STAGES), STAGES, strict=False):
        stride = 1 if inputs == outputs else 2
        size //= stride
        for given, by in dict.fromkeys(((inputs, stride), (outputs, 1))):
            if given % channels == 0:
                window = Window(given, outputs, (3, 3), (by, by), (1, 1))
                yield ConvProblem(window, weight, IMAGES * size * size, operand, block=0,
                                  blocks=(IMAGES, channels))  # fmt: skip


def compiled(folder: Path, recipe: str, blocks: bool) -> tuple[torch.Tensor, str]:
    """What the model makes of images with tuned schedules, and the emitted kernels."""
    stored = folder / f"{blocks}.db"
    with_blocks = Database(stored, create=True)
    for problem in layers(recipe):
        schedule = replace(default_convolution(problem), image_blocks=blocks)
        took = Measurement(values=values_of(schedule), seconds=1e-6, checked=True, modelled=True)
        with_blocks.add(conv_task(problem, device_text("sm_80")), [took])
    torch.manual_seed(0)
    model = resnet.CifarResNet(BLOCKS[recipe]).eval()
    x = torch.randn(IMAGES, 3, SIZE, SIZE)
    module = qcc.compile(
        model, (x,), recipe=recipe, target="cuda:emulate", calibration=[(x,)], golden=False,
        schedules=stored,
    )  # fmt: skip
    chosen = [
        each for each in module.report["schedules"]["layers"] if each["source"] == stored.name
    ]
    assert len(chosen) >= len(list(layers(recipe)))
    module.save(folder / "model.qcc")
    with ZipFile(folder / "model.qcc") as archive:
        return torch.as_tensor(module(x)), archive.read("kernels/cuda/warps.cu").decode()


@pytest.mark.parametrize("recipe", OPERANDS)
def test_blocks_change_no_bit(tmp_path: Path, recipe: str) -> None:
    plain, plain_kernels = compiled(tmp_path, recipe, blocks=False)
    blocked, kernels = compiled(tmp_path, recipe, blocks=True)
    assert torch.equal(plain, blocked)
    assert torch.isfinite(plain).all()
    # Pixels are counted with eight images side by side, as they are written and read.
    assert "pixel % 8" not in plain_kernels
    assert kernels.count("pixel % 8") > len(list(layers(recipe)))
