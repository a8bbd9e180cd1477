"""The targets that `qcc compile --target` takes: a name and what it produces."""

from __future__ import annotations

from ..dialects.errors import UnsupportedError

TARGETS = {
    "cpu": "x86-64 object code through LLVM, multi-threaded, weights decoded inside the kernels",
}

PLANNED = ("cuda", "upmem")


def require_target(name: str) -> None:
    """Raises UnsupportedError for any but the TARGETS of this version."""
    if name in TARGETS:
        return
    planned = any(name.lower().startswith(each) for each in PLANNED)
    raise UnsupportedError(
        "target-planned" if planned else "target-unknown",
        f"this version of qcc has no target '{name}'",
        why=f"{' and '.join(PLANNED)} are planned" if planned else "",
        next_step=f"use --target {' or '.join(TARGETS)}, the default",
    )
