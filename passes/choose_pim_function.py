"""
Which kernel computes a function: rows and tasklets of a DPU, and what of a row WRAM holds.

All candidates are written, and the cycle model takes the fastest of those that fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..dialects import pim
from ..dialects.bindings import MLIRError, Operation, ir
from ..dialects.pim.cost import Cost
from ..dialects.pim.device import Device
from ..dialects.pim.footprint import WIDTH, padded
from ..dialects.pim.function_forms import Form
from ..dialects.pim.functions import function_cost, table_sizes
from ..dialects.pim.row_functions import Norm, Softmax
from ..dialects.pim.slots import traces
from ..dialects.pim.smooth import Elementwise
from ..dialects.pim.timing import simulate
from .pim_piecewise_kernel import pim_piecewise_kernel
from .pim_row_kernel import pim_row_kernel
from .pim_row_sweeps import RowShare

BLOCKS = (256, 64, 16)
"""Numbers of one request of DMA, for functions of single ones."""
ROWS = (1, 4, 11, 16)
"""Rows of a DPU, where there are DPUs for all: 11 tasklets fill its pipeline."""
TOGETHER = (16, 12, 8)
"""Tasklets that share a row."""
PART = 4
"""Numbers of a unit of DMA, in and out: parts of a shared row are multiples."""
CHUNKS = (512, 256, 128, 64)
"""Numbers of a row in WRAM at a time, where it does not hold the row."""
MOST_TASKLETS = 16


@dataclass(frozen=True)
class FunctionKernel:
    """A kernel of the module, the rows of each of its DPUs, and the cost of a launch."""

    name: str
    rows: int
    dpus: int
    cost: Cost

    def milliseconds(self, rows: int) -> float:
        return -(-rows // (self.rows * self.dpus)) * self.cost.total_ms


@dataclass(frozen=True)
class _Candidate:
    rows: int
    dpus: int
    tasklets: int
    size: int
    """Numbers of a block or of a chunk."""
    together: bool = False


@dataclass
class FunctionKernels:
    """Kernels of functions at the start of a module, one for each form and number of rows."""

    module: Operation
    device: Device
    found: dict[tuple[str, Form, int], FunctionKernel] = field(default_factory=dict)

    def of(self, form: Form, name: str, rows: int) -> FunctionKernel | None:
        """The fastest kernel by the cycle model; None where a memory is too small for any."""
        key = name, form, rows
        if key not in self.found:
            made = [self._written(form, name, each) for each in self._candidates(form, rows)]
            written = [each for each in made if each is not None]
            if not written:
                return None
            best = min(written, key=lambda each: each[1].milliseconds(rows))
            for op, _ in written:
                if op is not best[0]:
                    op.operation.erase()
            self.found[key] = best[1]
        return self.found[key]

    def _candidates(self, form: Form, rows: int) -> Iterator[_Candidate]:
        candidates = self._blocks if isinstance(form, Elementwise) else self._rows
        for each in dict.fromkeys(candidates(form, rows)):
            moved = sum(w * WIDTH[k] for w, k in zip(form.widths, form.kinds, strict=True))
            if moved * each.rows + sum(table_sizes(form).values()) <= self.device.mram:
                yield each

    def _blocks(self, form: Form, numbers: int) -> Iterator[_Candidate]:
        for block in BLOCKS:
            tasklets = self._tasklets(form, 2 * block)
            if tasklets:
                dpus = min(self.device.dpus, -(-numbers // (tasklets * block)))
                each = -(-numbers // (dpus * block)) * block
                yield _Candidate(each, dpus, tasklets, block)

    def _rows(self, form: Form, rows: int) -> Iterator[_Candidate]:
        for few in ROWS:
            dpus = min(self.device.dpus, -(-rows // few))
            each = -(-rows // dpus)
            for chunk in (form.columns, *(size for size in CHUNKS if size < form.columns)):
                tasklets = min(each, self._tasklets(form, _private(form, chunk)))
                if tasklets:
                    yield _Candidate(each, dpus, tasklets, chunk)
            for tasklets in TOGETHER:
                part, rest = divmod(form.columns, PART * tasklets)
                most = self._tasklets(form, _private(form, PART * part)) if part and not rest else 0
                if tasklets <= most:
                    yield _Candidate(each, dpus, tasklets, PART * part, together=True)

    def _tasklets(self, form: Form, private: int) -> int:
        """How many have room for their buffers."""
        device = self.device
        room = device.wram - device.runtime - sum(table_sizes(form).values())
        return min(MOST_TASKLETS, device.most_tasklets, room // (private + device.stack))

    def _written(
        self, form: Form, name: str, candidate: _Candidate
    ) -> tuple[pim.KernelOp, FunctionKernel] | None:
        """None for one that does not fit."""
        symbol = f"pim_{name}_{len(self.found)}"
        with ir.InsertionPoint.at_block_begin(self.module.regions[0].blocks[0]):
            if isinstance(form, Elementwise):
                op = pim_piecewise_kernel(
                    form.table, candidate.rows, self.device, symbol, candidate.tasklets,
                    candidate.size,
                )  # fmt: skip
            else:
                op = pim_row_kernel(_share(form, candidate), self.device, symbol)
        if not fits(op):
            return None
        op.operation.attributes["note"] = ir.StringAttr.get(_note(form, name))
        cycles = simulate(traces(op), self.device).cycles
        cost = function_cost(form, candidate.rows, candidate.dpus, self.device, cycles)
        return op, FunctionKernel(symbol, candidate.rows, candidate.dpus, cost)


def _share(form: Form, candidate: _Candidate) -> RowShare:
    assert isinstance(form, Softmax | Norm)
    return RowShare(
        form, candidate.rows, candidate.tasklets, candidate.size, candidate.together
    )  # fmt: skip


def _private(form: Form, chunk: int) -> int:
    """Bytes of WRAM of a tasklet."""
    assert isinstance(form, Softmax | Norm)
    buffers = RowShare(form, 1, 1, chunk).buffers.values()
    return sum(
        padded(extent, WIDTH[element]) * WIDTH[element]
        for extent, element, scope in buffers
        if scope == "private"
    )


def fits(kernel: pim.KernelOp) -> bool:
    """Whether a kernel that was written fits its device; erased if not."""
    try:
        return kernel.operation.verify()
    except MLIRError:
        kernel.operation.erase()
        return False


def _note(form: Form, name: str) -> str:
    cells = sum(len(each.base) for each in form.tables)
    rows = "" if form.columns == 1 else f" of rows of {form.columns}"
    return f"{name}{rows} by {cells} cells"
