"""Which functions go to DPUs: what users name, and what it stands for."""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects.errors import UsageError
from ..dialects.pim.device import Device
from ..dialects.pim.smooth import SMOOTH

NORMS = ("layer_norm", "rms_norm")
ALL = (*SMOOTH, "softmax", *NORMS)
GROUPS = {
    "gelu": ("gelu", "gelu_tanh", "quick_gelu"), "norm": NORMS, "all": ALL,
} | {name: (name,) for name in ALL if name != "gelu"}  # fmt: skip
"""What users name, and the functions that it stands for."""
AUTO = "auto"


@dataclass(frozen=True)
class FunctionPlacement:
    """
    `functions` are of GROUPS, or AUTO; `tokens` and `step_tokens` are those of PimPartition.

    Softmax of an open number of columns has kernels for `tokens` of them.
    """

    device: Device
    functions: tuple[str, ...]
    tokens: int = 128
    step_tokens: int = 1

    def __post_init__(self) -> None:
        for name in self.functions:
            if name not in GROUPS and name != AUTO:
                raise UsageError(
                    "pim-function", f"{name!r} is no function that DPUs compute",
                    next_step=f"use some of {', '.join(GROUPS)}, or {AUTO}",
                )  # fmt: skip

    @property
    def forced(self) -> set[str]:
        """Functions that go whatever they cost."""
        return {each for name in self.functions if name != AUTO for each in GROUPS[name]}

    @property
    def wanted(self) -> set[str]:
        return set(ALL) if AUTO in self.functions else self.forced
