"""What the processor that compiles or runs can do, as LLVM names it."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm


@cache
def host_features() -> tuple[str, ...]:
    """The features that this processor has and an object may use, sorted."""
    return tuple(sorted(name for name, present in llvm.get_host_cpu_features().items() if present))


def missing_features(needed: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `needed` that this processor lacks."""
    have = set(host_features())
    return tuple(name for name in needed if name not in have)
