"""
Layers and functions that DPUs compute become calls of what the runtime gave the object.

    %y = pim.linear %x, %w, %b {layer = "first"}
      =>  %y = alloc; qcc_call_device(0, &x, rows, &b, &y)          the first of `calls`
    %y = pim.function %x {layer = "first.gelu"}   =>   qcc_call_device(1, &x, numbers, columns, &y)
    pim.kernel @pim_0 { … }   =>   nothing: it is a program of its own

Exact: the call gives what the op means. Calls are of the thread that called the object.
"""

from __future__ import annotations

from typing import Any

from ...dialects.bindings import func, ir
from ...dialects.pim.host import FunctionOp, LinearOp
from .call_site import CallSite, replace_op
from .emit import Val, size
from .library import splice

CALL = "qcc_call_device"


def convert_device_call(site: CallSite, op: LinearOp) -> None:
    axes = range(ir.RankedTensorType(op.input.type).rank - 1)
    leading = {axis: site.extent(op.input, axis) for axis in axes}
    rows = site.extents(op.input, axes)
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, leading))
    bias = size(0) if op.bias is None else site.address(op.bias)
    _call(site, op, rows, bias, value, address)


def convert_function_call(site: CallSite, op: FunctionOp) -> None:
    axes = range(ir.RankedTensorType(op.input.type).rank)
    extents = {axis: site.extent(op.input, axis) for axis in axes}
    numbers = site.extents(op.input, axes)
    columns = extents[axes[-1]] if axes else size(1)
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, extents))
    _call(site, op, numbers, columns, value, address)


def _call(
    site: CallSite, op: LinearOp | FunctionOp, rows: Val, other: Val, value: ir.Value, address: Val
) -> None:
    if not site.device_calls:
        splice("device_calls.mlir", site.module)
    number = size(_number(site, op))
    given = [number, site.address(op.input), rows, other, address]
    func.call([], CALL, [each.ssa for each in given])
    replace_op(op, value)


def drop_device_program(site: CallSite, op: Any) -> None:
    del site
    op.operation.erase()


def _number(site: CallSite, op: LinearOp | FunctionOp) -> int:
    """`@step` has the layers of `@main` again, by the same numbers."""
    key = op.place
    if key not in site.device_calls:
        site.device_calls.append(key)
    return site.device_calls.index(key)
