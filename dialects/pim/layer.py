"""A linear layer of a plan: its kernel, its arrays in MRAM, what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..bindings import ir
from ..errors import UsageError
from ..formats import parse_spelling
from .cost import Cost, cost_of
from .device import Device
from .footprint import arrays, sizes_of
from .function_forms import form_of
from .fused import FusedFunction, fused_cost, fused_sizes
from .host import LinearOp
from .linear import IntegerLinear
from .schedule import Schedule, Share
from .smooth import Elementwise
from .timing import Timing

STEP = "step"
"""The function that continues sequences (passes/materialize_kv_cache.py)."""


@dataclass(frozen=True)
class Layer:
    """
    A linear layer by a kernel: what it computes, and what that costs.

    `layer` is its name in the model. It may have a second kernel, for the few tokens of a step
    of generation: that is a Layer of its own, whose weights lie in MRAM a second time.
    """

    name: str
    layer: str
    parameter: str
    kernel: str
    linear: IntegerLinear
    share: Share
    timing: Timing
    cost: Cost
    function: FusedFunction | None = None

    @staticmethod
    def of(op: LinearOp, name: str, on: Device, timing: Timing) -> Layer:
        limits = None
        if "range" in op.operation.attributes:
            least, most = ir.DenseF32ArrayAttr(op.operation.attributes["range"])
            limits = (least, most)
        activation = parse_spelling(op.activation.value)
        schedule, rows, k, tokens = schedule_of(op.schedule)
        weight = parse_spelling(op.weight_format.value)
        linear = IntegerLinear(rows, k, weight, activation, limits)
        share = Share(linear.problem(tokens), schedule)
        function = fused_function(op)
        cost = cost_of(share, on, timing.cycles)
        if function is not None:
            cost = fused_cost(share, function, on, timing.cycles)
        return Layer(name, *op.place, op.kernel.value, linear, share, timing, cost, function)

    @property
    def place(self) -> tuple[str, str]:
        return self.layer, self.parameter

    @property
    def steps(self) -> bool:
        """Whether it is the one for steps."""
        return self.name.startswith(f"{self.layer}.{STEP}")

    def milliseconds(self, tokens: int) -> float:
        """Of as many launches as so many tokens take."""
        return -(-tokens // self.share.problem.tokens) * self.cost.total_ms

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each array of one DPU."""
        if self.function is not None:
            return fused_sizes(self.share, self.function)
        return sizes_of(arrays(self.share))

    @property
    def dpus(self) -> int:
        return self.share.schedule.dpus

    @property
    def parts(self) -> int:
        """What its rows are split into."""
        return self.share.schedule.row_parts

    @property
    def schedule(self) -> Schedule:
        return self.share.schedule

    @property
    def summary(self) -> tuple[str, ...]:
        """Lines for the reader of the host's C."""
        problem, s = self.share.problem, self.share.schedule
        function = self.function and f"{self.function.name} of the result, in the same kernel;"
        apart = f"{problem.parts} parts of {problem.group} inputs, whose sums stay apart;"
        return (
            f"{self.name}: {problem.rows} x {problem.k}, {problem.tokens} tokens, by "
            f"{s.method} of p = {s.p};",
            *([apart] if problem.group else []),
            *([function] if function else []),
            f"{s.k_parts} parts of the sum x {s.row_parts} of rows x "
            f"{s.token_parts} of tokens, a DPU each.",
        )

    def row(self) -> dict[str, Any]:
        """The part of a report's row that functions have otherwise."""
        share, method = self.share, self.share.schedule.method
        method = f"{method} + {self.function.name}" if self.function else method
        return {"for_tokens": share.problem.tokens, "method": method,
                "p": share.schedule.p, "residency": share.schedule.tables_at,
                "rows": share.rows, "tokens": share.tokens,
                "group": share.problem.group}  # fmt: skip

    @property
    def table_key(self) -> tuple[Any, ...]:
        tables = self.share.tables
        name = self.function.name if self.function else ""
        return self.share.schedule.method, tables.weights, tables.activations, tables.p, name


def fused_function(op: LinearOp) -> FusedFunction | None:
    """What the kernel of a layer computes of its results."""
    attributes = op.operation.attributes
    if "form" not in attributes:
        return None
    form = form_of(attributes["form"])
    if not isinstance(form, Elementwise):
        raise UsageError("pim-function-form", "a layer's kernel computes functions of numbers")
    return FusedFunction(ir.StringAttr(attributes["function"]).value, form)


def schedule_of(attribute: ir.Attribute) -> tuple[Schedule, int, int, int]:
    """The schedule of a `pim.linear`, and the rows, k and tokens of its problem."""
    given = ir.DictAttr(attribute)
    values: dict[str, Any] = {}
    for name in ("method", "residency"):
        values[name] = ir.StringAttr(given[name]).value
    for name in ("p", "groups", "words", "row_block", "tasklets", "row_parts", "token_parts",
                 "k_parts", "lane_bits"):  # fmt: skip
        values[name] = ir.IntegerAttr(given[name]).value
    values["shared"] = ir.BoolAttr(given["shared"]).value
    rows, k, tokens = (ir.IntegerAttr(given[name]).value for name in ("rows", "k", "tokens"))
    return Schedule(**values), rows, k, tokens
