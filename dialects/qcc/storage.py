"""Ops that bring values in and move them between formats: param, quantize, dequantize."""

from typing import Any

from ..bindings import Operand, Operation, Result, ext, ir
from ..errors import QccError
from ..formats import Format, Range, parse_spelling
from ..formats.definition import Integer
from ..formats.stored import layout_refusal
from .dialect import Qcc, format_is_known, format_spelling, is_packed, logical_type, packed

LAYOUT_ATTRIBUTE = "layout"
PAIRS, INTEGERS = "pairs", "integers"
PIXELS, PAIRED_PIXELS = "pixels", "paired-pixels"
PIXEL_BLOCKS, PAIRED_PIXEL_BLOCKS = "pixel-blocks", "paired-pixel-blocks"
LAYOUTS = (PAIRS, INTEGERS, PIXELS, PAIRED_PIXELS, PIXEL_BLOCKS, PAIRED_PIXEL_BLOCKS)
BLOCK_IMAGES = 8
BLOCK_CHANNELS = {PIXEL_BLOCKS: 16, PAIRED_PIXEL_BLOCKS: 32}
"""Images and channels that layouts of blocks have side by side in a pixel: 128 bytes."""
NIBBLE = 4
TRANSPOSE = "^T"
"""Ends the symbol of a parameter that is the transpose of the model's parameter before it."""


class ParamOp(Qcc.Operation, name="param", traits=[ext.Pure]):
    """
    A parameter or buffer of the model, by name; its bytes live outside the IR.

    The result is a plain tensor, or `!qcc.packed` once the parameter has a format. `layout`, if
    there is one, says in what order the packed bytes are stored; the values are the same.
    """

    symbol: ir.StringAttr
    value: Result[Any]

    def verify_invariants(self) -> bool:
        return format_is_known(self.location, self.value.type) and _layout_is_known(self.operation)


class QuantizeOp(Qcc.Operation, name="quantize", traits=[ext.Pure]):
    """
    codes, scales = encode(source) in the format of the result type, blocks along the last axis.

    Rounding, scale rule and clamping are the format's own. Without the attribute `range`, scales
    are computed from the very values of `source` (dynamic quantization). With
    `range = array<f32: least, most>`, scales and zero points of the whole tensor are those of a
    tensor with these extremes (static quantization), and values beyond saturate as the format
    does; scales of blocks inside still come from the values. What is NaN stays so and is no part
    of any scale; an infinity becomes NaN, as may all that share a scale with it.

    Kernels read codes a byte each. `layout` says otherwise: "integers" are the numbers that codes
    stand for, with their sign; "pairs" are codes of four bits, or integers of at most four, two in
    a byte, the first one lower. "pixels" and "paired-pixels" are the same of images
    [N, C, H, W], with the channels of a pixel side by side. "pixel-blocks" and
    "paired-pixel-blocks" have 128 bytes side by side, [N / n, C / c, H, W, n, c]: so many images
    and channels as BLOCK_IMAGES and BLOCK_CHANNELS say, of which N and C are known multiples.
    """

    # No field: ext knows no optional attributes.
    source: Operand[Any]
    codes: Result[Any]

    def verify_invariants(self) -> bool:
        if not is_packed(self.codes.type):
            self.location.emit_error("qcc.quantize must produce a !qcc.packed value")
            return False
        if logical_type(self.codes.type) != self.source.type:
            self.location.emit_error(
                f"quantized shape {logical_type(self.codes.type)} differs from {self.source.type}"
            )
            return False
        known = format_is_known(self.location, self.codes.type)
        return known and _attributes_known(self) and _range_fits(self) and _has_blocks(self)


class DequantizeOp(Qcc.Operation, name="dequantize", traits=[ext.Pure]):
    """value = decode(codes), exact: every code of every format is an fp32 value."""

    codes: Operand[Any]
    value: Result[Any]

    def verify_invariants(self) -> bool:
        if format_spelling(self.codes.type) is None:
            self.location.emit_error("qcc.dequantize needs a !qcc.packed operand")
            return False
        if logical_type(self.codes.type) != self.value.type:
            self.location.emit_error(
                f"decoded shape {logical_type(self.codes.type)} differs from {self.value.type}"
            )
            return False
        return True


def quantized(source: ir.Value, spelling: str, tensor_range: Range | None = None) -> ir.Value:
    """The codes of a new `qcc.quantize` at the current insertion point."""
    op = QuantizeOp(source, packed(source.type, spelling))
    if tensor_range is not None:
        op.attributes["range"] = ir.DenseF32ArrayAttr.get(list(tensor_range))
    return op.codes


def rounding_of(value: ir.Value) -> Any:
    """The `qcc.quantize` whose codes `value` is decoded from, None of any other value."""
    decoded = value.owner
    if not isinstance(decoded, DequantizeOp):
        return None
    quantize = decoded.codes.owner
    return quantize if isinstance(quantize, QuantizeOp) else None


def tensor_range_of(quantize: Any) -> Range | None:
    """(least, most) of a static `qcc.quantize`, None of a dynamic one."""
    if "range" not in quantize.attributes:
        return None
    least, most = ir.DenseF32ArrayAttr(quantize.attributes["range"])
    return least, most


def _attributes_known(op: QuantizeOp) -> bool:
    """Verifier part: no others than `range` and `layout`, and the layout fits the codes."""
    unknown = [name for name in op.attributes if name not in ("range", LAYOUT_ATTRIBUTE)]
    if unknown:
        op.location.emit_error(
            f"qcc.quantize has no attribute '{unknown[0]}'; it may have 'range' and 'layout'"
        )
        return False
    layout, spelling = layout_of(op.operation), format_spelling(op.codes.type)
    assert spelling is not None
    reason = None if layout is None else _misfit(parse_spelling(spelling), layout)
    if reason is not None:
        op.location.emit_error(f"layout '{layout}' {reason}")
        return False
    return True


def _misfit(fmt: Format, layout: str) -> str | None:
    """Why codes of a format cannot be laid out so, or None."""
    if layout not in LAYOUTS:
        return f"is none of {', '.join(LAYOUTS)}"
    whole = isinstance(fmt.element, Integer) and fmt.element.offset == 0
    if layout == PAIRS and fmt.bits == NIBBLE:
        return None
    if not whole:
        return f"is for integers, not {fmt.spelling}"
    if layout in (PAIRS, PAIRED_PIXELS, PAIRED_PIXEL_BLOCKS) and fmt.bits > NIBBLE:
        return f"has no codes of {fmt.bits} bits"
    return None


def _has_blocks(op: QuantizeOp) -> bool:
    """Verifier part: images in blocks have whole ones."""
    layout = layout_of(op.operation)
    channels, kind = BLOCK_CHANNELS.get(layout or ""), ir.RankedTensorType(op.source.type)
    if channels is None or in_blocks(kind, channels):
        return True
    op.location.emit_error(f"{kind} are no blocks of {BLOCK_IMAGES} images x {channels} channels")
    return False


def in_blocks(kind: ir.RankedTensorType, channels: int) -> bool:
    """Whether images [N, C, H, W] are known to be whole blocks of so many channels."""
    if kind.rank != 4 or kind.is_dynamic_dim(0) or kind.is_dynamic_dim(1):
        return False
    return kind.shape[0] % BLOCK_IMAGES == 0 and kind.shape[1] % channels == 0


def _range_fits(op: QuantizeOp) -> bool:
    """Verifier part: the range, where there is one, is one that the format can use."""
    if "range" not in op.attributes:
        return True
    given, spelling = op.attributes["range"], format_spelling(op.codes.type)
    assert spelling is not None
    if not isinstance(given, ir.DenseF32ArrayAttr) or len(given) != 2:
        op.location.emit_error(f"range is {given}; it must be array<f32: least, most>")
        return False
    try:
        parse_spelling(spelling).tensor_scales((given[0], given[1]))
    except QccError as error:
        op.location.emit_error(f"range: {error.what}; {error.next_step}")
        return False
    return True


def layout_of(op: Operation) -> str | None:
    """The layout of a `qcc.param`, None for rows one after another; that of a `qcc.quantize`."""
    if LAYOUT_ATTRIBUTE not in op.attributes:
        return None
    return ir.StringAttr(op.attributes[LAYOUT_ATTRIBUTE]).value


def _layout_is_known(parameter: Operation) -> bool:
    layout = layout_of(parameter)
    if layout is None:
        return True
    type_ = parameter.results[0].type
    spelling = format_spelling(type_)
    if spelling is None:
        reason = f"{layout!r} is a layout of packed tensors, not of {type_}"
    else:
        reason = layout_refusal(parse_spelling(spelling), layout, tuple(logical_type(type_).shape))
    if reason is None:
        return True
    parameter.location.emit_error(f"qcc.param: {reason}")
    return False
