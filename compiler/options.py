"""What a compilation is asked to do, apart from the model and the place of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..dialects.cpu.x_bytes import FEWEST, MOST
from ..dialects.errors import UsageError
from .targets import Target

STOPS = ("raise", "assign")
MODEL_PRECISION = "none"
OF_FAMILY = {"operands": "cuda", "device": "upmem", "dpus": "upmem", "tokens": "upmem",
             "functions": "upmem", "x_bytes": "cpu"}  # fmt: skip
"""Options that one family of targets has."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """
    `recipe` as `load_recipe` takes it, None to keep the model's own precision. `calibration` as
    `open_samples` takes it, at most `calibration_samples` of them.

    `validate` executes the program before and after each pass (validate.py).
    `operands` is the type that matrix units of a GPU multiply, "f16" or "bf16".
    `device`, `dpus` and `tokens` are those of target upmem: a built-in device or a TOML file, how
    many of its DPUs, and the rows that kernels are chosen for where the program leaves them open;
    `functions` are those that DPUs compute too, by tables: "gelu", "norm", "all", … (docs/pim.md).
    `x_bytes` is the fewest bytes, 2 or 3, that stand for a value of fp32 x where target cpu
    multiplies integers, None for what each layer's weights suggest (docs/benchmarks.md).
    `schedules` is a tuning database, whose schedules layers of target cpu take.
    After the stage `stop_after`, one of STOPS, the IR is written in place of an artifact.
    """

    recipe: str | Path | Mapping[str, Any] | None = None
    target: str = "cpu"
    calibration: Any = None
    calibration_samples: int | None = None
    seed: int = 0
    require_coverage: float | None = None
    golden: bool = True
    print_ir_after_all: Path | None = None
    stop_after: str | None = None
    validate: bool = False
    operands: str = "f16"
    device: str = "v1A"
    dpus: int | None = None
    tokens: int = 128
    functions: tuple[str, ...] = ()
    schedules: Path | None = None
    x_bytes: int | None = None

    def require_fitting(self, target: Target) -> None:
        """UsageError for an option that only other targets have, or that has no such value."""
        if self.x_bytes is not None and not FEWEST <= self.x_bytes <= MOST:
            raise UsageError(
                "option-value",
                f"x_bytes is {self.x_bytes}, not {FEWEST} or {MOST}",
                next_step="leave it out for what each layer's weights suggest",
            )
        for option in fields(self):
            family = OF_FAMILY.get(option.name, target.family)
            flag = f"--{option.name.replace('_', '-')}"
            if family != target.family and getattr(self, option.name) != option.default:
                raise UsageError(
                    "option-target",
                    f"target {target.name} takes no {option.name}",
                    why=f"{flag}, {option.name}= in Python, is for targets {family}…",
                    next_step=f"leave it out, or choose a target {family}… of `qcc list targets`",
                )

    @property
    def quantizes(self) -> bool:
        """Whether there is a recipe that may give a layer a format."""
        return self.recipe not in (None, MODEL_PRECISION)
