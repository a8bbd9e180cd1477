"""What a thread of each kernel holds in registers, counted from its schedule."""

from __future__ import annotations

from .attention_problem import AttentionProblem, AttentionSchedule
from .conv_problem import ConvProblem
from .conv_schedule import ConvSchedule
from .hardware import Machine
from .matmul_problem import MatmulProblem, MatmulSchedule
from .problem import LinearProblem
from .register_model import Terms, most_registers
from .schedule import CONSUMER_REGISTERS, STREAMING_BLOCKS, Schedule, registers

UNIT, PACKET = 16, 64
"""Rows, columns and depth that matrix instructions go along; columns of a packet of codes."""


def linear_terms(problem: LinearProblem, schedule: Schedule, device: Machine) -> Terms:
    """
    `sums` and, of groups, `group_sums`; codes of strips that are under way (`packets`, `codes`) and
    what decodes them (`decoded`, `steps`); `columns` of activations; `unrolled` packets of a step.

    Warp groups say themselves how many registers they want, and take all of them. Sums in tensor
    memory leave what the verifier counts (schedule.py).
    """
    s, p, program = schedule, problem, problem.program
    if s.record.of_warp_group:
        most = min(CONSUMER_REGISTERS, most_registers(device, s.threads))
        return Terms("linear, warp groups", {"asked for": most}, most)
    if s.record.in_tensor_memory:
        return Terms(
            "linear, tensor memory", {"asked for": registers(p, s)}, device.registers_per_thread
        )
    sums = 4 * s.strips * s.columns
    grouped = (1 + p.format.splits_signs) * (p.group is not None and not p.blocks)
    counts: dict[str, float] = {
        "sums": sums,
        "group_sums": sums * grouped,
        "decoded": s.strips * program.registers,
        "steps": len(program.steps),
        "columns": s.columns,
        "unrolled": s.strips * s.depth / PACKET / s.warps_k,
    }
    if s.streams:
        counts["packets"] = s.stages * s.strips * p.format.bits
        return Terms("linear, streams", counts, most_registers(device, s.threads, STREAMING_BLOCKS))
    counts["codes"] = s.strips * p.format.bits
    return Terms("linear", counts, most_registers(device, s.threads, max(1, s.persistent)))


def conv_terms(problem: ConvProblem, schedule: ConvSchedule, device: Machine) -> Terms:
    """`sums`, `group_sums`, operands of a step of k (`pixels`, `outputs`), addresses."""
    s, p = schedule, problem
    sums = s.pixels * s.outputs / 32
    counts = {
        "sums": sums,
        "group_sums": sums * (p.group is not None),
        "pixels": s.pixels / UNIT,
        "outputs": s.outputs / UNIT,
        "depth": s.depth / PACKET,
        "gathered": float(not s.width),
        "packs": float(s.packs),
        "steps": len(p.program.steps),
    }
    kind = "conv2d, warp groups" if s.warp_groups else "conv2d"
    return Terms(kind, counts, most_registers(device, 32 * s.warps))


def attention_terms(
    problem: AttentionProblem, schedule: AttentionSchedule, device: Machine
) -> Terms:
    """Sums of values (`sums`) and of `scores`, `queries` as operands, what decodes packets."""
    s, p = schedule, problem
    strips = s.rows / UNIT
    packed = [rows for rows in (p.keys, p.values) if rows.format is not None]
    counts = {
        "sums": strips * p.value_columns / 2,
        "scores": strips * s.keys / 2,
        "queries": strips * p.keys.depth / 4,
        "packed": float(len(packed)),
        "shared_keys": float(s.share_keys),
    }
    kind = "attention, warp groups" if s.warp_groups else "attention"
    return Terms(kind, counts, most_registers(device, 32 * s.warps))


def matmul_terms(problem: MatmulProblem, schedule: MatmulSchedule, device: Machine) -> Terms:
    """`sums`, and operands of 16 columns of k (`left`, `right`)."""
    s = schedule
    counts = {
        "sums": s.warp_rows * s.columns / 32,
        "left": s.strips,
        "right": s.columns / UNIT,
        "depth": s.depth / UNIT,
    }
    return Terms("matmul", counts, most_registers(device, 32 * s.warps))
