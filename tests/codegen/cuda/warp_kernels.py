"""Warp kernels of a test file, built for the emulator as one translation unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import ALL_MODES, EmulatedModule, KernelViolation, Mode
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


def planted(
    sound: Built, names: Sequence[str], faults: Mapping[str, tuple[str, str]], folder: Path
) -> dict[str, Built]:
    """Kernels with a text replaced by another: all faults in one translation unit, by name."""
    source = emit_warps([sound.kernels[name] for name in names])
    functions = re.findall(r"QCC_DEVICE \w+ (\w+)\(", source)
    texts, found = [], []
    for index, (old, new) in enumerate(faults.values()):
        assert old in source, old
        text, launches = source.replace(old, new), {}
        for name in names:
            launch = sound.launches[name]
            launches[name] = replace(launch, kernel=f"{launch.kernel}_{index}")
        symbols = [*functions, *(sound.launches[name].kernel for name in names)]
        texts.append(re.sub(rf"\b({'|'.join(symbols)})\b", rf"\1_{index}", text))
        found.append(launches)
    module = build_emulated("\n".join(texts), folder)
    return {fault: Built(module, {}, each) for fault, each in zip(faults, found, strict=True)}


def fails(run: Callable[[Mode], bool]) -> bool:
    """Whether in some mode the emulator stops a kernel, or its results are not right."""
    for mode in ALL_MODES:
        try:
            if not run(mode):
                return True
        except KernelViolation:
            return True
    return False
