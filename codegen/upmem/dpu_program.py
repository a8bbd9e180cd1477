"""One DPU program: its C, how many tasklets run it, and the memories that it has to fit into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memories:
    """What a program may fill; the values of profile v1A."""

    wram_bytes: int = 65536
    mram_bytes: int = 64 << 20
    iram_instructions: int = 4096


@dataclass(frozen=True)
class DpuProgram:
    """C of a kernel for all tasklets of a DPU; `name` is that of its file."""

    name: str
    source: str
    tasklets: int = 16
    stack_bytes: int = 1024  # of each tasklet
    optimisation: str = "-O2"
    defines: tuple[str, ...] = ()
    memories: Memories = Memories()

    @property
    def definitions(self) -> tuple[str, ...]:
        return (
            f"-DNR_TASKLETS={self.tasklets}",
            f"-DSTACK_SIZE_DEFAULT={self.stack_bytes}",
            *(f"-D{item}" for item in self.defines),
        )
