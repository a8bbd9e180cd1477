"""
The plan of a program on DPUs: what is where, what moves, what is launched.

One object drives the host's C code, the Python executor and the report. MRAM holds, from offset 0:
tables, once for each pair of code books and p; the weights of every layer; and an area for the
inputs and results of the layer that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from ..bindings import ir
from ..errors import ResourceError
from ..formats import parse_spelling
from ..regions import walk
from .cost import Cost, broadcast_ms, cost_of
from .device import Device, device
from .host import LinearOp
from .linear import IntegerLinear
from .schedule import WIDTH, Schedule, Share, arrays, padded
from .slots import traces
from .timing import Timing, simulate

PERSISTENT = ("table", "reorder", "weights")


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


@dataclass(frozen=True)
class Layer:
    """One linear layer: what it computes, with which kernel, and what that costs."""

    name: str
    kernel: str
    parameter: str
    linear: IntegerLinear
    share: Share
    timing: Timing
    cost: Cost

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each array of one DPU."""
        return {
            name: padded(prod(shape), WIDTH[element]) * WIDTH[element]
            for name, (shape, element) in arrays(self.share).items()
        }

    @property
    def table_key(self) -> tuple[Any, ...]:
        tables = self.share.tables
        return self.share.schedule.method, tables.weights, tables.activations, tables.p


@dataclass(frozen=True)
class Plan:
    """Layers in the order of the program, and what stays on the host: (layer or op, reason)."""

    device: Device
    layers: tuple[Layer, ...]
    host: tuple[tuple[str, str], ...]

    @staticmethod
    def of(module: Any, on: Device | None = None) -> Plan:
        """
        The plan of a module that `partition-pim` went over; ResourceError where MRAM is too small.
        """
        ops = walk(module)
        kernels = {op.symbol.value: op for op in ops if op.operation.name == "pim.kernel"}
        runs: dict[str, Timing] = {}
        layers, host, placed = [], [], set[tuple[str, str]]()
        for op in ops:
            if isinstance(op, LinearOp):
                if _place_of(op) in placed:  # `@step` has the layers of `@main` again
                    continue
                placed.add(_place_of(op))
                kernel = kernels[op.kernel.value]
                held = on or device(kernel.device.value)
                if op.kernel.value not in runs:
                    runs[op.kernel.value] = simulate(traces(kernel), held)
                layers.append(_layer(op, held, runs[op.kernel.value]))
            elif "pim.host" in op.operation.attributes:
                reason = ir.StringAttr(op.operation.attributes["pim.host"]).value
                host.append((_name(op), reason))
        plan = Plan(on or device("v1A"), tuple(layers), tuple(host))
        _ = plan.offsets
        return plan

    @property
    def dpus(self) -> int:
        return max((layer.share.schedule.dpus for layer in self.layers), default=0)

    @cached_property
    def offsets(self) -> dict[tuple[str, str], int]:
        """
        Where each array of each layer begins in MRAM, tables under their layers' names too.

        ResourceError naming the layer that does not fit, the budget, the need and the way out.
        """
        found: dict[tuple[str, str], int] = {}
        tables: dict[tuple[Any, ...], int] = {}
        place = 0
        for layer in self.layers:
            for array in ("table", "reorder"):
                if array in layer.sizes:
                    key = (*layer.table_key, array)
                    if key not in tables:
                        tables[key], place = place, place + layer.sizes[array]
                    found[layer.name, array] = tables[key]
            found[layer.name, "weights"] = place
            place += layer.sizes["weights"]
            self._check(layer, place)
        for layer in self.layers:
            at = place
            for array, size in layer.sizes.items():
                if array not in PERSISTENT:
                    found[layer.name, array], at = at, at + size
            self._check(layer, at)
        return found

    def _check(self, layer: Layer, need: int) -> None:
        if need > self.device.mram:
            parts = layer.share.schedule.row_parts
            raise ResourceError(
                "pim-mram-full", f"{layer.name} does not fit the MRAM of {self.device.name}",
                why=f"{need} bytes for each DPU with the layers before it; there are "
                f"{self.device.mram}",
                next_step=f"split rows over more than {parts} parts, use fewer bits, or leave "
                "layers to the host",
            )  # fmt: skip

    def transfers(self, layer: Layer) -> Iterator[Transfer]:
        """What a layer moves, in order; its launch comes before the gather."""
        for array, size in layer.sizes.items():
            kind = "broadcast" if array in ("table", "reorder") else "shard"
            if array == "results":
                kind = "gather"
            offset = self.offsets[layer.name, array]
            yield Transfer(kind, array, offset, size, array in PERSISTENT)

    @property
    def load_ms(self) -> float:
        """Milliseconds to bring tables and weights, once."""
        seen, total = set(), 0.0
        for layer in self.layers:
            for transfer in self.transfers(layer):
                key = transfer.kind, transfer.offset
                if transfer.once and key not in seen:
                    seen.add(key)
                    total += broadcast_ms(self.device, transfer.length)
        return total

    @property
    def milliseconds(self) -> float:
        """Of all layers, one after another."""
        return sum(layer.cost.total_ms for layer in self.layers)

    def report(self) -> list[dict[str, Any]]:
        """A row for each layer on DPUs, as `report.json` holds them."""
        return [
            {
                "layer": layer.name, "kernel": layer.kernel,
                "method": layer.share.schedule.method, "p": layer.share.schedule.p,
                "dpus": layer.share.schedule.dpus,
                "rows": layer.share.rows, "tokens": layer.share.tokens,
                "kernel_ms": layer.cost.kernel_ms, "launch_ms": layer.cost.launch_ms,
                "to_dpu_ms": layer.cost.to_dpu_ms, "from_dpu_ms": layer.cost.from_dpu_ms,
                "dma_bytes": (layer.timing.bytes_read + layer.timing.bytes_written)
                * layer.share.schedule.dpus,
                "lut_bytes": layer.cost.table_bytes, "weight_bytes": layer.cost.weight_bytes,
                "joules": layer.cost.joules, "trusted": layer.timing.trusted,
            }
            for layer in self.layers
        ]  # fmt: skip


def _name(op: Any) -> str:
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["layer"]).value if "layer" in attributes else op.operation.name


def _place_of(op: LinearOp) -> tuple[str, str]:
    """Name and parameter of a layer."""
    parameter: Any = op.weight.owner
    return _name(op), ir.StringAttr(parameter.attributes["symbol"]).value


def _layer(op: LinearOp, on: Device, timing: Timing) -> Layer:
    limits = None
    if "range" in op.operation.attributes:
        least, most = ir.DenseF32ArrayAttr(op.operation.attributes["range"])
        limits = (least, most)
    activation = parse_spelling(op.activation.value)
    schedule, rows, k, tokens = schedule_of(op.schedule)
    weight = parse_spelling(op.weight_format.value)
    linear = IntegerLinear(rows, k, weight, activation, limits)
    share = Share(linear.problem(tokens), schedule)
    name, symbol = _place_of(op)
    cost = cost_of(share, on, timing.cycles)
    return Layer(name, op.kernel.value, symbol, linear, share, timing, cost)


def schedule_of(attribute: ir.Attribute) -> tuple[Schedule, int, int, int]:
    """The schedule of a `pim.linear`, and the rows, k and tokens of its problem."""
    given = ir.DictAttr(attribute)
    values: dict[str, Any] = {}
    for name in ("method", "residency"):
        values[name] = ir.StringAttr(given[name]).value
    for name in ("p", "groups", "words", "row_block", "tasklets", "row_parts", "token_parts",
                 "k_parts", "lane_bits"):  # fmt: skip
        values[name] = ir.IntegerAttr(given[name]).value
    values["shared"] = ir.BoolAttr(given["shared"]).value
    rows, k, tokens = (ir.IntegerAttr(given[name]).value for name in ("rows", "k", "tokens"))
    return Schedule(**values), rows, k, tokens
