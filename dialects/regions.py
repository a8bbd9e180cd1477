"""Walking the ops of nested regions."""

from __future__ import annotations

from typing import Any


def walk(region: Any) -> list[Any]:
    """All ops inside a region, outer ones first."""
    found = []
    for block in region.blocks:
        for op in block.operations:
            found.append(op)
            for inner in op.operation.regions:
                found += walk(inner)
    return found
