"""
A plan to C of the host, against dpu.h: what is loaded once, and a function for each layer.

Arrays are laid out as dialects/pim/layout.py lays them out, the bytes of one DPU after another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...dialects.pim.plan import Launched, Plan, Transfer
from .printer import Printer


def emit_host(plan: Plan, name: str) -> dict[str, str]:
    """The texts of `<name>.h` and `<name>.c`."""
    return {f"{name}.h": _header(plan, name), f"{name}.c": _source(plan, name)}


def identifier(text: str) -> str:
    """
    >>> identifier("encoder.layer.0.query"), identifier("0")
    ('encoder_layer_0_query', 'layer_0')
    """
    word = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"layer_{word}" if word[:1].isdigit() else word


def identifiers(plan: Plan) -> dict[str, str]:
    """The C name of each layer; those that would be alike are numbered."""
    found: dict[str, str] = {}
    taken = set[str]()
    for layer in plan.launched:
        first = word = identifier(layer.name)
        number = 2
        while word in taken:
            word, number = f"{first}_{number}", number + 1
        found[layer.name] = word
        taken.add(word)
    return found


def constants(plan: Plan) -> Iterator[tuple[str, Launched, Transfer]]:
    """What is brought once, and its name; tables that layers share come once."""
    seen, names = set[int](), identifiers(plan)
    for layer in plan.launched:
        for transfer in plan.transfers(layer):
            if transfer.once and transfer.offset not in seen:
                seen.add(transfer.offset)
                yield f"{names[layer.name]}_{transfer.array}", layer, transfer


def programs(plan: Plan) -> list[str]:
    """The files of the kernels, in the order of their first use."""
    return list(dict.fromkeys(program_file(layer) for layer in plan.launched))


def program_file(layer: Launched) -> str:
    return f"{layer.kernel}.dpu"


# ---- the header


def _header(plan: Plan, name: str) -> str:
    out, guard = Printer(), f"{identifier(name).upper()}_H"
    device = plan.device.name
    files = ", ".join(programs(plan))
    out.comment(
        f"{len(plan.launched)} layers on {plan.dpus} DPUs {device}; programs: {files}.",
        "Arrays hold the bytes of the first DPU, then those of the second, and so on.",
    )
    out.line(f"#ifndef {guard}")
    out.line(f"#define {guard}")
    out.line()
    out.line("#include <qcc_host.h>")
    out.line()
    out.comment("What stays in MRAM from call to call.")
    out.line(f"struct {name}_constants {{")
    for each, layer, transfer in constants(plan):
        out.line(f"    const void *{each}; /* {_extent(layer, transfer)} */")
    out.line("};")
    out.line()
    for declaration in (
        _open(name),
        _load(name),
        *(_run(plan, name, each) for each in plan.launched),
    ):
        out.line(f"{declaration};")
    out.line()
    out.line("#endif")
    return out.text()


def _extent(layer: Launched, transfer: Transfer) -> str:
    if transfer.kind == "broadcast":
        return f"{transfer.length} bytes, the same for all"
    return f"{layer.dpus} x {transfer.length} bytes"


def _open(name: str) -> str:
    return f"dpu_error_t {name}_open(struct qcc_dpus *dpus)"


def _load(name: str) -> str:
    return (
        f"dpu_error_t {name}_load(struct qcc_dpus *dpus, const struct {name}_constants *constants)"
    )


def _run(plan: Plan, name: str, layer: Launched) -> str:
    parameters = ", ".join(
        f"{'void' if each.kind == 'gather' else 'const void'} *{each.array}"
        for each in plan.transfers(layer)
        if not each.once
    )
    return (
        f"dpu_error_t {name}_{identifiers(plan)[layer.name]}(struct qcc_dpus *dpus, {parameters})"
    )


# ---- the source


def _source(plan: Plan, name: str) -> str:
    out = Printer()
    out.line(f'#include "{name}.h"')
    out.line()
    with out.block(_open(name)):
        out.line("dpus->program = NULL;")
        out.line(f"return dpu_alloc({plan.dpus}, NULL, &dpus->set);")
    out.line()
    out.comment("Tables and weights to MRAM, once.")
    with out.block(_load(name)):
        out.line(f'QCC_TRY(qcc_use(dpus, "{programs(plan)[0]}"));')
        for each, layer, transfer in constants(plan):
            out.line(f"QCC_TRY({_transfer(layer, transfer, f'constants->{each}')});")
        out.line("return DPU_OK;")
    for layer in plan.launched:
        out.line()
        _write_layer(out, plan, name, layer)
    return out.text()


def _write_layer(out: Printer, plan: Plan, name: str, layer: Launched) -> None:
    out.comment(*layer.summary)
    offsets = [str(plan.offsets[layer.name, array]) for array in layer.sizes]
    with out.block(_run(plan, name, layer)):
        out.comment(f"Of {', '.join(layer.sizes)}.")
        out.line(f"static const uint32_t offsets[] = {{{', '.join(offsets)}}};")
        out.line(f'QCC_TRY(qcc_use(dpus, "{program_file(layer)}"));')
        moved = [each for each in plan.transfers(layer) if not each.once]
        for transfer in moved:
            if transfer.kind != "gather":
                out.line(f"QCC_TRY({_transfer(layer, transfer, transfer.array)});")
        out.line("QCC_TRY(qcc_launch(dpus, offsets, sizeof offsets));")
        for transfer in moved:
            if transfer.kind == "gather":
                out.line(f"QCC_TRY({_transfer(layer, transfer, transfer.array)});")
        out.line("return DPU_OK;")


def _transfer(layer: Launched, transfer: Transfer, data: str) -> str:
    place = f"{transfer.offset}, {data}, {transfer.length}"
    if transfer.kind == "broadcast":
        return f"qcc_broadcast(dpus, {place})"
    verb = "gather" if transfer.kind == "gather" else "scatter"
    return f"qcc_{verb}(dpus, {layer.dpus}, {place})"
