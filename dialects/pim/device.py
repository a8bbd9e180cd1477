"""
UPMEM devices: what a DPU holds, what its instructions and transfers cost, and profiles in TOML.

Figures and sources are those of spec pim.md §2; where one is not verified, the field says so. A
user's own machine is a TOML file: `base` names a built-in device, all other keys replace its
fields, for example

    base = "v1A"
    ranks = 20
    [host]
    to_dpu_limit = 12.0
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from ..errors import UsageError

DMA_UNIT = 8
DMA_MOST = 2048
LEAST_STACK = 256
ADDRESSES = {"wram": 1 << 16, "mram": 1 << 26, "iram": 4096, "ranks": 1 << 12}
"""The most that addresses of a DPU reach, in bytes and instructions, and ranks of a system."""
LIMITS = ("wram", "iram", "most_tasklets", "mram", "ranks", "dpus_per_rank", "stack", "runtime")
"""What a program for one device may break on another."""


@dataclass(frozen=True, slots=True)
class Dma:
    """
    Cycles of the engine between MRAM and WRAM (§2.5, §2.6).

    A request of B bytes keeps the engine busy for `setup + per_byte * B`; its tasklet resumes
    `read_latency` or `write_latency` + `latency_per_byte` * B after its start, never before the
    engine is free. `issue` are the slots that the tasklet spends on asking.
    """

    setup: float = 33.6
    per_byte: float = 0.5624
    read_latency: float = 77.0
    write_latency: float = 61.0
    latency_per_byte: float = 0.5
    issue: int = 3

    def busy(self, size: int) -> float:
        """
        Engine cycles of `size` bytes, in requests of at most 2048.

        >>> round(Dma().busy(64), 1), round(Dma().busy(4096), 1)
        (69.6, 2370.8)
        """
        return ceil(size / DMA_MOST) * self.setup + self.per_byte * size


@dataclass(frozen=True, slots=True)
class Host:
    """
    Transfers between host and DPUs: GB/s of one rank by its active DPUs, and what a system of many
    ranks reaches (§2.7; the limits are PIM-DL's lines for 1,024 DPUs). Expect ±30 %.
    """

    active: tuple[int, ...] = (1, 4, 16, 64)
    to_dpu: tuple[float, ...] = (0.57, 1.64, 2.71, 4.86)
    from_dpu: tuple[float, ...] = (0.11, 0.42, 0.77, 1.84)
    to_dpu_limit: float = 20.0
    from_dpu_limit: float = 4.7
    broadcast_limit: float = 16.9
    setup_ms: float = 0.1
    launch_ms: float = 0.2
    functions_per_us: float = 2000.0

    def milliseconds(self, numbers: int) -> float:
        """The host's own time for a function of so many numbers, norms and softmax too: a guess."""
        return numbers / self.functions_per_us / 1e3


@dataclass(frozen=True, slots=True)
class Power:
    """
    Watts while a system runs; none of these is verified (UPMEM's 23.2 W for a DIMM of 128 DPUs,
    the 85 W of a Xeon Gold 5215's data sheet), so energies compare plans, and are no measurement.
    """

    dpu_watts: float = 0.181
    host_watts: float = 85.0


@dataclass(frozen=True, slots=True)
class Device:
    """
    One kind of DPU and a system of them.

    `base` is the built-in device that a profile replaced fields of, empty for one of those.
    `factor` scales issue slots to hardware (§3: register stalls and moves), `interval` is the
    cycles between two instructions of one tasklet, `stack` the bytes of each tasklet, `runtime`
    the WRAM that the vendor's runtime keeps.
    """

    name: str
    clock_mhz: float
    wram: int
    iram: int
    most_tasklets: int
    mram: int = 64 << 20
    ranks: int = 32
    dpus_per_rank: int = 64
    stack: int = 1024
    runtime: int = 656
    interval: int = 11
    factor: float = 1.125
    dma: Dma = field(default_factory=Dma)
    host: Host = field(default_factory=Host)
    power: Power = field(default_factory=Power)
    base: str = ""

    @property
    def spelling(self) -> str:
        """
        How kernels in the IR name the device: its base and the limits that are other ones, so that
        the verifier of another process knows them.

        >>> from dataclasses import replace
        >>> mine = replace(device("v1B"), name="mine", base="v1B", wram=32768)
        >>> mine.spelling, device(mine.spelling).wram, device("v1A").spelling
        ('v1B<wram=32768>', 32768, 'v1A')
        """
        if not self.base:
            return self.name
        other = [
            f"{name}={getattr(self, name)}"
            for name in LIMITS
            if getattr(self, name) != getattr(DEVICES[self.base], name)
        ]
        return self.base + (f"<{','.join(other)}>" if other else "")

    @property
    def dpus(self) -> int:
        return self.ranks * self.dpus_per_rank

    def buffer_bytes(self, tasklets: int, stack: int | None = None) -> int:
        """
        WRAM left for the buffers of a kernel.

        >>> device("v1A").buffer_bytes(16)
        48496
        """
        return self.wram - self.runtime - tasklets * (self.stack if stack is None else stack)

    def milliseconds(self, cycles: float) -> float:
        return cycles / (self.clock_mhz * 1e3)


DEVICES: dict[str, Device] = {
    each.name: each
    for each in (
        Device("v1A", 350.0, wram=65536, iram=4096, most_tasklets=24),
        Device("v1B", 400.0, wram=63488, iram=3968, most_tasklets=16),
    )
}


def device(spelling: str) -> Device:
    """The device of a name, or of a spelling with limits; UsageError for any other text."""
    name, _, limits = spelling.removesuffix(">").partition("<")
    if name not in DEVICES:
        raise UsageError(
            "pim-device-unknown",
            f"no UPMEM device {name!r}",
            next_step=f"use {' or '.join(DEVICES)}, or a profile file",
        )
    if not limits:
        return DEVICES[name]
    given: dict[str, Any] = {"name": spelling, "base": name}
    for each in limits.split(","):
        key, _, value = each.partition("=")
        if key not in LIMITS or not value.isdecimal():
            raise UsageError(
                "pim-device-unknown", f"no limit {each!r} of a device",
                next_step=f"a limit is one of {', '.join(LIMITS)} and a number",
            )  # fmt: skip
        given[key] = int(value)
    return replace(DEVICES[name], **given)
