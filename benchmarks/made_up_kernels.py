"""
Spaces of kernels that do not exist, on devices that do not exist: for choosing a search's options.

Options fitted on published recordings say nothing about the next kernel, so that qcc's are chosen
on these. Times come from a model of a GPU: arithmetic, global and shared memory overlap as well as
the occupancy allows; waves are whole, registers spill, banks conflict, odd widths break sectors.
A device-dependent factor for each config, drawn once, stands for what no model says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcc.autotune.cost_model.roofline import Roofline
from qcc.autotune.recorded import Recording
from qcc.dialects.knobs import Columns, Configs, Constraint, Knob, Space

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Device:
    """Rates in 1e12 / s; `roughness`: deviation of the log of the factor that is drawn."""

    name: str
    units: int
    flops: float
    bandwidth: float
    shared_rate: float
    warp: int
    registers: int
    shared_bytes: int
    warps: int
    roughness: float
    seed: int


DEVICES = (
    Device("alpha", 80, 30.0, 0.9, 9.0, 32, 65536, 65536, 48, 0.03, 1),
    Device("beta", 28, 10.0, 0.35, 5.0, 32, 65536, 98304, 64, 0.06, 2),
    Device("gamma", 110, 24.0, 1.6, 6.0, 64, 131072, 65536, 40, 0.10, 3),
)


@dataclass(frozen=True)
class Work:
    """What a config asks of a device, each [count]."""

    flops: Numbers
    bytes: Numbers
    shared_bytes_moved: Numbers
    blocks: Numbers
    threads: Numbers
    registers: Numbers
    shared: Numbers
    parallel: Numbers
    """Independent instructions of a thread, which hide latency as warps do."""


def seconds(work: Work, device: Device, rng: np.random.Generator) -> Numbers:
    warps = np.ceil(work.threads / device.warp)
    spilled = np.maximum(work.registers - 255, 0)
    held = np.minimum(work.registers, 255) * warps * device.warp
    resident = np.minimum.reduce(
        [
            device.warps // warps,
            device.registers // np.maximum(held, 1),
            device.shared_bytes // np.maximum(work.shared, 1),
            np.full(len(warps), 16.0),
        ]
    )
    fits = resident >= 1
    resident = np.maximum(resident, 1)
    hiding = resident * warps * work.parallel**0.7
    busy = hiding / (hiding + 14.0)
    idle_lanes = warps * device.warp / work.threads
    arithmetic = work.flops * idle_lanes / (device.flops * busy)
    memory = (work.bytes + 8 * spilled * work.threads * work.blocks) / (
        device.bandwidth * np.minimum(1.0, busy * 1.3)
    )
    shared = work.shared_bytes_moved / (device.shared_rate * busy)
    parts = np.sort(np.stack([arithmetic, memory, shared]), axis=0)
    whole = parts[2] + 0.35 * parts[1] + 0.15 * parts[0]
    waves = work.blocks / (device.units * resident)
    whole = whole * np.ceil(waves) / waves + 2e6 * np.ceil(waves)
    return np.where(
        fits, whole * 1e-12 * np.exp(device.roughness * rng.normal(size=len(warps))), np.nan
    )


def matmul(c: Columns, size: int = 2048) -> Work:
    rows, columns, depth, stages = c["rows"], c["columns"], c["depth"], c["stages"]
    threads = c["threads"].astype(float)
    own = rows * columns / threads
    shape = np.sqrt(own)
    fragment = c["vector"] * (1.0 + (c["swizzle"] == 0) * (depth >= 32) * 1.0)
    reads = size**3 * 4.0 * (1 / rows + 1 / columns)
    return Work(
        flops=2.0 * size**3 * (1 + 8 / depth) * (1 + 0.15 * (c["unroll"] == 1)),
        bytes=reads * (1 + 0.5 * (c["vector"] == 1)) * 0.4 * np.where(c["order"] == 1, 0.8, 1.0),
        shared_bytes_moved=size**3 * 8.0 / shape * fragment / np.maximum(c["vector"], 2) * 0.5,
        blocks=np.ceil(size / rows) * np.ceil(size / columns),
        threads=threads,
        registers=own + 3 * shape * c["unroll"] ** 0.5 + 24.0,
        shared=4.0 * (rows + columns) * depth * stages,
        parallel=np.minimum(own, 32) ** 0.5 * stages**0.5,
    )


def stencil(c: Columns, size: int = 4096) -> Work:
    width, height = c["block_x"] * c["tile_x"], c["block_y"] * c["tile_y"]
    steps = c["steps"].astype(float)
    inner = np.maximum(width - 2 * steps, 1) * np.maximum(height - 2 * steps, 1)
    waste = width * height / inner
    shared = c["shared"] == 1
    odd = np.where(c["block_x"] % 32 == 0, 1.0, 1.25) * np.where(c["block_x"] < 32, 1.5, 1.0)
    conflict = np.where((c["padding"] == 0) & (c["block_x"] % 32 == 0), 1.8, 1.0)
    points = float(size * size)
    return Work(
        flops=points * 60 * waste,
        bytes=points * 8 / steps * waste * odd * np.where(shared, 1.0, 1.9 - 0.3 * c["read_only"]),
        shared_bytes_moved=np.where(shared, points * 36 * waste * conflict, points * 4),
        blocks=np.ceil(points / inner / 16),
        threads=(c["block_x"] * c["block_y"]).astype(float),
        registers=20.0 + 9 * c["tile_x"] * c["tile_y"] * np.where(shared, 1.0, 1.3) + 6 * steps,
        shared=np.where(shared, 4.0 * (width + c["padding"]) * height * 2, 1.0),
        parallel=(c["tile_x"] * c["tile_y"]) ** 0.6,
    )


def attention(c: Columns, tokens: int = 4096, width: int = 128) -> Work:
    queries, keys, threads = c["queries"], c["keys"], (32 * c["warps"]).astype(float)
    own = queries * (keys + width) / threads
    kept = c["queries_in"] == "registers"
    return Work(
        flops=4.0 * tokens**2 * width * (1 + 24 / keys) * (1 + 4 / queries),
        bytes=8.0 * tokens * width * (tokens / queries) * np.where(c["vector"] == 8, 0.3, 0.4),
        shared_bytes_moved=tokens**2
        * width
        * 16.0
        / np.sqrt(own)
        * np.where(kept, 0.6, 1.0)
        * np.where((c["padding"] == 0) & (keys >= 64), 1.5, 1.0),
        blocks=np.ceil(tokens / queries) * 32.0 / c["split"] ** 0.0 * c["split"],
        threads=threads,
        registers=own + np.where(kept, queries * width / threads, 0) + 30.0,
        shared=2.0 * width * (keys * 2 * c["stages"] + np.where(kept, 0, queries))
        + 8 * c["padding"],
        parallel=np.sqrt(c["stages"]) * np.minimum(own, 16) ** 0.3,
    )


POWERS = tuple(2**i for i in range(4, 9))
TILE = ("rows", "columns", "threads")
KERNELS: dict[str, tuple[tuple[Knob, ...], tuple[Constraint, ...], Callable[[Columns], Work]]] = {
    "matmul": (
        (
            Knob("rows", POWERS), Knob("columns", POWERS), Knob("depth", (8, 16, 32, 64)),
            Knob("threads", (64, 128, 256, 512)), Knob("stages", (1, 2, 3, 4)),
            Knob("vector", (1, 2, 4)), Knob("swizzle", (0, 1)), Knob("unroll", (1, 2, 4)),
            Knob("order", (0, 1)),
        ),
        (
            Constraint(TILE, lambda r, c, t: r * c >= 4 * t, "work"),
            Constraint(TILE, lambda r, c, t: r * c <= 256 * t, "registers"),
        ),
        matmul,
    ),
    "stencil": (
        (
            Knob("block_x", tuple(range(16, 257, 16))), Knob("block_y", (1, 2, 4, 8, 16)),
            Knob("tile_x", (1, 2, 3, 4)), Knob("tile_y", (1, 2, 3, 4)), Knob("steps", (1, 2, 3, 4)),
            Knob("shared", (0, 1)), Knob("padding", (0, 1)), Knob("read_only", (0, 1)),
        ),
        (
            Constraint(("block_x", "block_y"), lambda x, y: x * y <= 1024, "threads"),
            Constraint(("shared", "padding"), lambda s, p: s >= p, "padding"),
            Constraint(("steps", "block_y", "tile_y"), lambda s, b, t: b * t > 2 * s, "rows"),
        ),
        stencil,
    ),
    "attention": (
        (
            Knob("queries", POWERS), Knob("keys", (16, 32, 48, 64, 96, 128, 192, 256)),
            Knob("warps", (1, 2, 4, 6, 8, 12, 16)), Knob("stages", (1, 2, 3)),
            Knob("queries_in", ("registers", "shared")), Knob("vector", (4, 8)),
            Knob("padding", (0, 1)), Knob("split", (1, 2, 4, 8)),
        ),
        (Constraint(("queries", "warps"), lambda q, w: q * 4 >= w * 16, "rows of a warp"),),
        attention,
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class MadeUp(Recording):
    """A recording that knows how it was made."""

    work: Callable[[Columns], Work]
    on: Device

    def roofline(self) -> Roofline:
        """What can be said of it with no measurement."""
        space = Space(self.space.name, self.space.knobs, members=self.configs, derive=self._numbers)
        rates = {
            "flops": self.on.flops * 1e12,
            "bytes": self.on.bandwidth * 1e12,
            "shared_bytes": self.on.shared_rate * 1e12,
        }
        return Roofline(space, rates, units="blocks", lanes=self.on.units)

    def _numbers(self, columns: Columns) -> dict[str, NDArray]:
        work = self.work(columns)
        return {
            "flops": work.flops,
            "bytes": work.bytes,
            "shared_bytes": work.shared_bytes_moved,
            "blocks": work.blocks,
        }


def made_up() -> Iterator[MadeUp]:
    """Each kernel on each device, all configs with their times."""
    for name, (knobs, rules, work) in KERNELS.items():
        space = Space(name, knobs, rules)
        members = everything(space)
        known = Space(name, knobs, members=members)
        for device in DEVICES:
            rng = np.random.default_rng(device.seed)
            times = seconds(work(space.columns(members)), device, rng)
            yield MadeUp(
                known, f"{name} {device.name}", times, np.ones(len(times)), work=work, on=device
            )


def everything(space: Space) -> Configs:
    grids = np.meshgrid(*(range(len(knob.values)) for knob in space.knobs), indexing="ij")
    configs = np.stack([grid.ravel() for grid in grids], axis=1)
    return configs[space.legal(configs)]
