"""What emulated DPUs refuse to do."""

from __future__ import annotations

from ...dialects.errors import QccError

NAMES = {
    1: "heap-full",
    2: "division-by-zero",
    3: "assertion",
    4: "halt",
    16: "memory",
    17: "dma",
    18: "instruction",
    19: "deadlock",
    20: "misuse",
    21: "endless",
}


class DpuFault(QccError):
    """A program did what stops a DPU, or what its hardware leaves undefined."""

    def __init__(self, code: int, program: str, tasklet: int, place: str, text: str) -> None:
        super().__init__(
            f"dpu-{NAMES.get(code, 'fault')}",
            f"DPU program '{program}': {text}",
            where=f"{place} in tasklet {tasklet}",
            next_step="this is a bug in the kernel: correct what emitted it",
        )
        self.fault, self.tasklet = NAMES.get(code, "fault"), tasklet
