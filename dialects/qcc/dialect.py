"""The `qcc` dialect: tensors that carry a number format, and the ops that consume them."""

from ..bindings import ext, ir
from ..errors import QccError
from ..formats import Format, parse_spelling


class Qcc(ext.Dialect, name="qcc"):
    """Reduced-precision tensor programs; ops speak builtin tensors and `!qcc.packed`."""


class PackedType(Qcc.Type, name="packed"):
    """
    A tensor stored in a number format: `!qcc.packed<tensor<576x1536xf32>, "int4<group=32>">`.

    `logical` is the tensor it decodes to; `format` is the canonical spelling of the format, so
    a type names everything that a reader of the bytes must know.
    """

    logical: ir.TypeAttr
    format: ir.StringAttr


def packed(logical: ir.Type, spelling: str) -> ir.Type:
    """The packed type of `logical` in the format spelled `spelling`."""
    return PackedType.get(ir.TypeAttr.get(logical), ir.StringAttr.get(spelling))


def logical_type(type_: ir.Type) -> ir.RankedTensorType:
    """The tensor that `type_` denotes: itself, or what a packed type decodes to."""
    if is_packed(type_):
        return ir.RankedTensorType(ir.TypeAttr(ir.DynamicType(type_).params[0]).value)
    return ir.RankedTensorType(type_)


def is_packed(type_: ir.Type) -> bool:
    return str(type_).startswith("!qcc.packed<")


def format_spelling(type_: ir.Type) -> str | None:
    """The format of a packed type, None for a plain tensor."""
    if not is_packed(type_):
        return None
    return ir.StringAttr(ir.DynamicType(type_).params[1]).value


def format_of(value: ir.Value) -> Format:
    """The format of a packed value; QccError for a spelling that no verifier has seen."""
    spelling = format_spelling(value.type)
    assert spelling is not None
    return parse_spelling(spelling)


def format_is_known(location: ir.Location, type_: ir.Type) -> bool:
    """Verifier part: the spelling inside a packed type parses."""
    spelling = format_spelling(type_)
    if spelling is None:
        return True
    try:
        parse_spelling(spelling)
    except QccError as error:
        location.emit_error(f"{error.what}; `qcc list formats` names the known ones")
        return False
    return True
