"""
The precisions of a program: one for each view that the formats of its weights offer.

All read the same stored tensors, or fewer of them; the first reads the formats as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..autotune.database import Store
from ..codegen.cpu.code import build_code
from ..dialects.bindings import ir
from ..dialects.pim.device import Device
from ..passes.assign_schedules import remove_schedules
from ..passes.select_view import ViewSelection, select_view
from .backends import AnyCode
from .cuda.binaries import with_binaries
from .cuda.build import build_cuda
from .manifest import DEFAULT_PRECISION, Precision
from .pack import Parameter, parameters_of
from .targets import Target
from .tuning.choices import Choice
from .tuning.stored_cuda_schedules import StoredCudaSchedules
from .tuning.stored_schedules import StoredSchedules
from .upmem.build import build_upmem

Stores = Sequence[tuple[str, Store]]
"""Of measurements, by name."""


@dataclass(frozen=True, slots=True)
class Program:
    """What runs in one precision: the module, its parameters as it reads them, and its code."""

    precision: Precision
    module: ir.Module
    parameters: list[Parameter]
    code: AnyCode
    schedules: tuple[Choice, ...] = ()
    """Of the layers, where a database was asked."""


def build_programs(
    module: ir.Module,
    target: Target,
    device: Device | None = None,
    stores: Stores = (),
) -> list[Program]:
    """
    Compile a module that has its formats, as it is and at each view of them.

    Layers take their schedules from `stores` where these have them. For DPUs, whose `device` is
    given, the module is compiled as it is only: kernels were chosen for its codes.
    """
    names = dict.fromkeys(
        name for each in parameters_of(module) if each.format for name in each.format.precisions
    )
    whole, *views = names or [DEFAULT_PRECISION.name]
    if device is not None:
        code = build_upmem(module, device, "rv32" if target.machine == "rv32" else "native")
        precision = Precision.whole(whole).for_upmem()
        return [Program(precision, module, parameters_of(module), code)]
    programs = [_program(Precision.whole(whole), module, target, stores)]
    for view in views:
        viewed = ir.Module.parse(module.operation.get_asm(), module.context)
        select_view(ViewSelection(view))(viewed.operation, None)
        remove_schedules(viewed.operation)
        programs.append(_program(Precision.of_view(view), viewed, target, stores))
    return programs


def _program(precision: Precision, module: ir.Module, target: Target, stores: Stores) -> Program:
    if target.family == "cpu":
        found = StoredSchedules(stores)
        choices = tuple(found.apply(module)) if found else ()
        return Program(precision, module, parameters_of(module), build_code(module), choices)
    stored = StoredCudaSchedules(stores)
    code = build_cuda(module, target, stored.choosers)
    if not target.emulated:
        code = with_binaries(code)
    choices = tuple(stored.choices)
    return Program(precision.for_cuda(), module, parameters_of(module), code, choices)
