"""What a launch on an emulated DPU did."""

from __future__ import annotations

from dataclasses import dataclass, field

Trace = list[tuple[str, float]]


@dataclass(frozen=True)
class Launch:
    """
    Bytes that passed between MRAM and WRAM; of the timed emulator also the instructions executed,
    the trace of each tasklet (dialects/pim/timing.py), and the seconds of a core that it took.
    """

    bytes_read: int
    bytes_written: int
    instructions: int = 0
    traces: list[Trace] = field(default_factory=list)
    seconds: float = 0.0
