"""A plan on emulated DPUs that keep their MRAM: the same steps as the C of emit_host.py."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dialects.pim.plan import Launched, Plan, Transfer
from .build_dpu import build_rv32
from .dpu_program import DpuProgram
from .emit_dpu import OFFSETS, dpu_program
from .execute import HEAP
from .launch import Launch
from .rv32 import Dpu

Array = NDArray[Any]


@dataclass
class EmulatedPlan:
    """
    The DPUs of a plan. `kernels` are its `pim.kernel` ops by name; `workers` DPUs run at a time.

    Arrays are [dpus, elements…]; what DPUs did in the last launch is in `launches`.
    """

    plan: Plan
    kernels: Mapping[str, Any]
    folder: Path
    workers: int = 1
    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._built: dict[str, tuple[DpuProgram, bytes]] = {}
        self._dpus: list[Dpu] = []
        self._program = ""
        self._brought: set[int] = set()

    def load(self, layer: Launched, arrays: Mapping[str, Array]) -> None:
        """Bring the tables and weights of a layer, tables of several layers once."""
        self._use(layer.kernel)
        for transfer in self.plan.transfers(layer):
            if transfer.once and transfer.offset not in self._brought:
                self._brought.add(transfer.offset)
                self._bring(layer, transfer, arrays[transfer.array])

    def run(self, layer: Launched, arrays: Mapping[str, Array]) -> None:
        """One launch; results are written into their array."""
        self._use(layer.kernel)
        moved = [each for each in self.plan.transfers(layer) if not each.once]
        for transfer in moved:
            if transfer.kind != "gather":
                self._bring(layer, transfer, arrays[transfer.array])
        offsets = [self.plan.offsets[layer.name, array] for array in layer.sizes]
        for dpu in self._dpus:
            dpu.write(OFFSETS, np.array(offsets, np.uint32))
        with ThreadPoolExecutor(self.workers) as pool:
            self.launches = list(pool.map(Dpu.launch, self._dpus))
        for transfer in moved:
            if transfer.kind == "gather":
                self._fetch(transfer, arrays[transfer.array])

    def _use(self, kernel: str) -> None:
        """Load a program on all DPUs unless it is; their MRAM stays."""
        if kernel == self._program:
            return
        if kernel not in self._built:
            program = dpu_program(self.kernels[kernel])
            self._built[kernel] = program, build_rv32(program, self.folder)
        program, image = self._built[kernel]
        if not self._dpus:
            self._dpus = [Dpu(program, image, self.folder) for _ in range(self.plan.dpus)]
        elif self._program:
            for dpu in self._dpus:
                dpu.reload(program, image)
        self._program = kernel

    def _bring(self, layer: Launched, transfer: Transfer, array: Array) -> None:
        """DPUs behind the last that works on the layer get what that one gets."""
        working = layer.dpus
        for number, dpu in enumerate(self._dpus):
            part = 0 if transfer.kind == "broadcast" else min(number, working - 1)
            dpu.write(HEAP, array[part], transfer.offset)

    def _fetch(self, transfer: Transfer, array: Array) -> None:
        flat = array.reshape(len(array), -1).view(np.uint8)
        for number in range(len(array)):
            raw = self._dpus[number].read(HEAP, flat.shape[1], transfer.offset)
            flat[number] = np.frombuffer(raw, np.uint8)
