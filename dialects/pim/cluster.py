"""
Decoding with long contexts on many PIM nodes: who holds what, and what a step takes.

Nodes form a pipeline of stages; a stage's nodes share its layers. Weights are split by rows over
all DPUs of a stage. Keys and values are split by head first, then by token ("tokens"), or stay
whole with their request and head ("heads", as static compilers place them). Memory for them is
given in blocks through an indirection table ("dynamic"), or as much as the longest context may
need ("static"). Batches go through the pipeline in as many parts as there are stages.

The cost of products on UPMEM nodes is the cycle model's (timing.py, estimate.py); of a node with
fixed-function units it is its bandwidth. Neither was measured on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from ..errors import ResourceError, UsageError
from .cost import transfer_ms
from .device import Device

GIB = 1 << 30
EXP_SLOTS = 24
"""Slots of one score: piecewise exponential (pim_piecewise_kernel), running maximum and sum."""
MULTIPLY_SLOTS = 2.6
"""Slots of a multiplication in register tiles of 2 x 4 (method `multiply`)."""
TABLE_ENTRY = 4
UNITS = 256
"""Banks with units of a node of fixed-function units: sixteen chips of sixteen."""
LinearCost = Callable[[int, int, int, int], float]
"""Milliseconds of a product of (rows, k) for some tokens on some DPUs."""


@dataclass(frozen=True)
class ModelShape:
    """A decoder: `ffn` is the width of its gated feed-forward layer."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int

    def products(self) -> list[tuple[int, int]]:
        """(rows, k) of the linear layers of one block."""
        attention = self.heads * self.head_size
        keys = 2 * self.kv_heads * self.head_size
        return [(attention + keys, self.hidden), (self.hidden, attention),
                (2 * self.ffn, self.hidden), (self.hidden, self.ffn)]  # fmt: skip

    @property
    def block_weights(self) -> int:
        return sum(rows * k for rows, k in self.products())

    @property
    def parameters(self) -> int:
        return self.layers * self.block_weights + 2 * self.vocabulary * self.hidden

    def kv_bytes(self, bits: int) -> int:
        """Bytes of one token's keys and values in one layer."""
        return 2 * self.kv_heads * self.head_size * bits // 8


SHAPES = {
    each.name: each
    for each in (
        ModelShape("7B", 32, 4096, 32, 32, 128, 11008, 32000),
        ModelShape("13B", 40, 5120, 40, 40, 128, 13824, 32000),
        ModelShape("32B", 64, 5120, 40, 8, 128, 27648, 152064),
        ModelShape("72B", 80, 8192, 64, 8, 128, 29568, 152064),
    )
}


@dataclass(frozen=True)
class Node:
    """
    One PIM node. With `device` its compute is that of DPUs; else `bandwidth` GB/s of its units
    read weights and caches, which then cost nothing more. `link` GB/s and `latency_us` join nodes.
    """

    name: str
    capacity: int
    link: float = 12.5
    latency_us: float = 10.0
    device: Device | None = None
    bandwidth: float = 0.0

    @staticmethod
    def of(device: Device) -> Node:
        return Node(f"upmem-{device.name}", device.dpus * device.mram, device=device)


AIM = Node("aim", 32 * GIB, link=25.0, latency_us=5.0, bandwidth=8192.0)
"""A card of sixteen GDDR6 chips with units of 512 GB/s each; not verified."""


@dataclass(frozen=True)
class Gpu:
    """A GPU-only system is `count` of these, weights and caches split over all."""

    name: str = "H100-80GB"
    capacity: int = 80 * GIB
    bandwidth: float = 3350.0
    efficiency: float = 0.8
    exchange_us: float = 10.0


@dataclass(frozen=True)
class Cluster:
    """`stages` of `ways` nodes each hold a model; `split` and `allocation` as above."""

    shape: ModelShape
    node: Node
    stages: int
    ways: int
    weight_bits: int
    kv_bits: int
    linear: LinearCost
    split: str = "tokens"
    allocation: str = "dynamic"
    block: int = 256

    def __post_init__(self) -> None:
        if self.split not in ("tokens", "heads") or self.allocation not in ("dynamic", "static"):
            raise UsageError("pim-cluster", f"no split {self.split!r} with {self.allocation!r}")

    @property
    def layers(self) -> int:
        """Of the stage that has most."""
        return ceil(self.shape.layers / self.stages)

    @property
    def weight_bytes(self) -> int:
        """Of the fullest stage: its layers, and the embedding at one end of the pipeline."""
        ends = self.shape.vocabulary * self.shape.hidden
        return (self.layers * self.shape.block_weights + ends) * self.weight_bits // 8

    @property
    def cache_room(self) -> int:
        """Bytes of a stage for keys and values; ResourceError where weights leave none."""
        room = self.ways * self.node.capacity - self.weight_bytes
        if room <= 0:
            raise ResourceError(
                "pim-cluster-full",
                f"{self.shape.name} in {self.weight_bits} bits leaves a stage of {self.ways} "
                f"{self.node.name} nodes no room",
                why=f"{self.weight_bytes} bytes of weights, {self.ways * self.node.capacity} held",
                next_step="use more nodes or fewer bits",
            )
        return room

    def reserved(self, tokens: int, longest: int) -> int:
        """Bytes of a stage that a request of `tokens` holds."""
        if self.allocation == "static":
            return longest * self.layers * self.shape.kv_bytes(self.kv_bits)
        blocks = ceil(tokens / self.block)
        table = blocks * TABLE_ENTRY * self.layers
        return blocks * self.block * self.layers * self.shape.kv_bytes(self.kv_bits) + table

    def step_ms(self, contexts: list[int]) -> float:
        """Milliseconds in which every request gets a token."""
        parts = min(self.stages, len(contexts))
        share = [contexts[part::parts] for part in range(parts)]
        stage = max(self.stage_ms(each) for each in share)
        return self.stages * stage

    def stage_ms(self, contexts: list[int]) -> float:
        """One stage for the requests of one part of the batch."""
        batch = len(contexts)
        moved = batch * self.shape.hidden * 4
        link = self.node.latency_us / 1e3 + moved / self.node.link / 1e6
        each = self.linear_ms(batch) + self.attention_ms(contexts)
        exchange = link * 2 if self.ways > 1 else 0.0
        return self.layers * (each + exchange) + link

    def linear_ms(self, batch: int) -> float:
        if self.node.device is None:
            return self._read_ms(self.shape.block_weights * self.weight_bits // 8)
        dpus = self.node.device.dpus * self.ways
        return sum(self.linear(rows, k, batch, dpus) for rows, k in self.shape.products())

    def attention_ms(self, contexts: list[int]) -> float:
        tokens = self.busiest_tokens(contexts)
        if self.node.device is None:
            head = self.shape.kv_bytes(self.kv_bits) / self.shape.kv_heads
            return self._read_ms(tokens * head * self.units)
        return self._dpu_attention_ms(tokens, len(contexts))

    @property
    def units(self) -> int:
        """Parts of a stage that each hold keys and values of one head."""
        if self.node.device is not None:
            return self.node.device.dpus * self.ways
        return UNITS * self.ways

    def busiest_tokens(self, contexts: list[int]) -> float:
        """Tokens of one head in the fullest unit."""
        heads = self.shape.kv_heads
        if self.split == "tokens":
            return sum(contexts) * heads / self.units
        loads = sorted(contexts, reverse=True)
        rounds = ceil(len(loads) * heads / self.units)
        return float(sum(loads[:rounds]))

    def _read_ms(self, size: float) -> float:
        return size / (self.node.bandwidth * self.ways) / 1e6

    def _dpu_attention_ms(self, tokens: float, batch: int) -> float:
        device = self.node.device
        assert device is not None
        group = self.shape.heads // self.shape.kv_heads
        width = self.shape.head_size
        slots = tokens * group * (2 * width * MULTIPLY_SLOTS + EXP_SLOTS)
        size = tokens * 2 * width * self.kv_bits / 8
        engine = device.dma.busy(ceil(size))
        kernel = device.milliseconds(max(device.factor * slots, engine))
        queries = batch * group * width
        partial = batch * group * (width + 2) * 4
        moved = transfer_ms(device, device.dpus, queries, inward=True)
        return (
            kernel
            + device.host.launch_ms
            + moved
            + transfer_ms(device, device.dpus, partial, inward=False)
        )


def gpu_step_ms(shape: ModelShape, gpu: Gpu, count: int, weight_bits: int, kv_bits: int,
                contexts: list[int]) -> float:  # fmt: skip
    """Milliseconds of a step on GPUs: memory traffic, and two exchanges a layer among them."""
    size = shape.parameters * weight_bits / 8
    size += sum(contexts) * shape.layers * shape.kv_bytes(kv_bits)
    exchange = 2 * shape.layers * gpu.exchange_us / 1e3 if count > 1 else 0.0
    return size / (gpu.bandwidth * gpu.efficiency * count) / 1e6 + exchange
