"""Warp kernels of a test file, built for the emulator as one translation unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import EmulatedModule, Mode
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.tile.warp_launch import WarpLaunch

Grid = tuple[int, int, int]
Launches = dict[str, WarpLaunch]


@dataclass
class Built:
    """Kernels and their launches by name."""

    module: EmulatedModule
    kernels: dict[str, Any]
    launches: Launches

    def launch(self, name: str, grid: Grid, arguments: Mapping[str, Any], mode: Mode) -> None:
        """Arguments by role, more than the kernel has if need be; it writes into them."""
        launch = self.launches[name]
        values = [arguments[role] for role in launch.arguments]
        self.module.launch(
            launch.kernel, grid, launch.threads, launch.shared_bytes, values, mode
        )  # fmt: skip


def built(folder: Path, write: Callable[[], Launches]) -> Iterator[Built]:
    """The kernels that `write` writes, in the order of what it returns; for a fixture."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launches = write()
        assert module.operation.verify()
        kernels = list(module.body.operations)
        emulated = build_emulated(emit_warps(kernels), folder)
        yield Built(emulated, dict(zip(launches, kernels, strict=True)), launches)
