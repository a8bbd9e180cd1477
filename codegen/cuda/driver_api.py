"""Calls of the CUDA driver for one GPU; each failure names the call and what was being done."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...dialects.errors import ResourceError


class DriverApi:
    """What the driver tells of a GPU through `cuda.bindings.driver`, without a context."""

    def __init__(self, ordinal: int = 0) -> None:
        try:
            self._api: Any = import_module("cuda.bindings.driver")
        except ImportError as error:
            raise ResourceError(
                "cuda-bindings-missing",
                "the CUDA driver cannot be called",
                why=f"{error}",
                next_step="pip install 'qcc[cuda]', or load an artifact for --target cuda:emulate",
            ) from error
        self._call("cuInit", 0)
        self.ordinal = ordinal
        self._device = self._call("cuDeviceGet", ordinal)

    def _call(self, name: str, *arguments: Any, doing: str = "") -> Any:
        """The result of a driver call; raises ResourceError with what it says of its failure."""
        try:
            status, *results = getattr(self._api, name)(*arguments)
        except RuntimeError as error:  # libcuda is loaded at the first call
            raise refused(name, str(error), doing) from error
        if int(status) != 0:
            raise refused(name, self._said(status), doing)
        return results[0] if len(results) == 1 else tuple(results)

    def _said(self, status: Any) -> str:
        _, name = self._api.cuGetErrorName(status)
        _, text = self._api.cuGetErrorString(status)
        return ": ".join(part.decode() for part in (name, text) if part)

    def capability(self) -> tuple[int, int]:
        attribute = self._api.CUdevice_attribute
        names = ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR")
        major, minor = (
            self._call(
                "cuDeviceGetAttribute",
                getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}"),
                self._device,
            )
            for name in names
        )
        return major, minor

    def processors(self) -> int:
        """How many multiprocessors it has."""
        attribute = self._api.CUdevice_attribute
        count = attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        return self._call("cuDeviceGetAttribute", count, self._device)

    def name(self) -> str:
        return self._call("cuDeviceGetName", 128, self._device).decode().strip("\0")

    def identity(self) -> str:
        """The GPU's own, the same in every process."""
        return bytes(self._call("cuDeviceGetUuid", self._device).bytes).hex()


def refused(call: str, why: str, doing: str) -> ResourceError:
    return ResourceError(
        "cuda-driver",
        "the CUDA driver refuses" + (f" {doing}" if doing else ""),
        where=call,
        why=why,
        next_step="`qcc doctor` tells about GPU and driver; --emulate (in Python emulate=True) "
        "runs the kernels on the CPU",
    )
