"""Types of the torch dialect and the builtin tensors they stand for."""

import re

from .bindings import ir

_VTENSOR = re.compile(r"!torch\.vtensor<\[(?P<sizes>[^\]]*)\],(?P<element>\w+(<\w+>)?)>")


def builtin_tensor_type(type_: ir.Type) -> ir.RankedTensorType:
    """
    `!torch.vtensor<[2,?],si64>` → `tensor<2x?xi64>`: the type torch_c bridges it to.

    The bindings do not expose the parameters of torch's types, so its text is read. Raises
    ValueError for a type without known rank or element type.
    """
    match = _VTENSOR.fullmatch(str(type_))
    if match is None:
        raise ValueError(f"{type_} is not a ranked torch tensor")
    dynamic = ir.ShapedType.get_dynamic_size()
    sizes = [size for size in match["sizes"].split(",") if size]
    shape = [dynamic if size == "?" else int(size) for size in sizes]
    signed = match["element"]  # the builtin type of an integer has no sign
    element = signed[1:] if signed[1:2] == "i" else signed
    return ir.RankedTensorType.get(shape, ir.Type.parse(element))


def is_tensor(type_: ir.Type) -> bool:
    return _VTENSOR.fullmatch(str(type_)) is not None
