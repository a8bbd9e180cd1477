"""
The plan of a program on DPUs: what is where, what moves, what is launched.

One object drives the host's C code, the Python executor and the report. MRAM holds, from offset 0:
tables, once for each pair of code books and p; the weights of every layer; and an area for the
inputs and results of the layer that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ..bindings import ir
from ..errors import ResourceError
from ..regions import walk
from .cost import broadcast_ms
from .device import ADDRESSES, Device, device
from .functions import PlacedFunction
from .host import FunctionOp, LinearOp
from .layer import STEP, Layer
from .slots import traces
from .timing import Timing, simulate

BROADCAST = ("table", "reorder", "base", "slope")
OWN = ("weights", "factors")
PERSISTENT = (*BROADCAST, *OWN)
"""What stays in MRAM: tables, which layers share, and what each has of its own."""
STAYING = "sums"
"""What only the kernel reads and writes."""


@dataclass(frozen=True)
class Transfer:
    """
    One call of the host: `kind` is "shard" (to each DPU its own), "broadcast" or "gather".

    `length` bytes for every DPU, at `offset` of their MRAM; `once` when the model is loaded.
    """

    kind: str
    array: str
    offset: int
    length: int
    once: bool

    def bytes(self, dpus: int) -> int:
        return self.length * dpus


Launched = Layer | PlacedFunction
"""What DPUs are started for."""


@dataclass(frozen=True)
class Plan:
    """
    Layers in the order of the program, functions of numbers, and what stays on the host:
    (layer or op, reason).
    """

    device: Device
    layers: tuple[Layer, ...]
    host: tuple[tuple[str, str], ...]
    functions: tuple[PlacedFunction, ...] = ()

    @staticmethod
    def of(module: Any, on: Device | None = None) -> Plan:
        """
        The plan of a module that `partition-pim` went over; ResourceError where MRAM is too small.
        """
        functions = list(module.operation.regions[0].blocks[0].operations)
        kernels = {op.symbol.value: op for op in functions if op.operation.name == "pim.kernel"}
        layers, host = _Layers(kernels, on), []
        for function in functions:
            again = _symbol(function) == STEP
            for op in walk(function):
                if isinstance(op, LinearOp | FunctionOp):
                    layers.add(op, f".{STEP}" if again else "")
                elif "pim.host" in op.operation.attributes and not again:
                    reason = ir.StringAttr(op.operation.attributes["pim.host"]).value
                    host.append((_name(op), reason))
        placed = tuple(layers.found.values())
        found = Plan(
            on or device("v1A"), tuple(each for each in placed if isinstance(each, Layer)),
            tuple(host), tuple(each for each in placed if isinstance(each, PlacedFunction)),
        )  # fmt: skip
        return found.where_it_fits()

    def where_it_fits(self) -> Plan:
        """Without kernels for steps where MRAM is too small for weights twice; ResourceError."""
        try:
            _ = self.offsets
        except ResourceError:
            once = tuple(layer for layer in self.layers if not layer.steps)
            if once == self.layers:
                raise
            return replace(self, layers=once).where_it_fits()
        return self

    @property
    def launched(self) -> tuple[Launched, ...]:
        return *self.layers, *self.functions

    @property
    def dpus(self) -> int:
        return max((each.dpus for each in self.launched), default=0)

    @cached_property
    def offsets(self) -> dict[tuple[str, str], int]:
        """
        Where each array of each layer begins in MRAM, tables under their layers' names too.

        ResourceError naming the layer that does not fit, the budget, the need and the way out.
        """
        found: dict[tuple[str, str], int] = {}
        tables: dict[tuple[Any, ...], int] = {}
        place = 0
        for layer in self.launched:
            for array in BROADCAST:
                if array in layer.sizes:
                    key = (*layer.table_key, array)
                    if key not in tables:
                        tables[key], place = place, place + layer.sizes[array]
                    found[layer.name, array] = tables[key]
            for array in OWN:
                found[layer.name, array] = place
                place += layer.sizes.get(array, 0)
            self._check(layer, place)
        for layer in self.launched:
            at = place
            for array, size in layer.sizes.items():
                if array not in PERSISTENT:
                    found[layer.name, array], at = at, at + size
            self._check(layer, at)
        return found

    def _check(self, layer: Launched, need: int) -> None:
        if need > self.device.mram:
            raise ResourceError(
                "pim-mram-full", f"{layer.name} does not fit the MRAM of {self.device.name}",
                why=f"{need} bytes for each DPU with the layers before it; there are "
                f"{self.device.mram}",
                next_step=f"{self._room}; or give layers fewer bits; or give some no format, "
                "so that they stay on the host",
            )  # fmt: skip

    @property
    def _room(self) -> str:
        """The nearest device that holds all layers: with more MRAM where DPUs can have it."""
        constant = {(key, array): size for each in self.launched
                    for key, array, size in _constants(each)}  # fmt: skip
        moved = (sum(size for array, size in each.sizes.items() if array not in PERSISTENT)
                 for each in self.launched)  # fmt: skip
        need = sum(constant.values()) + max(moved)
        if need <= ADDRESSES["mram"]:
            return f"a profile with mram = {need} holds all layers"
        more = -(-need * self.device.dpus // self.device.mram)
        return f"all layers need {need} bytes for each DPU: use some {more} DPUs"

    def transfers(self, layer: Launched) -> Iterator[Transfer]:
        """What a layer moves, in order; its launch comes before the gather."""
        for array, size in layer.sizes.items():
            if array == STAYING:
                continue
            kind = "broadcast" if array in BROADCAST else "shard"
            if array == "results":
                kind = "gather"
            offset = self.offsets[layer.name, array]
            yield Transfer(kind, array, offset, size, array in PERSISTENT)

    @property
    def load_ms(self) -> float:
        """Milliseconds to bring tables and weights, once."""
        seen, total = set(), 0.0
        for layer in self.launched:
            for transfer in self.transfers(layer):
                key = transfer.kind, transfer.offset
                if transfer.once and key not in seen:
                    seen.add(key)
                    total += broadcast_ms(self.device, transfer.length)
        return total

    @property
    def milliseconds(self) -> float:
        """Of all layers, one after another, for the tokens that their kernels were chosen for."""
        return sum(each.cost.total_ms for each in self.launched if not each.steps)

    @property
    def step_milliseconds(self) -> float | None:
        """Of all layers for one token; None where the program has no step."""
        stepped = {layer.layer for layer in self.launched if layer.steps}
        alone = [layer for layer in self.launched if layer.steps or layer.layer not in stepped]
        return sum(layer.cost.total_ms for layer in alone) if stepped else None

    def report(self) -> list[dict[str, Any]]:
        """A row for each layer on DPUs, as `report.json` holds them."""
        return [
            {
                "layer": layer.name, "kernel": layer.kernel, "dpus": layer.dpus,
                "kernel_ms": layer.cost.kernel_ms, "launch_ms": layer.cost.launch_ms,
                "to_dpu_ms": layer.cost.to_dpu_ms, "from_dpu_ms": layer.cost.from_dpu_ms,
                "dma_bytes": (layer.timing.bytes_read + layer.timing.bytes_written)
                * layer.dpus,
                "lut_bytes": layer.cost.table_bytes, "weight_bytes": layer.cost.weight_bytes,
                "joules": layer.cost.joules, "trusted": layer.timing.trusted,
            } | layer.row()
            for layer in self.launched
        ]  # fmt: skip


def _constants(layer: Launched) -> Iterator[tuple[Any, str, int]]:
    """What stays in MRAM: whose it is, the array, bytes."""
    for array, size in layer.sizes.items():
        if array in PERSISTENT:
            yield layer.table_key if array in BROADCAST else layer.name, array, size


def _name(op: Any) -> str:
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["layer"]).value if "layer" in attributes else op.operation.name


def _symbol(op: Any) -> str:
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["sym_name"]).value if "sym_name" in attributes else ""


@dataclass
class _Layers:
    """Layers by name as they are found; each kernel is simulated once."""

    kernels: dict[str, Any]
    device: Device | None
    found: dict[str, Launched] = field(default_factory=dict)
    runs: dict[str, Timing] = field(default_factory=dict)

    def add(self, op: LinearOp | FunctionOp, suffix: str) -> None:
        """A layer that has this kernel already, in another function or call, is not added again."""
        place, kernel = op.place, op.kernel.value
        if any((*e.place, e.kernel) == (*place, kernel) for e in self.found.values()):
            return
        held = self.device or device(self.kernels[kernel].device.value)
        if kernel not in self.runs:
            self.runs[kernel] = simulate(traces(self.kernels[kernel]), held)
        name = place[0] + suffix
        while name in self.found:
            name += "_"
        if isinstance(op, LinearOp):
            self.found[name] = Layer.of(op, name, held, self.runs[kernel])
        else:
            self.found[name] = PlacedFunction.of(op, name, held, self.runs[kernel])
