"""
The precisions of a program: one for each view that the formats of its weights offer.

All read the same stored tensors, or fewer of them; the first reads the formats as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..codegen.cpu.code import build_code
from ..codegen.cpu.program import Code
from ..dialects.bindings import ir
from ..passes.select_view import ViewSelection, select_view
from .manifest import DEFAULT_PRECISION, Precision
from .pack import Parameter, parameters_of


@dataclass(frozen=True, slots=True)
class Program:
    """What runs in one precision: the module, its parameters as it reads them, and its code."""

    precision: Precision
    module: ir.Module
    parameters: list[Parameter]
    code: Code


def build_programs(module: ir.Module) -> list[Program]:
    """Compile a module that has its formats, as it is and at each view of them."""
    parameters = parameters_of(module)
    names = dict.fromkeys(
        name for each in parameters if each.format for name in each.format.precisions
    )
    whole, *views = names or [DEFAULT_PRECISION.name]
    programs = [Program(Precision.whole(whole), module, parameters, build_code(module))]
    for view in views:
        viewed = ir.Module.parse(module.operation.get_asm(), module.context)
        select_view(ViewSelection(view))(viewed.operation, None)
        programs.append(
            Program(Precision.of_view(view), viewed, parameters_of(viewed), build_code(viewed))
        )
    return programs
