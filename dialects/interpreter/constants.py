"""The values of constant attributes as arrays."""

import re

import numpy as np

from ..bindings import ir
from ..errors import UnsupportedError
from .element_types import Array, dtype_of

NUMBER = re.compile(r"0x[0-9A-Fa-f]+|-?\d[\d.]*(?:[eE][+-]?\d+)?")
BLOB = re.compile(r': "0x([0-9A-Fa-f]*)"')
BLOB_HEADER = 4  # bytes: the blob's alignment, written before its contents


def constant_array(attribute: ir.Attribute) -> Array:
    """The value of a typed scalar or elements attribute; raises UnsupportedError on others."""
    if isinstance(attribute, ir.BoolAttr):
        return np.asarray(attribute.value, np.bool_)
    if isinstance(attribute, ir.IntegerAttr | ir.FloatAttr):
        return np.asarray(attribute.value).astype(dtype_of(attribute.type))
    if isinstance(attribute, ir.DenseElementsAttr):
        return dense_array(attribute)
    if str(attribute).startswith("dense_resource<"):
        return resource_array(attribute)
    raise UnsupportedError("constant-kind", f"the constant {str(attribute)[:80]} has no reading")


def dense_array(attribute: ir.DenseElementsAttr) -> Array:
    type_ = ir.ShapedType(attribute.type)
    dtype, shape = dtype_of(type_), tuple(type_.shape)
    if attribute.is_splat:
        return np.broadcast_to(constant_array(attribute.get_splat_value()), shape)
    if dtype.type.__module__ == "numpy":
        return np.array(attribute).reshape(shape).astype(dtype, copy=False)
    return small_float_array(str(attribute), dtype).reshape(shape)


def small_float_array(text: str, dtype: np.dtype) -> Array:
    """Elements of `dense<…>` for the float types whose bits the bindings do not hand out."""
    body = text[len("dense<") : text.rindex("> : ")]
    if body.startswith('"0x'):
        return np.frombuffer(bytes.fromhex(body[3:-1]), dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    words = NUMBER.findall(body)
    values = np.array([0.0 if word.startswith("0x") else float(word) for word in words])
    array = values.astype(dtype)
    for position, word in enumerate(words):
        if word.startswith("0x"):
            array.view(bits)[position] = int(word, 16)
    return array


def resource_array(attribute: ir.Attribute) -> Array:
    """
    The contents of a `dense_resource`, by way of text.

    The bindings hand out no resource bytes, but print them in hexadecimal behind a module.
    """
    type_ = ir.DenseResourceElementsAttr(attribute).type
    location = ir.Location.unknown(attribute.context)
    module = ir.Module.create(location)
    with ir.InsertionPoint(module.body), location:
        ir.Operation.create("arith.constant", results=[type_], attributes={"value": attribute})
    found = BLOB.search(module.operation.get_asm())
    if found is None:
        raise UnsupportedError("constant-resource", f"{attribute} has no contents in this module")
    shape = tuple(ir.ShapedType(type_).shape)
    data = bytes.fromhex(found.group(1))[BLOB_HEADER:]
    if str(ir.ShapedType(type_).element_type) == "i1":
        return resource_bits(data, shape)
    return np.frombuffer(data, dtype_of(type_)).reshape(shape)


def resource_bits(data: bytes, shape: tuple[int, ...]) -> Array:
    """Booleans of a resource: a byte each, or packed eight to a byte."""
    count = int(np.prod(shape))
    raw = np.frombuffer(data, np.uint8)
    if raw.size != count:
        raw = np.unpackbits(raw, bitorder="little")[:count]
    return raw.astype(np.bool_).reshape(shape)
