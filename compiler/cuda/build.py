"""
Compiling for a GPU: a module with its formats → kernels, launch plan, sources and binaries.

The order: sizes stay integers and reshapes become views, qcc ops take half precision where casts
stand, elementwise linalg is fused, each family of kernels takes its ops, the plan is read off what
is left, and the kernels are written. The module that was given stays as it is, but that its
parameters learn the layouts which kernels want: it is what the reference interpreter runs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...codegen.cuda.check_counts import check_counts
from ...codegen.cuda.families import emit_sources
from ...codegen.cuda.plan import Function, LaunchStep, Plan
from ...codegen.cuda.program import CudaCode
from ...codegen.cuda.read_plan import read_function
from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.pipeline import FUSE, run_passes
from ...passes.assign_formats import parameters_by_symbol
from ...passes.choosers import DEFAULTS, Choosers
from ...passes.expand_reshapes import expand_reshapes
from ...passes.fold_size_roundings import fold_size_roundings
from ...passes.launching import Scheduling
from ...passes.materialize_kv_cache import STEP
from ...passes.narrow_operands import narrow_operands
from ...passes.schedule_cuda import cuda_passes
from ..layers import entry_function
from ..targets import Target

CLEAN = "func.func(lower-affine,canonicalize,cse)"


def lower_to_launches(module: ir.Module, machine: str, choosers: Choosers = DEFAULTS) -> ir.Module:
    """A copy of `module` in which families of kernels took their ops."""
    text = module.operation.get_asm(enable_debug_info=True)
    copy = ir.Module.parse(text, module.context)
    for parameters in parameters_by_symbol(copy.operation).values():
        for parameter in parameters:
            _set_layout(parameter, None)
    fold_size_roundings(copy.operation)
    expand_reshapes(copy.operation)
    narrow_operands(copy.operation)
    run_passes(copy, FUSE, "cuda")
    for run in cuda_passes(Scheduling(machine), choosers).values():
        run(copy.operation, None)
        copy.operation.verify()
    run_passes(copy, CLEAN, "cuda")
    return copy


def build_cuda(module: ir.Module, target: Target, choosers: Choosers = DEFAULTS) -> CudaCode:
    """
    The kernels and the launch plan of a module; its parameters get the layouts that these read.
    The schedules of kernels are those of `choosers`.

    Raises UnsupportedError for an op of @main without a kernel. A @step that has one is left out,
    and `CudaCode.without_step` says why.
    """
    check_counts(module.operation)
    lowered = lower_to_launches(module, target.machine, choosers)
    constants: dict[str, np.ndarray] = {}
    functions = {"main": read_function(lowered, "main", constants)}
    refused = None
    if _has_step(lowered):
        try:
            functions["step"] = read_function(lowered, "step", constants)
        except UnsupportedError as error:
            refused = error
    _take_layouts(module, lowered)
    return replace(code_of(lowered, target.machine, functions, constants), without_step=refused)


def code_of(
    lowered: ir.Module,
    machine: str,
    functions: dict[str, Function],
    constants: dict[str, np.ndarray],
) -> CudaCode:
    """The functions that were read off a module of launches, with the sources of its kernels."""
    launches = [
        step for each in functions.values() for step in each.steps if isinstance(step, LaunchStep)
    ]
    sources = emit_sources(lowered, {launch.kernel for launch in launches})
    tensors = {
        buffer.name
        for each in functions.values()
        for buffer in each.buffers
        if buffer.place == "tensor"
    }
    families = tuple(source.family for source in sources)
    plan = Plan(machine, functions, tuple(sorted(tensors)), families)
    return CudaCode(plan, tuple(sources), constants)


def _has_step(module: ir.Module) -> bool:
    try:
        entry_function(module, STEP)
    except KeyError:
        return False
    return True


def _take_layouts(module: ir.Module, lowered: ir.Module) -> None:
    """Parameters are stored as the kernels of the lowered module read them."""
    stored = {
        symbol: {qcc.layout_of(parameter.operation) for parameter in parameters}
        for symbol, parameters in parameters_by_symbol(lowered.operation).items()
    }
    for symbol, parameters in parameters_by_symbol(module.operation).items():
        layouts = stored.get(symbol, {None})
        if len(layouts) > 1:
            raise UnsupportedError(
                "cuda-layouts",
                f"kernels want parameter '{symbol}' in several orders",
                why=", ".join(sorted(map(str, layouts))),
                next_step="give the layers that share it the same activation format",
            )
        for parameter in parameters:
            _set_layout(parameter, next(iter(layouts)))


def _set_layout(parameter: qcc.ParamOp, layout: str | None) -> None:
    attributes = parameter.operation.attributes
    if layout is not None:
        attributes[qcc.LAYOUT_ATTRIBUTE] = ir.StringAttr.get(layout, parameter.operation.context)
    elif qcc.LAYOUT_ATTRIBUTE in attributes:
        del attributes[qcc.LAYOUT_ATTRIBUTE]
