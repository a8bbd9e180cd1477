"""
The `pim` dialect: what DPUs hold and compute, and how the host feeds them.

Registers are `i32` and wrap. Elements in memory are `si8`, `ui8`, `si16`, `ui16`, `si32`, `ui32`;
a load extends them, a store truncates. Offsets and counts are in elements, row-major.
"""

from math import prod

from ..bindings import ext, ir

ELEMENT_BYTES = {"si8": 1, "ui8": 1, "si16": 2, "ui16": 2, "si32": 4, "ui32": 4}


class Pim(ext.Dialect, name="pim"):
    """Kernels of UPMEM DPUs (spec pim.md)."""


class MramType(Pim.Type, name="mram"):
    """An array of one DPU in its MRAM, row-major: `!pim.mram<tensor<96x256xui8>>`."""

    tensor: ir.TypeAttr


class WramType(Pim.Type, name="wram"):
    """A buffer in WRAM: `!pim.wram<tensor<8x256xsi32>, "shared">`, or "private" to a tasklet."""

    tensor: ir.TypeAttr
    scope: ir.StringAttr


class DpusType(Pim.Type, name="dpus"):
    """A set of DPUs: `!pim.dpus<64>`."""

    count: ir.IntegerAttr


def mram_of(shape: list[int], element: str) -> ir.Type:
    return MramType.get(_tensor_attr(shape, element))


def wram_of(shape: list[int], element: str, scope: str) -> ir.Type:
    return WramType.get(_tensor_attr(shape, element), ir.StringAttr.get(scope))


def dpus_type(count: int) -> ir.Type:
    return DpusType.get(ir.IntegerAttr.get(ir.IntegerType.get_signless(64), count))


def is_pim(type_: ir.Type, kind: str) -> bool:
    return str(type_).startswith(f"!pim.{kind}<")


def tensor_of(type_: ir.Type) -> ir.RankedTensorType:
    """The tensor in a pim type."""
    return ir.RankedTensorType(ir.TypeAttr(ir.DynamicType(type_).params[0]).value)


def scope_of(type_: ir.Type) -> str:
    return ir.StringAttr(ir.DynamicType(type_).params[1]).value


def dpus_of(type_: ir.Type) -> int:
    return ir.IntegerAttr(ir.DynamicType(type_).params[0]).value


def element_of(type_: ir.Type) -> str:
    """The element of a pim type by name."""
    return str(tensor_of(type_).element_type)


def known_element(type_: ir.Type) -> bool:
    tensor = tensor_of(type_)
    return tensor.has_static_shape and str(tensor.element_type) in ELEMENT_BYTES


def elements(type_: ir.Type) -> int:
    return prod(tensor_of(type_).shape)


def element_bytes(type_: ir.Type) -> int:
    return ELEMENT_BYTES[element_of(type_)]


def size_of(type_: ir.Type) -> int:
    """
    Bytes of an array, padded to whole units of DMA.

    As C lays them out, so that budgets are those of the emitted program.
    """
    return -(-elements(type_) * element_bytes(type_) // 8) * 8


def _tensor_attr(shape: list[int], element: str) -> ir.TypeAttr:
    return ir.TypeAttr.get(ir.RankedTensorType.get(shape, ir.Type.parse(element)))
