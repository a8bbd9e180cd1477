"""
How long a sequence may be, where a model numbers positions and looks them up in a table.

What torch.export knows of a size may allow more than the table has rows; compiled code would then
give NaN. The reference interpreter computes the indices on small inputs of zeros, and then on
inputs of the length at which they should leave the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
import numpy as np

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.errors import QccError
from ..dialects.interpreter import interpret
from .element_types import numpy_dtype
from .layers import entry_function
from .manifest import Signature
from .pack import Parameter, parameters_of

SMALL = 2


def with_position_limits(signature: Signature, module: ir.Module) -> Signature:
    """`signature` with a maximum for each size that tables of positions limit."""
    tables = [op for op in _embeddings(module) if not isinstance(op.indices.owner, ir.Block)]
    if not tables or not signature.dims:
        return signature
    dims = {
        name: msgspec.structs.replace(extent, max=_limit(signature, module, name))
        for name, extent in signature.dims.items()
    }
    return msgspec.structs.replace(signature, dims=dims)


def _limit(signature: Signature, module: ir.Module, name: str) -> int | None:
    """The largest size `name` with which every index is inside its table, or as large as known."""
    sizes = {other: max(extent.min, SMALL) for other, extent in signature.dims.items()}
    size, limit = sizes[name], signature.dims[name].max
    if limit is not None and limit <= size:
        return limit
    first, second = (_indices(signature, module, sizes | {name: size + i}) for i in (0, 1))
    for (rows, low), (_, high) in zip(first, second, strict=False):
        most = size + (rows - 1 - low) // (high - low) if high > low else limit
        if most is None or (limit is not None and most >= limit):
            continue
        # Some indices, such as those of buckets of distances, grow at first only.
        beyond = _indices(signature, module, sizes | {name: most + 1})
        if any(index >= rows for rows, index in beyond):
            limit = most
    return limit


class _Enough(Exception):
    """All embeddings were seen."""


def _indices(
    signature: Signature, module: ir.Module, sizes: Mapping[str, int]
) -> list[tuple[int, int]]:
    """(rows, largest index) of each embedding on zeros of these sizes; none if refused."""
    inputs = [
        np.zeros(
            [sizes.get(n, SMALL) if isinstance(n, str) else n for n in value.shape], value.dtype
        )
        for value in signature.inputs
    ]
    parameters = {parameter.symbol: parameter for parameter in parameters_of(module)}
    wanted, found = len(_embeddings(module)), list[tuple[int, int]]()

    def observe(op: Operation, operands: Sequence[np.ndarray]) -> None:
        if op.name == "qcc.embedding":
            found.append((operands[0].shape[0], int(operands[1].max(initial=0))))
            if len(found) == wanted:
                raise _Enough

    with suppress(_Enough, QccError):  # Sizes that the model itself refuses have no limit here.
        interpret(module, inputs, lambda symbol: _zeros(parameters[symbol]), observe=observe)
    return found


def _zeros(parameter: Parameter) -> np.ndarray:
    dtype = np.dtype(np.float32) if parameter.format else numpy_dtype(parameter.element)
    return np.broadcast_to(np.zeros((), dtype), parameter.shape)


def _embeddings(module: ir.Module) -> list[qcc.EmbeddingOp]:
    operations = entry_function(module).regions[0].blocks[0].operations
    return [op for op in operations if isinstance(op, qcc.EmbeddingOp)]
