"""Fused groups of decoders, each one kernel: residual, RMS norm, softmax, rotary positions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_launches import Call, Trial, array_bytes, worst
from qcc.codegen.cuda.groups import emit_groups
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.regions import walk
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_groups import schedule_groups

_PARTS = re.split(
    r"^// ----- (.*)$", Path(__file__).with_name("gpu_groups.mlir").read_text(), flags=re.M
)
PROGRAMS = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))
CHECKED = ((5, 24), (3, 1040), (37, 128))
TIMED = ((16, 4096), (4096, 4096), (32768, 128))
"""Rows x columns: a few tokens, a prompt, the heads of 1024 tokens."""
ROUNDING, SINGLE, SMALLEST = 2.0**-11, 2.0**-24, 2.0**-25


@dataclass(frozen=True)
class Group:
    """One program on fp16 of so many rows and columns, an even number of them."""

    program: str
    rows: int
    columns: int
    kind = "fused group"
    math = None

    @property
    def name(self) -> str:
        return f"{self.program} {self.rows}x{self.columns}"

    @property
    def operations(self) -> int:
        return 0

    def trial(self, target: str, sampled: bool) -> Trial:
        source, call = self._emitted(target)
        rng = np.random.default_rng(self.columns)
        # Arguments lie in the order of the program's; the last one is the result.
        *names, output = call.arguments
        given: dict[str, Any] = {
            name: rng.standard_normal(shape).astype(np.float16)
            for name, shape in zip(names, self._shapes(), strict=True)
        }
        exact = [part.astype(np.float64) for part in given.values()]
        wanted, magnitude = MEANINGS[self.program](*exact)
        given[output] = np.zeros((self.rows, self.columns), np.float16)
        # Sums of a row's columns and a few operations in fp32, one rounding of the result.
        sums = (self.columns + 64) * SINGLE * magnitude
        bound = ROUNDING * np.abs(wanted) + sums + SMALLEST
        return Trial(source, (call,), given, output,
                     partial(worst, wanted=wanted, bound=bound), array_bytes(given))  # fmt: skip

    def _shapes(self) -> list[tuple[int, ...]]:
        whole = (self.rows, self.columns)
        return {"residual": [whole] * 2, "rms norm": [whole, whole[1:]], "softmax": [whole],
                "rope": [whole] * 3}[self.program]  # fmt: skip

    def _emitted(self, target: str) -> tuple[str, Call]:
        numbers = {"ROWS": self.rows, "COLUMNS": self.columns, "HALF": self.columns // 2}
        text = re.sub("|".join(numbers), lambda m: str(numbers[m[0]]), PROGRAMS[self.program])
        with make_context(), ir.Location.unknown():
            module = ir.Module.parse(text)
            schedule_groups(Scheduling(target))(module.operation, None)
            [launch] = [op for op in walk(module) if op.operation.name == "tile.launch"]
            groups = [op for op in module.body.operations if op.operation.name == "tile.group"]
            numbers_of = [each.owner.attributes["value"] for each in list(launch.operands)[:3]]
            x, y, z = (ir.IntegerAttr(number).value for number in numbers_of)
            attributes = launch.attributes
            return emit_groups(groups), Call(
                ir.StringAttr(groups[0].symbol).value, (x, y, z),
                ir.IntegerAttr(attributes["threads"]).value,
                ir.IntegerAttr(attributes["shared_bytes"]).value,
                tuple(f"argument {n}" for n in range(len(launch.operands) - 3)),
            )  # fmt: skip

    def peer(self, torch: Any, copies: int) -> list[Callable[[], Any]]:
        """torch, eagerly."""
        sets = [[torch.randn(shape, dtype=torch.float16, device="cuda") for shape in self._shapes()]
                for _ in range(copies)]  # fmt: skip
        call = partial(eager, torch, self.program)
        return [partial(call, *given) for given in sets]


def eager(torch: Any, program: str, x: Any, *others: Any) -> Any:
    if program == "residual":
        return x + others[0]
    if program == "rms norm":
        return torch.nn.functional.rms_norm(x, others[0].shape, others[0], 1e-5)
    if program == "softmax":
        return torch.softmax(x, -1)
    low, high = x.chunk(2, -1)
    return x * others[0] + torch.cat((-high, low), -1) * others[1]


Exact = tuple[np.ndarray, np.ndarray]


def _residual(x: np.ndarray, y: np.ndarray) -> Exact:
    return x + y, np.abs(x) + np.abs(y)


def _rms_norm(x: np.ndarray, weight: np.ndarray) -> Exact:
    normed = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight
    return normed, np.abs(normed)


def _softmax(x: np.ndarray) -> Exact:
    powers = np.exp(x - x.max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    return shares, shares


def _rope(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> Exact:
    low, high = np.split(x, 2, -1)
    along, across = x * cosine, np.concatenate((-high, low), -1) * sine
    return along + across, np.abs(along) + np.abs(across)


MEANINGS: dict[str, Callable[..., Exact]] = {
    "residual": _residual, "rms norm": _rms_norm, "softmax": _softmax, "rope": _rope,
}  # fmt: skip
"""The exact result of a program, and the magnitude of what is summed in it."""


def groups(shapes: tuple[tuple[int, int], ...]) -> list[Group]:
    return [Group(program, *shape) for shape in shapes for program in PROGRAMS]
