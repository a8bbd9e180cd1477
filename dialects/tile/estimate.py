"""
What a launch costs on paper: numbers of its work, and the roofline of these on a machine.

Nothing is built: the numbers follow from a schedule, and the rates are those of the usual product
with each machine, by its data sheet. So they rank schedules; no GPU has confirmed the seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from .default_schedule import MULTIPROCESSORS
from .fragments import INSTRUCTIONS
from .hardware import Machine, is_native

ESTIMATE = "estimated_s"
BANDWIDTH = {
    "sm_80": 2.0e12, "sm_86": 0.7e12, "sm_89": 1.0e12, "sm_90a": 3.35e12, "sm_100a": 8.0e12,
    "sm_120a": 1.8e12,
}  # fmt: skip
"""Bytes a second of DRAM."""
HALVES = {
    "sm_80": 312e12, "sm_86": 150e12, "sm_89": 165e12, "sm_90a": 990e12, "sm_100a": 2250e12,
    "sm_120a": 210e12,
}  # fmt: skip
"""Operations a second on halves with fp32 sums, likewise; on bytes it is twice as many."""
OF_SINGLE_WARPS = 0.5
"""Of that rate, about, where groups of warps multiply faster (spec cuda.md §4.1)."""
ALU, DECODE_SLOTS = 64 * 1.5e9, 2.0
"""Integer operations of a multiprocessor a second, and those that decode a weight, about."""
GROUPED = "wgmma.f16"
LAUNCH, LATENCY = 3e-6, 0.7e-6
"""Seconds that a launch takes, and a load from DRAM."""


@dataclass(frozen=True)
class Work:
    """
    Of one launch: `threads`, `registers` of a thread and `shared` bytes of a block, how many
    `blocks`; bytes from DRAM (`dram`), asked of L2 (`l2`) and through shared memory (`staged`);
    `decoded` codes; `products` by `instruction`; `steps` of a block's pipeline of `stages`.

    `slots` are further operations of the integer and fp32 units, `launches` all that follow one
    another.
    """

    instruction: str
    threads: int
    registers: int
    shared: int
    blocks: int
    dram: float
    l2: float
    staged: float
    decoded: float
    products: float
    steps: float
    stages: int
    slots: float = 0.0
    launches: int = 1


@dataclass(frozen=True)
class Estimate:
    """
    | number | of | unit |
    |---|---|---|
    | `registers` | a thread, estimated | count |
    | `shared` | a block | bytes |
    | `warps` | a multiprocessor at once | count |
    | `blocks` | all | count |
    | `waves` | blocks over those that run at once | ratio |
    | `dram` | read and written once | bytes |
    | `l2` | asked for by all blocks | bytes |
    | `staged` | through shared memory, written and read | bytes |
    | `decoded` | weights that are decoded, as often as blocks do, 1 more | count |
    | `products` | multiplied and added, padding included | count |
    | `intensity` | products a byte of L2 | ratio |
    | `estimated_s` | a launch | s |
    """

    registers: int
    shared: int
    warps: int
    blocks: int
    waves: float
    dram: float
    l2: float
    staged: float
    decoded: float
    products: float
    intensity: float
    estimated_s: float


def estimated(work: Work, device: Machine) -> Estimate:
    """What work costs on a machine."""
    w, processors = work, MULTIPROCESSORS[device.name]
    used = min(w.registers, device.registers_per_thread)
    resident = _resident(w, used, device)
    waves = w.blocks / (resident * processors)
    tail = ceil(waves) / waves
    slots = DECODE_SLOTS * w.decoded + w.slots
    record = INSTRUCTIONS[w.instruction]
    rate = HALVES[device.name] * 16 / record.operand_bits
    if record.m == 16 and is_native(device.name, GROUPED):
        rate *= OF_SINGLE_WARPS
    times = (
        w.dram / BANDWIDTH[device.name],
        w.l2 / (4 * BANDWIDTH[device.name]) * tail,
        2 * w.products / rate * tail,
        slots / (ALU * processors) * tail,
    )
    at_work = min(1.0, w.blocks / processors)
    fill = LATENCY * (1 + w.steps / w.stages) * ceil(waves)
    seconds = LAUNCH * w.launches + max(max(times) / at_work**0.5, fill)
    return Estimate(
        used, w.shared, resident * w.threads // 32, w.blocks, waves, w.dram, w.l2, w.staged,
        w.decoded, w.products, w.products / w.l2, seconds,
    )  # fmt: skip


def _resident(work: Work, used: int, device: Machine) -> int:
    """Blocks of a multiprocessor at once, at least one of a legal schedule."""
    by_registers = device.registers_per_processor // (used * work.threads)
    by_shared = device.shared_per_processor // (work.shared + device.shared_reserved)
    by_threads = device.threads_per_processor // work.threads
    return max(1, min(by_registers, by_shared, by_threads, device.blocks_per_processor))
