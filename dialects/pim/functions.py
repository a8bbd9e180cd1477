"""Functions of a plan: their kernels, their arrays in MRAM, what they cost; who evaluates them."""

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
from .footprint import WIDTH, padded
from .function_forms import Evaluation, Form, evaluated, form_of, joined_tables, table_sizes
from .host import FunctionOp
from .layer import STEP
from .lookup_tables import DTYPES
from .timing import Timing

Floats = NDArray[np.float32]
Array = NDArray[Any]


@dataclass(frozen=True)
class PlacedFunction:
    """
    A function by a kernel, and what that costs: to a plan what a Layer is.

    Each of `dpus` takes `rows` rows, of one number where it is a function of single ones; `width`
    numbers are a token's.
    """

    name: str
    layer: str
    function: str
    kernel: str
    form: Form
    rows: int
    dpus: int
    width: int
    timing: Timing
    cost: Cost

    @staticmethod
    def of(op: FunctionOp, name: str, on: Device, timing: Timing) -> PlacedFunction:
        form, rows, dpus = form_of(op.form), op.rows.value, op.dpus.value
        last = ir.RankedTensorType(op.result.type).shape[-1:]
        width = last[0] if last and last[0] > 0 else 1
        cost = function_cost(form, rows, dpus, on, timing.cycles)
        layer, function = op.place
        return PlacedFunction(
            name, layer, function, op.kernel.value, form, rows, dpus, width, timing, cost
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
        inputs, results = row_bytes(self.form)
        moved = {"inputs": self.rows * inputs, "results": self.rows * results}
        return table_sizes(self.form) | moved

    @property
    def table_key(self) -> tuple[Any, ...]:
        base, slope = joined_tables(self.form)
        return "piecewise", base.tobytes(), slope.tobytes()

    @property
    def parts(self) -> int:
        """What its rows are split into."""
        return self.dpus

    @property
    def schedule(self) -> dict[str, Any]:
        method = self.form.method
        return {"method": method, "dpus": self.dpus, "numbers": self.rows * self.form.columns}

    @property
    def parameter(self) -> str:
        """None: it has no weights."""
        return ""

    @property
    def summary(self) -> tuple[str, ...]:
        what = "numbers" if self.form.columns == 1 else f"rows of {self.form.columns}"
        cells = sum(len(each.base) for each in self.form.tables)
        return (
            f"{self.name}: {self.function} of {self.rows} {what} on each of {self.dpus} DPUs,",
            f"{cells} cells.",
        )

    def milliseconds(self, rows: int) -> float:
        """Of as many launches as so many rows take."""
        return -(-rows // (self.rows * self.dpus)) * self.cost.total_ms

    def row(self) -> dict[str, Any]:
        """The part of a report's row that layers have otherwise."""
        tokens = self.rows * self.dpus
        if self.form.method == "piecewise":
            tokens //= self.width
        return {"for_tokens": tokens, "method": self.form.method, "p": 1,
                "residency": "resident", "rows": self.rows, "tokens": 1}  # fmt: skip

    def constants(self) -> dict[str, Array]:
        """Tables of all DPUs."""
        made = {}
        for (name, size), table in zip(
            table_sizes(self.form).items(), joined_tables(self.form), strict=True
        ):
            filled = np.zeros(size // table.itemsize, table.dtype)
            filled[: len(table)] = table
            made[name] = np.broadcast_to(filled, (self.dpus, *filled.shape))
        return made

    def by(self, run: Callable[[Mapping[str, Array]], object]) -> Evaluation:
        """
        What launches of a kernel make of rows, the last launch filled up.

        Rows that are longer than the kernel's are the host's, with the same bits.
        """
        constants, (inward, outward) = self.constants(), self.form.widths
        kinds = [DTYPES[each] for each in self.form.kinds]

        def evaluate(codes: Array) -> Array:
            if codes.shape[1] > inward:
                return self.form(codes)
            launches = -(-len(codes) // (self.dpus * self.rows))
            filled = np.zeros((launches, self.dpus, self.rows, inward), kinds[0])
            filled.reshape(-1, inward)[: len(codes)] = codes
            results = np.zeros((launches, self.dpus, self.rows, outward), kinds[1])
            for given, found in zip(filled, results, strict=True):
                run(constants | {"inputs": given, "results": found})
            return results.reshape(-1, outward)[: len(codes)]

        return evaluate


def row_bytes(form: Form) -> tuple[int, int]:
    """Bytes of a row as it goes to a DPU and comes back."""
    inward, outward = (
        width * WIDTH[kind] for width, kind in zip(form.widths, form.kinds, strict=True)
    )
    return inward, outward


def function_cost(form: Form, rows: int, dpus: int, device: Device, cycles: float) -> Cost:
    """Of a launch of `rows` rows for each DPU."""
    inputs, results = (padded(rows * each, 1) for each in row_bytes(form))
    tables = sum(table_sizes(form).values())
    return moving_cost(device, dpus, inputs, results, cycles, table_bytes=tables)


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
        rows = len(self._functions[place][0].form.rows_of(x))
        found = min(self._functions[place], key=lambda each: each.milliseconds(rows))
        return evaluated(found.form, x, self._evaluation(found.name))
