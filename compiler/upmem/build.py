"""
Compiling for DPUs: a module with its formats → partition, plan, C for DPUs and for the host.

`place` is a pass over the module: what it makes is stored, and is what the reference interpreter
runs. What stays on the host becomes machine code that calls back for the layers of DPUs.
"""

from __future__ import annotations

from collections.abc import Callable

from ...codegen.cpu.code import build_code
from ...codegen.upmem.build_dpu import build_vendor
from ...codegen.upmem.dpu_program import DpuProgram
from ...codegen.upmem.emit_dpu import dpu_program
from ...codegen.upmem.emit_host import emit_host
from ...codegen.upmem.program import Rung, UpmemCode
from ...codegen.upmem.sources import DEVICE, HERE
from ...dialects.bindings import Operation, ir
from ...dialects.errors import UnsupportedError
from ...dialects.pim.device import Device
from ...dialects.pim.plan import Plan
from ...dialects.regions import walk
from ...passes.function_placement import FunctionPlacement
from ...passes.partition_pim import HOST_REASONS, Chooser, PimPartition, partition_pim
from ...passes.place_pim_functions import place_pim_functions
from ..cache_folder import cache_folder
from ..pack import parameters_of

HOST_NAME = "model"
HEADERS = (DEVICE / "qcc_dpu.h", HERE / "host" / "qcc_host.h")


def place(
    device: Device, tokens: int, choose: Chooser | None = None
) -> Callable[[Operation, object], None]:
    """
    The pass that takes integer linear layers to DPUs; ResourceError for one that fits none.

    `choose` gives each its schedule; by default it is searched for.
    """
    return partition_pim(PimPartition(device, tokens, choose=choose))


def place_functions(
    device: Device, tokens: int, functions: tuple[str, ...]
) -> Callable[[Operation, object], None]:
    """The pass that takes functions of numbers to DPUs; UsageError for others than there are."""
    return place_pim_functions(FunctionPlacement(device, functions, tokens))


def build_upmem(module: ir.Module, device: Device, rung: Rung) -> UpmemCode:
    """The code of a module that `place` went over; UnsupportedError where nothing was placed."""
    plan = Plan.of(module, device)
    if not plan.layers:
        raise _nothing_placed(plan)
    sources = {path.name: path.read_text() for path in HEADERS}
    sources |= emit_host(plan, HOST_NAME)
    kernels = {name: dpu_program(op) for name, op in kernels_of(module).items()}
    sources |= {f"{name}.c": program.source for name, program in kernels.items()}
    tensors = tuple(spec.name for each in parameters_of(module) for spec in each.specs())
    host = build_code(module)
    programs = _vendor_programs(kernels)
    return UpmemCode(module.operation.get_asm(), plan, host, rung, sources, tensors, programs)


def _vendor_programs(kernels: dict[str, DpuProgram]) -> dict[str, bytes]:
    """Programs for real DPUs, where the user has the vendor's compiler; QccError if it refuses."""
    folder = cache_folder("upmem")
    built = {name: build_vendor(program, folder) for name, program in kernels.items()}
    return {f"{name}.dpu": path.read_bytes() for name, path in built.items() if path}


def kernels_of(module: ir.Module) -> dict[str, Operation]:
    """The kernels of a module by name."""
    ops = walk(module)
    return {op.symbol.value: op for op in ops if op.operation.name == "pim.kernel"}


def _nothing_placed(plan: Plan) -> UnsupportedError:
    fixed = HOST_REASONS.values()  # those of no recipe come last
    found = sorted(plan.host, key=lambda each: each[1] in fixed)
    first = list(dict.fromkeys(f"{name}: {reason}" for name, reason in found))[:3]
    next_step = "compile for another target, as cpu"
    layers = [name for name, reason in found if reason not in fixed]
    if layers:
        rule = f'match = "{layers[0]}", weights = "int4", activations = "int4"'
        next_step = f"compile with --recipe w4a4, or with a rule for a layer: {rule}"
    return UnsupportedError(
        "upmem-nothing",
        "no layer of the model runs on DPUs",
        why="; ".join(first) or "it has no linear layers",
        next_step=next_step,
    )
