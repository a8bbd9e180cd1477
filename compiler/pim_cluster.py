"""What `qcc plan --target pim-cluster` compares: PIM nodes, static placement, GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from ..dialects.errors import QccError, ResourceError, UsageError
from ..dialects.pim.cluster import AIM, GIB, SHAPES, Cluster, Gpu, ModelShape, Node, gpu_step_ms
from ..dialects.pim.device import Device, device
from ..dialects.pim.profile import read_profile
from ..dialects.pim.schedule import Problem
from ..dialects.pim.serving import Served, System, serve
from ..passes.choose_pim_schedule import Space, estimated_best

BOOKS = {bits: (*range(1 << (bits - 1)), *range(-(1 << (bits - 1)), 0)) for bits in (2, 4, 8)}
METHODS = ("multiply", "lanes")


@dataclass(frozen=True)
class ClusterQuestion:
    """What to plan; `node` is "upmem", "aim" or the file of a device."""

    model: str
    nodes: int
    node: str | Path
    gpus: int | None
    contexts: tuple[int, ...]
    weight_bits: int = 4
    kv_bits: int = 8
    requests: int = 64
    gpu: Gpu = field(default_factory=Gpu)

    @property
    def shape(self) -> ModelShape:
        if self.model not in SHAPES:
            raise UsageError(
                "pim-cluster-model", f"no shape {self.model!r}",
                next_step=f"use {', '.join(SHAPES)}",
            )  # fmt: skip
        return SHAPES[self.model]

    def pim_node(self) -> Node:
        if isinstance(self.node, Path):
            return Node.of(read_profile(self.node))
        if self.node == "aim":
            return AIM
        if self.node == "upmem":
            return Node.of(device("v1A"))
        raise UsageError(
            "pim-cluster-node", f"no node {self.node!r}", next_step="use upmem, aim or a .toml"
        )


def compare(question: ClusterQuestion) -> list[dict[str, Any]]:
    """Rows for each context: the best pipeline, the static baseline, GPUs."""
    node = question.pim_node()
    rows = []
    for context in question.contexts:
        for name, split, allocation in (
            ("PIM, token-parallel, dynamic", "tokens", "dynamic"),
            ("PIM, token-parallel, static memory", "tokens", "static"),
            ("PIM, head-first, static", "heads", "static"),
        ):
            rows.append(best_pipeline(question, node, context, name, split, allocation))
        rows.append(gpu_row(question, context))
    return rows


def best_pipeline(
    question: ClusterQuestion, node: Node, context: int, name: str, split: str, allocation: str
) -> dict[str, Any]:
    """The number of stages with most tokens a second."""
    found: list[tuple[float, Cluster, Served]] = []
    reason: QccError | None = None
    for stages in pipelines(question):
        cluster = Cluster(
            question.shape, node, stages, question.nodes // stages, question.weight_bits,
            question.kv_bits, linear_cost(node.device, question.weight_bits), split, allocation,
        )  # fmt: skip
        try:
            _fits_units(cluster, context)
            served = serve(cluster_system(cluster, context), context, question.requests)
            found.append((served.tokens_per_second, cluster, served))
        except ResourceError as error:
            reason = error
    if not found:
        return {"context": context, "system": name, "note": str(reason.what if reason else "")}
    _, cluster, served = max(found, key=lambda each: each[0])
    filled = cluster.weight_bytes + served.cache_used * cluster.cache_room
    return row(context, name, cluster.stages, served, filled / cluster.ways)


def pipelines(question: ClusterQuestion) -> Iterator[int]:
    for stages in range(1, min(question.nodes, question.shape.layers) + 1):
        if question.nodes % stages == 0:
            yield stages


def cluster_system(cluster: Cluster, context: int) -> System:
    exact = replace(cluster, allocation="dynamic")
    return System(
        cluster.cache_room, lambda tokens: cluster.reserved(tokens, context),
        lambda tokens: exact.reserved(tokens, context), cluster.step_ms,
    )  # fmt: skip


def _fits_units(cluster: Cluster, context: int) -> None:
    """Head-first placement keeps a request's head in one unit, whose memory is its own."""
    if cluster.split == "tokens":
        return
    head = cluster.shape.kv_bytes(cluster.kv_bits) // cluster.shape.kv_heads
    room = cluster.cache_room // cluster.units
    need = context * head * cluster.layers
    if need > room:
        raise ResourceError(
            "pim-cluster-context",
            f"one head of {context} tokens needs {need} bytes of a unit that has {room}",
        )


def gpu_row(question: ClusterQuestion, context: int) -> dict[str, Any]:
    """GPUs with memory in pages; as many as hold weights and one of the longest requests."""
    shape, gpu = question.shape, question.gpu
    per_token = shape.layers * shape.kv_bytes(question.kv_bits)
    weights = shape.parameters * question.weight_bits // 8
    number = question.gpus or ceil((weights + context * per_token) / (0.9 * gpu.capacity))
    name = f"{number} x {gpu.name}"
    room = int(0.9 * gpu.capacity * number) - weights
    if room <= 0:
        return {"context": context, "system": name, "note": "weights leave no room"}

    def step(contexts: list[int]) -> float:
        return gpu_step_ms(shape, gpu, number, question.weight_bits, question.kv_bits, contexts)

    def held(tokens: int) -> int:
        return tokens * per_token

    try:
        served = serve(System(room, held, held, step), context, question.requests)
    except ResourceError as error:
        return {"context": context, "system": name, "note": error.what}
    return row(context, name, 1, served, (weights + served.cache_used * room) / number)


def row(context: int, name: str, stages: int, served: Served, memory: float) -> dict[str, Any]:
    return {
        "context": context, "system": name, "stages": stages,
        "tokens/s": round(served.tokens_per_second, 2), "ms/token": round(served.token_ms, 2),
        "batch": round(served.batch, 1), "GiB/node": round(memory / GIB, 1), "note": "",
    }  # fmt: skip


def linear_cost(target: Device | None, weight_bits: int) -> Any:
    """Milliseconds of a product on some DPUs, by the estimates that schedules are chosen with."""

    @cache
    def cost(rows: int, k: int, tokens: int, dpus: int) -> float:
        assert target is not None
        many = replace(target, ranks=max(1, dpus // target.dpus_per_rank))
        batch = 1 << max(0, tokens - 1).bit_length()
        problem = Problem(rows, k, batch, BOOKS[weight_bits], BOOKS[8])
        parts = [1 << each for each in range(batch.bit_length())]
        grids = tuple((min(many.dpus // each, rows), each, 1) for each in parts)
        space = Space(METHODS, tasklets=(16,), groups=(4, 16), words=(1, 2), grids=grids)
        return estimated_best(problem, many, space)

    return cost
