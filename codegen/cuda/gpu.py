"""The GPU of this machine, if there is one, told by its driver without work on it."""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects.errors import ResourceError
from .driver_api import DriverApi

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
        api = DriverApi(ordinal)
        major, minor = api.capability()
        return Gpu(api.name(), api.identity(), 10 * major + minor)
    except ResourceError:
        return None
