"""
What a launch costs on paper: numbers of its work, and the roofline of these on a machine.

Nothing is built: the numbers follow from a schedule, and the rates are those of the usual product
with each machine, by its data sheet. So they rank schedules; no GPU has confirmed the seconds. What
ptxas says of a kernel that was built can take the place of predicted registers and spills.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np

from .fragments import INSTRUCTIONS
from .hardware import BANDWIDTH, HALVES, MULTIPROCESSORS, Machine, is_native
from .layout import bank_conflicts
from .register_model import Resources

ESTIMATE = "estimated_s"
OF_SINGLE_WARPS = 0.5
"""Of the rate on halves, about, where groups of warps multiply faster (spec cuda.md §4.1)."""
ALU, DECODE_SLOTS = 64 * 1.5e9, 2.0
"""Integer operations of a multiprocessor a second, and those that decode a weight, about."""
GROUPED = "wgmma.f16"
LAUNCH, LATENCY = 3e-6, 0.7e-6
"""Seconds that a launch takes, and a load from DRAM."""
SPILL_SECONDS = 1e-8
"""What a spilled byte of a thread costs; spilling kernels are rarely good."""
PIECE, ROWS_AT_ONCE = 16, 8
"""Bytes of a row that a lane loads for a matrix instruction, and the rows that are read at once."""
WARP, COPIED = 32, 32 * 16
"""Lanes, and the bytes that they copy or load with one instruction."""


@dataclass(frozen=True)
class Work:
    """
    Of one launch: `threads` and `shared` bytes of a block and the `resources` of a thread, how many
    `blocks`; bytes from DRAM (`dram`), asked of L2 (`l2`) and through shared memory (`staged`);
    `decoded` codes; `products` by `instruction`; `steps` of a block's pipeline of `stages`.

    `conflicts` are the turns in which eight rows of a shared tile are read; `slots` further
    operations of the integer and fp32 units; `launches` all that follow one another.
    """

    instruction: str
    threads: int
    resources: Resources
    shared: int
    blocks: int
    dram: float
    l2: float
    staged: float
    decoded: float
    products: float
    steps: float
    stages: int
    conflicts: int = 1
    slots: float = 0.0
    launches: int = 1


@dataclass(frozen=True)
class Estimate:
    """
    Of a launch; each is a number of a config, so [count] for a space's columns of [count].

    | number | of | unit |
    |---|---|---|
    | `registers` | a thread, predicted, or those that ptxas told | count |
    | `spills` | a thread, stored and loaded for want of them, likewise | bytes |
    | `shared` | a block | bytes |
    | `occupancy` | warps that a multiprocessor has at once over the most it can have | ratio |
    | `blocks` | all | count |
    | `waves` | blocks over those that run at once | ratio |
    | `dram` | read and written once | bytes |
    | `l2` | asked for by all blocks | bytes |
    | `staged` | through shared memory, written and read | bytes |
    | `conflicts` | turns in which banks give eight rows of a tile, 1 without conflicts | count |
    | `decoded` | weights that are decoded, as often as blocks do, 1 more | count |
    | `products` | multiplied and added, padding included | count |
    | `intensity` | products a byte of L2 | ratio |
    | `matrix` | a warp's instructions that multiply 16 x 8 x k, of all three | ratio |
    | `arithmetic` | those of its integer and fp32 units, likewise | ratio |
    | `copies` | those that bring or load 16 bytes a lane, likewise | ratio |
    | `estimated_s` | a launch | s |
    """

    registers: int
    spills: int
    shared: int
    occupancy: float
    blocks: int
    waves: float
    dram: float
    l2: float
    staged: float
    conflicts: int
    decoded: float
    products: float
    intensity: float
    matrix: float
    arithmetic: float
    copies: float
    estimated_s: float


def estimated(work: Work, device: Machine) -> Estimate:
    """
    What work costs on a machine: the slowest of its parts, as the multiprocessors with the most
    blocks have them, and of the latencies of a block's steps in all waves.
    """
    w, processors = work, MULTIPROCESSORS[device.name]
    used = min(w.resources.registers, device.registers_per_thread)
    resident = _resident(w, used, device)
    waves = w.blocks / (resident * processors)
    each = w.blocks / processors
    tail = ceil(each) / each
    slots = DECODE_SLOTS * w.decoded + w.slots
    record = INSTRUCTIONS[w.instruction]
    rate = HALVES[device.name] * 16 / record.operand_bits
    if record.m == 16 and is_native(device.name, GROUPED):
        rate *= OF_SINGLE_WARPS
    times = (
        w.dram / BANDWIDTH[device.name] / min(1.0, each) ** 0.5,
        w.l2 / (4 * BANDWIDTH[device.name]) * tail,
        2 * w.products / rate * tail,
        slots / (ALU * processors) * tail,
    )
    fill = LATENCY * (1 + w.steps / w.stages) * ceil(waves)
    seconds = LAUNCH * w.launches + max(*times, fill)
    seconds += SPILL_SECONDS * w.resources.spills
    occupancy = resident * w.threads / device.threads_per_processor
    return Estimate(
        used, w.resources.spills, w.shared, occupancy, w.blocks, waves, w.dram, w.l2, w.staged,
        w.conflicts, w.decoded, w.products, w.products / w.l2, *_mix(w, slots), seconds,
    )  # fmt: skip


def _resident(work: Work, used: int, device: Machine) -> int:
    """Blocks of a multiprocessor at once, at least one of a legal schedule."""
    by_registers = device.registers_per_processor // (used * work.threads)
    by_shared = device.shared_per_processor // (work.shared + device.shared_reserved)
    by_threads = device.threads_per_processor // work.threads
    return max(1, min(by_registers, by_shared, by_threads, device.blocks_per_processor))


def _mix(work: Work, slots: float) -> tuple[float, float, float]:
    """
    Shares of matrix instructions, of arithmetic, and of copies and loads; larger matrix
    instructions count as the 16 x 8 x k that they do the work of.
    """
    matrix = work.products / (16 * 8 * INSTRUCTIONS[work.instruction].k)
    arithmetic = slots / WARP
    copies = (work.l2 + work.staged) / COPIED
    total = matrix + arithmetic + copies
    return matrix / total, arithmetic / total, copies / total


@cache
def row_turns(pitch: int) -> int:
    """
    In how many turns eight rows of a matrix are read that lie `pitch` bytes apart.

    >>> row_turns(128), row_turns(128 + 16), row_turns(2 * (64 + 16))
    (8, 1, 2)
    """
    return bank_conflicts(pitch * np.arange(ROWS_AT_ONCE), PIECE)
