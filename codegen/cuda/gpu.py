"""The GPU of this machine, if there is one, told by its driver without work on it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

EXACT = 90
"""From this compute capability on, cubins with all instructions run on exactly one machine."""


@dataclass(frozen=True)
class Gpu:
    """`identity` is the driver's, the same in every process; `number` as 90 of sm_90a."""

    name: str
    identity: str
    number: int

    @property
    def machine(self) -> str:
        """
        >>> Gpu("H200", "", 90).machine, Gpu("L4", "", 89).machine
        ('sm_90a', 'sm_89')
        """
        return f"sm_{self.number}{'a' if self.number >= EXACT else ''}"

    def runs(self, machine: str) -> bool:
        """
        Whether cubins for a machine run here.

        >>> Gpu("A10", "", 86).runs("sm_80"), Gpu("H200", "", 90).runs("sm_80")
        (True, False)
        """
        number = machine.removeprefix("sm_")
        if not number.isdigit():
            return machine == self.machine
        return int(number) // 10 == self.number // 10 and int(number) <= self.number


def find_gpu(ordinal: int = 0) -> Gpu | None:
    """None without a driver or a device; makes no context."""
    try:
        api: Any = import_module("cuda.bindings.driver")
        _called(api.cuInit(0))
        device = _called(api.cuDeviceGet(ordinal))
        name = _called(api.cuDeviceGetName(128, device)).decode().strip("\0")
        identity = bytes(_called(api.cuDeviceGetUuid(device)).bytes).hex()
        attribute = api.CUdevice_attribute
        major, minor = (
            _called(
                api.cuDeviceGetAttribute(
                    getattr(attribute, f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{which}"), device
                )
            )
            for which in ("MAJOR", "MINOR")
        )
    except (ImportError, RuntimeError):
        return None
    return Gpu(name, identity, 10 * major + minor)


def _called(answer: Any) -> Any:
    """The result of a driver call; RuntimeError where it fails."""
    status, *results = answer
    if int(status) != 0:
        raise RuntimeError(str(status))
    return results[0] if results else None
