"""A compiled program for DPUs: the partitioned module, its plan, and the C made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ...dialects.pim.plan import Plan  # it needs MLIR, which other targets run without

Rung = Literal["native", "rv32"]


@dataclass(frozen=True)
class UpmemCode:
    """
    `module` is the text of the program: `pim.linear` for what DPUs do, all else for the host.

    `host` is that as code of this machine (codegen/cpu/program.py, which targets do not import of
    one another), and calls back for the layers of DPUs. `sources` are
    C files by name; `tensors` the stored tensors that the program reads; `rung` is the emulator
    that runs the kernels. `programs` are those of DPUs by the names that the host's C loads, where
    the vendor's compiler was found.
    """

    module: str
    plan: Plan
    host: Any
    rung: Rung
    sources: dict[str, str]
    tensors: tuple[str, ...]
    programs: dict[str, bytes] = field(default_factory=dict)
