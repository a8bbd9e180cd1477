"""Rings of stages with mbarriers in shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...dialects.tile.dialect import BARRIER_BYTES
from .printer import Printer

RING_BEGIN = "int k = first, stage = 0, phase = 0"


def declare_rings(out: Printer, rings: dict[str, int], place: int, stages: int) -> None:
    """A barrier for each stage by name, and how many arrivals complete a phase of it."""
    for number, name in enumerate(rings):
        at = place + number * BARRIER_BYTES * stages
        out.line(f"const Shared<u64> {name}({at}, {stages});")
    with out.block("if (thread == 0)"):
        with out.loop("stage", stages) as stage:
            for name, arrivals in rings.items():
                out.line(f"mbarrier_init({name}.at({stage}), {arrivals});")
        out.line("fence_mbarrier_init();")
    out.line("sync_threads();")


@contextmanager
def ring(
    out: Printer, stages: int, step: int, begin: str = RING_BEGIN,
    last: str = "last", phased: bool = True,
) -> Iterator[None]:  # fmt: skip
    """A loop over the steps of K, with the stage of each and, if any, the phase of its barriers."""
    with out.block(f"for ({begin}; k < {last}; k += {step})"):
        yield
        if phased:
            out.line(f"if (++stage == {stages}) stage = 0, phase ^= 1;")
        else:
            out.line(f"stage = stage == {stages - 1} ? 0 : stage + 1;")
