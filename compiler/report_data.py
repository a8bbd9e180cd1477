"""
`report.json`: what compiling did to each layer.

Timings are no part of the stored file, as two builds must give the same bytes; the report that
`qcc compile` returns has them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..dialects.errors import IntegrityError


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """
    A layer; a format is None where the model's own precision was kept.

    `view_sqnr_db` is by precision, for those in which the layer is read otherwise.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    weights: str | None = None
    activations: str | None = None
    keys: str | None = None
    values: str | None = None
    rule: str
    reason: str = ""
    bytes_before: int
    bytes_after: int
    sqnr_db: float | None = None
    view_sqnr_db: dict[str, float | None] = {}


class OutputError(msgspec.Struct, frozen=True, kw_only=True):
    """How far compiled code is from the reference interpreter on the golden inputs."""

    name: str = ""
    precision: str = ""
    max_abs_error: float | None = None
    max_rel_error: float | None = None


class Unchecked(msgspec.Struct, frozen=True, kw_only=True):
    """Why a precision has no golden outputs."""

    precision: str
    reason: str
    next_step: str = ""


class Golden(msgspec.Struct, frozen=True):
    outputs: tuple[OutputError, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the model computes token by token; if not, why, and whether it is a decoder."""

    available: bool
    decoder: bool = True
    reason: str = ""
    next_step: str = ""


class CachedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """The KV cache of an attention layer: formats of its rows (None: fp32), bytes of a token."""

    name: str
    keys: str | None = None
    values: str | None = None
    token_bytes: int
    reason: str = ""


class KvCache(msgspec.Struct, frozen=True, kw_only=True):
    """The KV caches of all layers: bytes of a token of one sequence, and what fp32 would take."""

    token_bytes: int
    token_bytes_fp32: int
    layers: tuple[CachedLayer, ...]


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What calibration saw of one rounded operand, and the `range` it was given."""

    range: tuple[float, float]
    least: float
    most: float
    count: int
    mean: float
    second_moment: float


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """Where static ranges come from; `layers` has an entry for each operand that is rounded."""

    source: str
    label: str
    samples: int
    fit_for_accuracy: bool
    layers: dict[str, tuple[Statistics, ...]]


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """
    A kernel for a GPU; `launches` counts those of a call, `shared_bytes` the dynamic ones.

    What the toolchain tells is None without one: registers of a thread and bytes it spills, static
    shared bytes of a block, SASS instructions, those that multiply matrices and those that copy.
    """

    precision: str
    kernel: str
    family: str
    launches: int
    threads: int
    shared_bytes: int
    registers: int | None = None
    spill_bytes: int | None = None
    static_shared_bytes: int | None = None
    instructions: int | None = None
    matrix: dict[str, int] = {}
    copies: dict[str, int] = {}
    warnings: tuple[str, ...] = ()


class Cuda(msgspec.Struct, frozen=True, kw_only=True):
    """The kernels of a program for a GPU; `note` says why there are no binaries."""

    machine: str
    toolchain: str | None = None
    kernels: tuple[Kernel, ...] = ()
    note: str = ""


class PimLayer(msgspec.Struct, frozen=True, kw_only=True):
    """
    A layer on DPUs: how it is computed, and what a call of it takes by the cycle model.

    A kernel is `for_tokens`; more take more launches. `p` codes are looked up at once in tables
    that are "resident", "stream", or "made" for each group. Bytes are those of all DPUs, of tables
    those of one. Sums of every `group` inputs stay apart, 0: of none. `trusted` says whether the
    cycle model was held against such kernels.
    """

    layer: str
    kernel: str
    for_tokens: int
    method: str
    p: int
    residency: str
    dpus: int
    rows: int
    tokens: int
    kernel_ms: float
    launch_ms: float
    to_dpu_ms: float
    from_dpu_ms: float
    dma_bytes: int
    lut_bytes: int
    weight_bytes: int
    joules: float
    trusted: bool
    group: int = 0


class HostOp(msgspec.Struct, frozen=True, kw_only=True):
    """What stayed on the host, and why."""

    op: str
    reason: str


class Upmem(msgspec.Struct, frozen=True, kw_only=True):
    """
    A program for DPUs: `load_ms` brings tables and weights once, `milliseconds` is what all
    layers on DPUs take in a call, `step_milliseconds` in a step of one token.
    """

    device: str
    emulator: str
    dpus: int
    load_ms: float
    milliseconds: float
    layers: tuple[PimLayer, ...]
    step_milliseconds: float | None = None
    host: tuple[HostOp, ...] = ()


class ScheduledLayer(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule of a layer's kernel: out of a database, or the default for a reason."""

    layer: str
    schedule: dict[str, int | str]
    source: str
    reason: str = ""


class Schedules(msgspec.Struct, frozen=True, kw_only=True):
    """The layers that have schedules, where a tuning database was asked."""

    database: str
    layers: tuple[ScheduledLayer, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes are of weights; `coverage` is the quantized fraction of `bytes_before`."""

    model: str
    target: str
    recipe: dict[str, Any]
    layers: tuple[Layer, ...]
    coverage: float
    bytes_before: int
    bytes_after: int
    timings: dict[str, float] = {}
    golden: Golden | None = None
    kv_cache: KvCache | None = None
    generation: Generation | None = None
    calibration: Calibrated | None = None
    cuda: Cuda | None = None
    upmem: Upmem | None = None
    schedules: Schedules | None = None
    warnings: tuple[str, ...] = ()


def decode_report(data: bytes, where: str) -> Report:
    """Raises IntegrityError for anything but a report."""
    try:
        return msgspec.json.decode(data, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            "artifact-report",
            "report.json is not a report",
            where=where,
            why=str(error),
            next_step="compile the model again",
        ) from error
