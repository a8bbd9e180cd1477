"""What a report says of layers on DPUs, and of what stayed on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...codegen.upmem.program import UpmemCode

COLUMNS = (
    "layer", "tokens", "method", "p", "residency", "DPUs", "launch ms", "kernel ms",
    "transfer ms", "DMA bytes", "LUT bytes", "mJ",
)  # fmt: skip


def upmem_report(code: object) -> dict[str, Any] | None:
    """The fields of report_data.Upmem; None of other code."""
    if not isinstance(code, UpmemCode):
        return None
    plan = code.plan
    return {
        "device": plan.device.name,
        "emulator": code.rung,
        "dpus": plan.dpus,
        "load_ms": plan.load_ms,
        "milliseconds": plan.milliseconds,
        "step_milliseconds": plan.step_milliseconds,
        "layers": plan.report(),
        "host": [{"op": name, "reason": reason} for name, reason in plan.host],
    }


def layer_rows(layers: Sequence[Any]) -> list[dict[str, Any]]:
    """Layers of report_data as rows of a table of text."""
    return [
        dict(
            zip(
                COLUMNS,
                (
                    each.layer, each.for_tokens, each.method, each.p, each.residency, each.dpus,
                    f"{each.launch_ms:.3f}", f"{each.kernel_ms:.3f}",
                    f"{each.to_dpu_ms + each.from_dpu_ms:.3f}",
                    each.dma_bytes, each.lut_bytes, f"{each.joules * 1e3:.2f}",
                ),
                strict=True,
            )
        )
        for each in layers
    ]  # fmt: skip


def host_rows(host: Sequence[Any]) -> list[dict[str, Any]]:
    """How many ops stayed on the host, by reason."""
    counts: dict[str, int] = {}
    for each in host:
        counts[each.reason] = counts.get(each.reason, 0) + 1
    return [{"ops": count, "reason": reason} for reason, count in counts.items()]
