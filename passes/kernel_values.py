"""Types, attributes and copies that kernels of linear layers are written with."""

from __future__ import annotations

from collections.abc import Sequence

from ..dialects import tile
from ..dialects.bindings import ir
from ..dialects.tile.dialect import fragment_of, global_of, shared_of


def integer(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def element_type(name: str) -> ir.Type:
    return ir.Type.parse(name)


def global_tensor(shape: list[int], element: str) -> ir.Type:
    return global_of(ir.RankedTensorType.get(shape, element_type(element)))


def shared_tile(shape: list[int], element: str, order: str) -> ir.Type:
    return shared_of(ir.RankedTensorType.get(shape, element_type(element)), order)


def copied(
    source: ir.Value,
    offsets: list[ir.Value],
    divisors: list[int],
    cache: str,
    kind: ir.Type,
    groups: Sequence[int] = (),
) -> ir.Value:
    by, padded = ir.DenseI64ArrayAttr.get(divisors), ir.DenseI64ArrayAttr.get(list(groups))
    return tile.CopyOp(source, offsets, by, ir.StringAttr.get(cache), kind, groups=padded).tile


def fragment(shape: list[int], element: str, role: str) -> ir.Type:
    return fragment_of(ir.RankedTensorType.get(shape, element_type(element)), role)
