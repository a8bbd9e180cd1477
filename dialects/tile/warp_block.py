"""
The state of a warp kernel that runs in NumPy: the values of one block, those of all warps at once.

Every fragment is an array of three axes, those that its role lacks of length 1, and a number that
differs from warp to warp has shape [warps, 1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bindings import ir
from .dialect import note_of, tensor_of
from .operand_types import OPERAND_TYPES

Array = NDArray[Any]


@dataclass
class Block:
    """What the values of one block are while it runs; `tile` is the shape inside of `tile.each`."""

    warps: int
    place: dict[str, Any]
    meanings: Mapping[str, Callable[[Block, Any], Any]]
    values: dict[Any, Any] = field(default_factory=dict)
    tile: tuple[int, ...] = ()

    def run(self, block: Any) -> list[Any]:
        """Run the ops of a region's block; returns what its terminator gives."""
        for op in block.operations:
            name = op.operation.name
            if name in ("tile.yield", "scf.yield", "tile.return"):
                return [self.values[value] for value in op.operation.operands]
            made = self.meanings[name](self, op)
            results = list(op.operation.results)
            made = made if isinstance(made, list) else [made] * len(results)
            self.values.update(zip(results, made, strict=True))
        return []

    def get(self, value: Any) -> Any:
        return self.values[value]

    def number(self, value: Any) -> Array:
        """A number of each warp [warps]."""
        return np.broadcast_to(np.asarray(self.values[value]).reshape(-1), (self.warps,))


def shape_of(type_: ir.Type) -> tuple[int, ...]:
    return tuple(tensor_of(type_).shape)


def whole_shape(type_: ir.Type) -> tuple[int, int, int]:
    """The three axes of a fragment."""
    warps, *rest = shape_of(type_)
    rows, columns = {"one": (1, 1), "rows": (*rest, 1), "columns": (1, *rest)}.get(
        note_of(type_), tuple(rest)
    )
    return warps, rows, columns


def rounded(values: Array, kind: str) -> Array:
    """What an operand of this type holds of fp32 values."""
    return np.asarray(OPERAND_TYPES[kind].rounded(values.astype(np.float64)))
