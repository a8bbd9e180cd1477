"""
Products of two activations become launches of kernels.

    y = qcc.matmul a, b   =>   y = tile.launch @matmul_0 (a, b)

Factors of fp32 are rounded to f16, or to bf16 where the other one is bf16, as they are copied.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.errors import UnsupportedError
from ..dialects.regions import walk
from ..dialects.tile.matmul_problem import (
    MANY_ROWS,
    MatmulProblem,
    MatmulSchedule,
    default_matmul,
)
from ..dialects.tile.warp_launch import WarpLaunch
from .launching import (
    Kernels,
    Made,
    Number,
    Read,
    Scheduling,
    Shape,
    Write,
    launch,
    pieces,
    product,
    size_of,
    unsupported,
)
from .matmul_kernel import matmul_kernel

Chooser = Callable[[MatmulProblem, str], MatmulSchedule]


def schedule_matmul(
    options: Scheduling, choose: Chooser = default_matmul
) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels: Kernels[WarpLaunch] = Kernels(module, options.target)
        for op in walk(module):
            if isinstance(op, qcc.MatmulOp):
                with ir.InsertionPoint(op), op.location:
                    _replace(op, kernels, choose)

    return apply


def _replace(op: qcc.MatmulOp, kernels: Kernels[WarpLaunch], choose: Chooser) -> None:
    problem = matmul_problem(op)
    batch, rows = size_of(op.lhs, 0), size_of(op.lhs, 1)
    schedule = choose(problem, kernels.target)
    kernel = kernels.once(
        (problem.of_any_size, schedule),
        "matmul",
        lambda name: matmul_kernel(problem, schedule, name, kernels.target),
    )
    tiles = [
        pieces(rows, schedule.block_rows),
        pieces(problem.columns, schedule.block_columns),
        batch,
    ]
    grid = product(tiles), 1, 1
    result = ir.RankedTensorType(op.result.type)
    sizes = batch, rows, problem.columns
    extents = [size for axis, size in enumerate(sizes) if result.is_dynamic_dim(axis)]
    arguments = [Read(op.lhs), Read(op.rhs), Write(0), Number(batch), Number(rows)]
    shape = Shape(grid, kernel.threads, kernel.shared_bytes)
    made = Made(op.result.type, tuple(extents))
    [value] = launch(kernel.kernel, shape, arguments, [made], op.operation)
    op.result.replace_all_uses_with(value)
    op.operation.erase()


def matmul_problem(op: qcc.MatmulOp) -> MatmulProblem:
    """What an op computes; raises UnsupportedError for depths known at run time only."""
    left, right = (ir.RankedTensorType(each.type) for each in (op.lhs, op.rhs))
    kinds = [str(each.element_type) for each in (left, right)]
    operand = next((kind for kind in kinds if kind != "f32"), "f16")
    depth = right.shape[1] if left.is_dynamic_dim(2) else left.shape[2]
    if set(kinds) - {operand, "f32"}:
        raise _refused(op, f"its factors are {kinds[0]} and {kinds[1]}", "use one type")
    if depth < 0 or right.is_dynamic_dim(2):
        raise _refused(op, f"it multiplies by {right}", "make its last two axes static")
    result = str(ir.RankedTensorType(op.result.type).element_type)
    batch = left.shape[0] if not left.is_dynamic_dim(0) else right.shape[0]
    sizes = {
        "rows": MANY_ROWS if left.is_dynamic_dim(1) else left.shape[1],
        "batch": 1 if right.is_dynamic_dim(0) and left.is_dynamic_dim(0) else batch,
    }
    return MatmulProblem(depth, right.shape[2], kinds[0], kinds[1], result, operand, **sizes)


def _refused(op: qcc.MatmulOp, why: str, next_step: str) -> UnsupportedError:
    return unsupported(op, "matmul", "a product of activations", why, next_step)
