"""Walking nested ops."""

from __future__ import annotations

from typing import Any


def walk(op: Any) -> list[Any]:
    """All ops inside an op or a module, outer ones first: a list, so that they may be erased."""
    found = []
    for region in op.operation.regions:
        for block in region.blocks:
            for child in block.operations:
                found.append(child)
                found += walk(child)
    return found
