"""
The targets that `qcc compile --target` takes: a name and what it produces.

    cpu                     this processor
    cuda:sm_90a             kernels and cubins for a machine
    cuda:emulate            kernels of sm_80, run by the emulator on the CPU
    cuda:emulate:sm_90a     those of another machine
    upmem                   C for DPUs and their host, run by an emulator that needs gcc only
    upmem:rv32              the same, run by the timed emulator of 32-bit DPUs
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects.errors import UnsupportedError, UsageError

CUDA_MACHINES = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
EMULATED_MACHINE = "sm_80"
EMULATE = "cuda:emulate"

TARGETS = {
    "cpu": "x86-64 object code through LLVM, multi-threaded, weights decoded inside the kernels",
    **{
        f"cuda:{machine}": f"CUDA C++ kernels for tensor cores, launch plan, cubins for {machine}"
        for machine in CUDA_MACHINES
    },
    EMULATE: "the same kernels, run on the CPU by the emulator; cuda:emulate:sm_90a names another "
    f"machine than {EMULATED_MACHINE}",
    "upmem": "C for UPMEM's DPUs and their host, transfer plan; run by an emulator, checked by gcc",
    "upmem:rv32": "the same, run by the emulator of 32-bit DPUs; needs clang",
}

UPMEM_RUNGS = {"upmem": "native", "upmem:rv32": "rv32"}
"""The emulator that runs the kernels of a target."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    `family` is "cpu", "cuda" or "upmem"; `machine` is that of CUDA kernels, which may be
    `emulated`, or the emulator of DPUs.
    """

    name: str
    family: str
    machine: str = ""
    emulated: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.family == "cuda" and not self.emulated


def require_target(name: str) -> Target:
    """
    The target of that name.

    Raises UnsupportedError for any that this version does not have, UsageError for no name.
    """
    if not isinstance(name, str):
        raise UsageError(
            "target-name", f"a target is a name, not {name!r}", next_step="omit it for the CPU"
        )
    if name == "cpu":
        return Target(name, "cpu")
    family, _, rest = name.partition(":")
    if family == "cuda":
        first, _, second = rest.partition(":")
        emulated = first == "emulate"
        machine = (second or EMULATED_MACHINE) if emulated else first
        if machine in CUDA_MACHINES and (emulated or not second):
            return Target(name, "cuda", machine, emulated)
        raise _unknown_machine(name, machine)
    if name in UPMEM_RUNGS:
        return Target(name, "upmem", UPMEM_RUNGS[name], emulated=True)
    raise UnsupportedError(
        "target-unknown",
        f"this version of qcc has no target '{name}'",
        next_step="use --target cpu, the default, or one that `qcc list targets` names",
    )


def _unknown_machine(name: str, machine: str) -> UnsupportedError:
    number = int("".join(filter(str.isdigit, machine)) or 0)
    older = [known for known in CUDA_MACHINES if int(known[3:].rstrip("a")) <= number]
    nearest = older[-1] if older else EMULATED_MACHINE
    said = f"it knows no machine '{machine}'" if machine else "it names no machine"
    return UnsupportedError(
        "target-machine",
        f"this version of qcc has no target '{name}'",
        why=f"{said}, only {', '.join(CUDA_MACHINES)}",
        next_step=f"use --target cuda:{nearest}, or {EMULATE} to run it on the CPU",
    )
