"""
Functions of single numbers on DPUs, piecewise linear in fixed point (piecewise.py).

The host rounds numbers to 16 bits, DPUs evaluate cells, the host scales. Beyond the table the host
gives max(x, 0), which is what GELU is there to 1.5e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bindings import ir
from .cost import Cost, moving_cost
from .device import Device
from .host import FunctionOp
from .layer import STEP
from .piecewise import Cells
from .timing import Timing

Floats = NDArray[np.float32]
Codes = NDArray[np.int16]
Array = NDArray[Any]
Evaluation = Callable[[Codes], Codes]
"""What DPUs, or NumPy, make of a flat array of inputs."""


def cells_attribute(cells: Cells) -> ir.DictAttr:
    """The table as it stands in the IR, so that other versions of it do not change a program."""
    double, word = ir.F64Type.get(), ir.IntegerType.get_signless(64)
    return ir.DictAttr.get({
        "low": ir.FloatAttr.get(double, cells.low), "step": ir.FloatAttr.get(double, cells.step),
        "unit": ir.FloatAttr.get(double, cells.unit), "bits": ir.IntegerAttr.get(word, cells.bits),
        "shift": ir.IntegerAttr.get(word, cells.shift),
        "base": ir.DenseI16ArrayAttr.get(cells.base.tolist()),
        "slope": ir.DenseI8ArrayAttr.get(cells.slope.tolist()),
    })  # fmt: skip


def cells_of(attribute: ir.Attribute) -> Cells:
    given = ir.DictAttr(attribute)
    low, step, unit = (ir.FloatAttr(given[name]).value for name in ("low", "step", "unit"))
    bits, shift = (ir.IntegerAttr(given[name]).value for name in ("bits", "shift"))
    base = np.array(list(ir.DenseI16ArrayAttr(given["base"])), np.int16)
    slope = np.array(list(ir.DenseI8ArrayAttr(given["slope"])), np.int8)
    return Cells(low, step, unit, bits, shift, base, slope)


def evaluated(cells: Cells, x: Floats, evaluate: Evaluation | None = None) -> Floats:
    """`pim.function` on x; without `evaluate` NumPy does what DPUs would, with the same result."""
    high = cells.low + cells.step * (len(cells.base) << cells.bits)
    inside = (x >= cells.low) & (x < high)
    codes = cells.encode(np.where(inside, x, np.float32(cells.low)))
    found = (evaluate or cells)(codes.reshape(-1)).reshape(x.shape)
    return np.where(inside, cells.decode(found), np.maximum(x, 0)).astype(np.float32)


@dataclass(frozen=True)
class PlacedFunction:
    """
    A function by a kernel, and what that costs: to a plan what a Layer is.

    `width` numbers are a token's.
    """

    name: str
    layer: str
    function: str
    kernel: str
    cells: Cells
    numbers: int
    dpus: int
    width: int
    timing: Timing
    cost: Cost

    @staticmethod
    def of(op: FunctionOp, name: str, on: Device, timing: Timing) -> PlacedFunction:
        cells, numbers, dpus = cells_of(op.cells), op.numbers.value, op.dpus.value
        last = ir.RankedTensorType(op.result.type).shape[-1:]
        width = last[0] if last and last[0] > 0 else 1
        tables = sum(table_sizes(cells).values())
        moved = 2 * numbers
        cost = moving_cost(on, dpus, moved, moved, timing.cycles, table_bytes=tables)
        layer, function = op.place
        return PlacedFunction(
            name, layer, function, op.kernel.value, cells, numbers, dpus, width, timing, cost
        )

    @property
    def place(self) -> tuple[str, str]:
        return self.layer, self.function

    @property
    def steps(self) -> bool:
        """Whether it is the one for steps."""
        return self.name.startswith(f"{self.layer}.{STEP}")

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each array of one DPU."""
        moved = 2 * self.numbers
        return table_sizes(self.cells) | {"inputs": moved, "results": moved}

    @property
    def table_key(self) -> tuple[Any, ...]:
        return "piecewise", self.function, self.cells.base.tobytes(), self.cells.slope.tobytes()

    @property
    def parts(self) -> int:
        """What its numbers are split into."""
        return self.dpus

    @property
    def schedule(self) -> dict[str, Any]:
        return {"method": "piecewise", "dpus": self.dpus, "numbers": self.numbers}

    @property
    def parameter(self) -> str:
        """None: it has no weights."""
        return ""

    @property
    def summary(self) -> tuple[str, ...]:
        return (
            f"{self.name}: {self.function} of {self.numbers} numbers on each of {self.dpus} DPUs,",
            f"{len(self.cells.base)} cells.",
        )

    def milliseconds(self, numbers: int) -> float:
        """Of as many launches as so many numbers take."""
        return -(-numbers // (self.numbers * self.dpus)) * self.cost.total_ms

    def row(self) -> dict[str, Any]:
        """The part of a report's row that layers have otherwise."""
        tokens = self.numbers * self.dpus // self.width
        return {"for_tokens": tokens, "method": "piecewise", "p": 1, "residency": "resident",
                "rows": self.numbers, "tokens": 1}  # fmt: skip

    def constants(self) -> dict[str, Array]:
        """Tables of all DPUs."""
        tables = {"base": self.cells.base, "slope": self.cells.slope}
        padded = {
            name: np.zeros(size // tables[name].itemsize, tables[name].dtype)
            for name, size in table_sizes(self.cells).items()
        }
        for name, table in tables.items():
            padded[name][: len(table)] = table
        return {name: np.broadcast_to(each, (self.dpus, *each.shape))
                for name, each in padded.items()}  # fmt: skip

    def by(self, run: Callable[[Mapping[str, Array]], object]) -> Evaluation:
        """What launches of a kernel make of inputs, the last launch filled up."""
        constants, shape = self.constants(), (self.dpus, self.numbers)

        def evaluate(codes: Codes) -> Codes:
            launches = -(-len(codes) // (self.dpus * self.numbers))
            filled = np.zeros((launches, *shape), np.int16)
            filled.reshape(-1)[: len(codes)] = codes
            results = np.zeros_like(filled)
            for given, found in zip(filled, results, strict=True):
                run(constants | {"inputs": given, "results": found})
            return results.reshape(-1)[: len(codes)]

        return evaluate


def table_sizes(cells: Cells) -> dict[str, int]:
    """Bytes of the tables, whole units of DMA."""
    return {"base": -(-cells.base.nbytes // 8) * 8, "slope": -(-cells.slope.nbytes // 8) * 8}


class PlacedFunctions:
    """
    Called with a function's place and numbers, gives its values, on DPUs by `evaluating`.

    Of kernels for many numbers and for a step's, that which takes less time runs.
    """

    def __init__(
        self,
        functions: Sequence[PlacedFunction],
        evaluating: Callable[[PlacedFunction], Evaluation],
    ) -> None:
        self._functions: dict[tuple[str, str], list[PlacedFunction]] = {}
        for each in functions:
            self._functions.setdefault((each.layer, each.function), []).append(each)
        self._evaluation = cache(lambda name: evaluating(named[name]))
        named = {each.name: each for each in functions}

    def __contains__(self, place: tuple[str, str]) -> bool:
        return place in self._functions

    def __call__(self, place: tuple[str, str], x: Floats) -> Floats:
        found = min(self._functions[place], key=lambda each: each.milliseconds(x.size))
        return evaluated(found.cells, x, self._evaluation(found.name))
