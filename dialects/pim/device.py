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

import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from ..errors import UsageError

DMA_UNIT = 8
DMA_MOST = 2048


ADDRESSES = {"wram": 1 << 16, "mram": 1 << 26, "iram": 4096, "ranks": 1 << 12}
"""The most that addresses of a DPU reach, in bytes and instructions, and ranks of a system."""
LEAST_STACK = 256
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


def read_profile(path: Path) -> Device:
    """The device in a TOML file; UsageError naming the key, or the value, that cannot be."""
    try:
        given = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError("pim-profile-unreadable", f"{path}: {error}") from error
    base = device(str(given.pop("base", "v1A")))
    made = _replaced(base, {"name": path.stem, "base": base.name} | given, str(path))
    _check(made, str(path))
    return made


def _replaced(record: Any, given: dict[str, Any], where: str) -> Any:
    """A record with some fields replaced, nested ones by tables of the same name."""
    known = {each.name: getattr(record, each.name) for each in fields(record)}
    made: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                "pim-profile-key", f"a device has no {key!r}", where=where,
                next_step=f"it has {', '.join(known)}",
            )  # fmt: skip
        made[key] = _typed(key, known[key], value, where)
    return replace(record, **made)


def _typed(key: str, old: Any, value: Any, where: str) -> Any:
    if is_dataclass(old) and isinstance(value, dict):
        return _replaced(old, value, f"{where} [{key}]")
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(_typed(key, old[0], each, where) for each in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(old, float) and number:
        return float(value)
    if type(value) is not type(old):
        raise UsageError(
            "pim-profile-type", f"{key} = {value!r} is no {type(old).__name__}", where=where
        )
    return value


def _check(made: Device, where: str) -> None:
    for key, value in _numbers(asdict(made)):
        may_be_0 = key in ("setup_ms", "launch_ms", "runtime")
        if not isfinite(value) or value < 0 or (value == 0 and not may_be_0):
            bound = "0 or a positive" if may_be_0 else "a positive"
            raise _bad_value(f"{key} = {value}", f"it must be {bound} number", where)
    for key, most in ADDRESSES.items():
        if getattr(made, key) > most:
            raise _bad_value(f"{key} = {getattr(made, key)}", f"there can be {most} at most", where)
    reasons = list(_contradictions(made))
    if reasons:
        raise _bad_value(f"the profile {made.name} is no DPU", reasons[0], where)


def _contradictions(made: Device) -> Iterator[str]:
    host = made.host
    if not len(host.active) == len(host.to_dpu) == len(host.from_dpu):
        yield "active, to_dpu and from_dpu must be of one length"
    if list(host.active) != sorted(set(host.active)):
        yield "active must ascend"
    if made.wram % DMA_UNIT or made.mram % DMA_UNIT or made.stack % DMA_UNIT:
        yield "wram, mram and stack must be multiples of 8"
    if made.stack < LEAST_STACK:
        yield f"a stack of {made.stack} bytes is too small; take {LEAST_STACK} or more"
    if made.buffer_bytes(1) <= 0:
        yield f"a WRAM of {made.wram} holds no runtime and stack"
    if made.most_tasklets > 24:
        yield f"{made.most_tasklets} tasklets are more than the 24 of any DPU"


def _bad_value(what: str, why: str, where: str) -> UsageError:
    return UsageError("pim-profile-value", what, where=where, why=why,
                      next_step="correct the profile, or leave the key out")  # fmt: skip


def _numbers(record: dict[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value)
        elif isinstance(value, tuple):
            found += [(key, each) for each in value]
        elif not isinstance(value, str):
            found.append((key, value))
    return found
