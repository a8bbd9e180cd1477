"""
Roundings of activations become linalg, which is fused with what makes the activations.

    q = qcc.quantize x : int8              m = max |x| over each row
    y = qcc.linear (codes of q), w    =>   codes = code of x over the scale of m;  scale of m

    v = qcc.dequantize q                   v = what decoding the code of x would give

The arithmetic is that of the formats' encoders (dialects/rounding), scales and zero points are the
very numbers. Values that are not finite become NaN. Blocks that do not divide a row are filled up
with zeros, which change no scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir, tensor
from ..dialects.errors import UnsupportedError
from ..dialects.formats import Format, parse_spelling
from ..dialects.formats.definition import Integer
from ..dialects.regions import walk
from ..dialects.rounding.blocks import encoded, rounded
from ..dialects.rounding.elements import keep_non_finite
from ..dialects.rounding.scales import (
    Extent,
    Scaling,
    derive_scaling,
    second_level_scale,
    static_numbers,
    static_scaling,
)
from ..dialects.rounding.values import Val, absolute, f32, float_to_signed, i32, scalar, truncate
from ..dialects.source_line import source_line
from .elementwise import Axes, empty, filled, generic, widened
from .elementwise import rounded as to_element

BYTE, NIBBLE = 8, 4
WORD_CODES = 8
CAST = "builtin.unrealized_conversion_cast"


def expand_roundings(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if isinstance(op, qcc.QuantizeOp):
            with ir.InsertionPoint(op), op.location:
                _expand(op)


def _expand(op: qcc.QuantizeOp) -> None:
    fmt = _format(op)
    users = [use.owner for use in op.codes.uses]
    decoded = [user for user in users if isinstance(user, qcc.DequantizeOp)]
    rounding = _Rounding.of(op, fmt)
    if decoded:
        value = rounding.values()
        for user in decoded:
            user.value.replace_all_uses_with(value)
            user.operation.erase()
    if len(decoded) < len(users):
        op.codes.replace_all_uses_with(_packed(op, rounding))
    op.operation.erase()


def _format(op: qcc.QuantizeOp) -> Format:
    """Raises UnsupportedError for a format that activations cannot be rounded to."""
    spelling = qcc.format_spelling(op.codes.type)
    assert spelling is not None
    fmt = parse_spelling(spelling)
    searched = [scale for scale in fmt.block_scales if scale.rule == "clip" and scale.reads_values]
    if searched:
        raise UnsupportedError(
            "cuda-rounding", f"no kernel rounds activations to {spelling}",
            where=source_line(op.location), why="its clip is searched in the values of a tensor",
            next_step="give the clip as a number, or choose another format for activations",
        )  # fmt: skip
    return fmt


def _packed(op: qcc.QuantizeOp, rounding: _Rounding) -> ir.Value:
    """
    The parts of a packed value, for kernels that read them by name.

    Codes are a byte each, however few bits they have, or pairs of them; rows are not padded.
    """
    fmt = rounding.format
    roles = list(fmt.part_specs(1, rounding.shape[-1]))
    if fmt.bits > BYTE:
        raise UnsupportedError(
            "cuda-rounding", f"no kernel stores activations in {fmt.spelling}",
            where=source_line(op.location), why="only codes of at most eight bits are stored",
            next_step="choose a format of at most eight bits",
        )  # fmt: skip
    codes = _laid_out(rounding.codes(), fmt, qcc.layout_of(op.operation))
    made = [codes if role == fmt.code_part else rounding.part(role) for role in roles]
    return ir.Operation.create(CAST, results=[op.codes.type], operands=made).results[0]


def _laid_out(codes: ir.Value, fmt: Format, layout: str | None) -> ir.Value:
    """As the layout of a `qcc.quantize` says (dialects/qcc/storage.py)."""
    if layout is None:
        return codes
    pairs = layout in (qcc.PAIRS, qcc.PAIRED_PIXELS, qcc.PAIRED_PIXEL_BLOCKS)
    if isinstance(fmt.element, Integer) and fmt.element.signed:
        codes = _signed(codes, fmt.bits, NIBBLE if pairs else BYTE)
    if layout in (qcc.PIXELS, qcc.PAIRED_PIXELS):
        codes = _channels_last(codes)
    if channels := qcc.BLOCK_CHANNELS.get(layout):
        codes = _in_blocks(codes, qcc.BLOCK_IMAGES, channels)
    return paired(codes) if pairs else codes


def _signed(codes: ir.Value, bits: int, wider: int) -> ir.Value:
    """Codes of two's complement in so many more bits, the rest of the byte zeros."""
    if bits == wider:
        return codes
    element = ir.RankedTensorType(codes.type).element_type
    axes = range(ir.RankedTensorType(codes.type).rank)

    def body(code: ir.Value) -> ir.Value:
        spare = arith.constant(element, BYTE - bits)
        whole = arith.shrsi(arith.shli(code, spare), spare)
        if wider == BYTE:
            return whole
        return arith.andi(whole, arith.constant(element, (1 << wider) - 1))

    return generic([(codes, axes)], (empty(codes, axes, element), axes), body)


def _channels_last(codes: ir.Value) -> ir.Value:
    """[N, C, H, W] to [N, H, W, C]."""
    element = ir.RankedTensorType(codes.type).element_type
    pixels = empty(codes, (0, 2, 3, 1), element)
    return generic([(codes, (0, 3, 1, 2))], (pixels, range(4)), lambda code: code)


def _in_blocks(codes: ir.Value, n: int, c: int) -> ir.Value:
    """[N, C, H, W] to [N / n, C / c, H, W, n, c]."""
    kind = ir.RankedTensorType(codes.type)
    images, channels, *extents = kind.shape
    shape = [images // n, n, channels // c, c, *extents]
    cut = _expanded(codes, shape, [[0, 1], [2, 3], [4], [5]])
    blocks = empty(cut, (0, 2, 4, 5, 1, 3), kind.element_type)
    return generic([(cut, (0, 4, 1, 5, 2, 3))], (blocks, range(6)), lambda code: code)


def paired(codes: ir.Value) -> ir.Value:
    """
    Two codes of 4 bits in a byte along the last axis, the first one lower.

    Words of eight codes where they divide the axis, so that a thread stores four bytes.
    """
    kind = ir.RankedTensorType(codes.type)
    if kind.shape[-1] % WORD_CODES == 0:
        return _joined(codes, WORD_CODES, ir.IntegerType.get_signless(NIBBLE * WORD_CODES))
    if kind.shape[-1] % 2:
        codes = _filled_up(codes, 1)
    return _joined(codes, 2, kind.element_type)


def _joined(codes: ir.Value, count: int, element: ir.Type) -> ir.Value:
    """`count` neighbours of 4 bits in an integer, the first one lowest."""
    kind = ir.RankedTensorType(codes.type)
    groups, axes = _cut(codes, count), range(kind.rank)
    shape = [*ir.RankedTensorType(groups.type).shape[:-1], 1]
    column = ir.RankedTensorType.get(shape, kind.element_type)
    parts = [(_part(groups, column, index), [*axes, None]) for index in range(count)]

    def body(*given: ir.Value) -> ir.Value:
        wide = [code if code.type == element else arith.extui(element, code) for code in given]
        joined = wide[0]
        for index, code in enumerate(wide[1:], 1):
            moved = arith.shli(code, arith.constant(element, NIBBLE * index))
            joined = arith.ori(joined, moved)
        return joined

    return generic(parts, (empty(groups, axes, element), axes), body)


@dataclass
class _Rounding:
    """
    A tensor in the shape of its blocks: the axes `rows` number them, the others are inside.

    `shape` is that of the tensor itself, whose last axis is longer by `spare` in `source`.
    """

    format: Format
    source: ir.Value
    shape: Sequence[int]
    rows: int
    spare: int = 0
    numbers: Sequence[float] | None = None

    @staticmethod
    def of(op: qcc.QuantizeOp, fmt: Format) -> _Rounding:
        kind = ir.RankedTensorType(op.source.type)
        tensor_range, rank = qcc.tensor_range_of(op), kind.rank
        numbers = None if tensor_range is None else static_numbers(fmt, tensor_range)
        block = fmt.block_size
        if block == "tensor":
            return _Rounding(fmt, op.source, kind.shape, 0, 0, numbers)
        if not isinstance(block, int):
            return _Rounding(fmt, op.source, kind.shape, rank - 1, 0, numbers)
        spare = -kind.shape[-1] % block
        whole = _filled_up(op.source, spare) if spare else op.source
        return _Rounding(fmt, _cut(whole, block), kind.shape, rank, spare, numbers)

    @property
    def rank(self) -> int:
        return ir.RankedTensorType(self.source.type).rank

    # ---- what is asked for

    def values(self) -> ir.Value:
        kind = ir.RankedTensorType(self.source.type).element_type

        def body(x: Val, scaling: Scaling) -> Val:
            return keep_non_finite(x, rounded(self.format, x, scaling))

        return self._whole(self._each(body, kind))

    def codes(self) -> ir.Value:
        byte = ir.IntegerType.get_signless(BYTE)
        return self._whole(
            self._each(lambda x, scaling: truncate(encoded(self.format, x, scaling), byte), byte)
        )

    def part(self, role: str) -> ir.Value:
        """Scales or zero points of the blocks, or of the whole tensor, as stored."""
        extents = self._extents
        rows = range(self.rows)
        _, stored = self.format.part_specs(1, 1)[role]
        kind = f32() if stored == np.float32 else ir.IntegerType.get_signless(BYTE)

        def body(*given: ir.Value) -> ir.Value:
            value = self._stored(self._scaling(given), role)
            return (value if stored == np.float32 else truncate(value, kind)).ssa

        return generic(
            [(each, axes) for each, axes in extents],
            (empty(self.source, rows, kind), rows),
            body,
        )

    def _stored(self, scaling: Scaling, role: str) -> Val:
        """A number of a block before it is cut to its bytes."""
        if role == "zero_point":
            assert scaling.zero_point is not None
            return float_to_signed(scaling.zero_point, i32())
        if self._level is not None and role == self._level.role:
            raise ValueError(f"{role} belongs to the tensor")
        roles = [scale.role for scale in self.format.block_scales]
        return scaling.factors[roles.index(role)].stored

    # ---- how

    def _each(self, change: Callable[[Val, Scaling], Val], kind: ir.Type) -> ir.Value:
        """`change` of each element and the scaling of its block."""
        axes = range(self.rank)
        extents = self._extents

        def body(x: ir.Value, *given: ir.Value) -> ir.Value:
            value = Val(widened(x, f32()))
            result = change(value, self._scaling(given)).ssa
            return result if isinstance(kind, ir.IntegerType) else to_element(result, kind)

        return generic(
            [(self.source, axes), *extents], (empty(self.source, axes, kind), axes), body
        )

    @cached_property
    def _extents(self) -> list[tuple[ir.Value, Axes]]:
        """What the scales of blocks are derived from: extents of the tensor, then of the block."""
        found: list[tuple[ir.Value, Axes]] = []
        if self._needs_tensor:
            found += [(each, ()) for each in self._reduced(0)]
        if self._needs_blocks:
            found += [(each, range(self.rows)) for each in self._reduced(self.rows)]
        return found

    @property
    def _level(self) -> Any:
        return self.format.second_level

    @property
    def _needs_tensor(self) -> bool:
        return self.numbers is None and self._level is not None and self._level.reads_values

    @property
    def _needs_blocks(self) -> bool:
        static = self.numbers is not None and self.format.block_size == "tensor"
        return not static and any(scale.reads_values for scale in self.format.block_scales)

    @property
    def _sides(self) -> int:
        """Extents of a block: one for both signs, or one for each."""
        return 1 if self.format.symmetric_extent and not self.format.splits_signs else 2

    def _reduced(self, rows: int) -> list[ir.Value]:
        """The largest magnitudes, or those below and above zero, over the axes from `rows` on."""
        if self._sides == 1:
            return [self._largest(absolute, rows)]
        return [self._largest(lambda x: -x, rows), self._largest(lambda x: x, rows)]

    def _largest(self, side: Callable[[Val], Val], rows: int) -> ir.Value:
        start = filled(self.source, range(rows), f32(), 0.0)

        def body(x: ir.Value, most: ir.Value) -> ir.Value:
            return arith.maxnumf(side(Val(widened(x, f32()))).ssa, most)

        axes = range(self.rank)
        return generic([(self.source, axes)], (start, range(rows)), body, self.rank)

    def _scaling(self, given: Sequence[ir.Value]) -> Scaling:
        """Of a block, from what `_extents` gives."""
        values = [Val(each) for each in given]
        tensor_scale = None
        if self._level is not None:
            tensor_scale = self._tensor_scale(values)
        if self.numbers is not None and self.format.block_size == "tensor":
            numbers = self.numbers
            return static_scaling(self.format, lambda index: scalar(numbers[index]))
        extent = self._extent(values) if self._needs_blocks else Extent(scalar(0.0), scalar(0.0))
        return derive_scaling(self.format, extent, tensor_scale)

    def _tensor_scale(self, values: list[Val]) -> Val:
        if self.numbers is not None:
            return scalar(self.numbers[0])
        extent = Extent(scalar(0.0), scalar(0.0))
        if self._needs_tensor:
            extent = self._extent(values)
            del values[: self._sides]
        return second_level_scale(self.format, self._level, extent)

    def _extent(self, values: list[Val]) -> Extent:
        return Extent(values[0], values[self._sides - 1])

    def _whole(self, blocks: ir.Value) -> ir.Value:
        """Rows without blocks, and without what was filled up."""
        if self.rank == len(self.shape):
            return blocks
        rank, kind = len(self.shape), ir.RankedTensorType(blocks.type)
        groups = [[axis] for axis in range(rank - 1)] + [[rank - 1, rank]]
        shape = [*kind.shape[: rank - 1], self.shape[-1] + self.spare]
        joined = ir.RankedTensorType.get(shape, kind.element_type)
        whole = tensor.collapse_shape(joined, blocks, _reassociation(groups))
        if not self.spare:
            return whole
        sizes = [*kind.shape[: rank - 1], self.shape[-1]]
        return _part(whole, ir.RankedTensorType.get(sizes, kind.element_type))


def _reassociation(groups: Sequence[Sequence[int]]) -> ir.ArrayAttr:
    number = ir.IntegerType.get_signless(64)
    return ir.ArrayAttr.get(
        [ir.ArrayAttr.get([ir.IntegerAttr.get(number, n) for n in group]) for group in groups]
    )


def _dynamic(value: ir.Value) -> list[ir.Value]:
    kind = ir.RankedTensorType(value.type)
    axes = [axis for axis in range(kind.rank) if kind.is_dynamic_dim(axis)]
    return [tensor.dim(value, arith.constant(ir.IndexType.get(), axis)) for axis in axes]


def _cut(value: ir.Value, block: int) -> ir.Value:
    """The last axis as blocks: [..., K] to [..., K / block, block]."""
    kind = ir.RankedTensorType(value.type)
    shape = [*kind.shape[:-1], kind.shape[-1] // block, block]
    rank = kind.rank
    return _expanded(value, shape, [[axis] for axis in range(rank - 1)] + [[rank - 1, rank]])


def _expanded(value: ir.Value, shape: list[int], groups: Sequence[Sequence[int]]) -> ir.Value:
    """Axes cut in several: which ones become each of its axes."""
    kind = ir.RankedTensorType(value.type)
    return ir.Operation.create(
        "tensor.expand_shape",
        results=[ir.RankedTensorType.get(shape, kind.element_type)],
        operands=[value, *_dynamic(value)],
        attributes={
            "reassociation": _reassociation(groups),
            "static_output_shape": ir.DenseI64ArrayAttr.get(shape),
        },
    ).results[0]


def _filled_up(value: ir.Value, spare: int) -> ir.Value:
    """The last axis `spare` zeros longer."""
    kind = ir.RankedTensorType(value.type)
    shape = [*kind.shape[:-1], kind.shape[-1] + spare]
    high = [0] * (kind.rank - 1) + [spare]
    is_float = isinstance(kind.element_type, ir.FloatType)
    zero = arith.constant(kind.element_type, 0.0 if is_float else 0)
    op = ir.Operation.create(
        "tensor.pad",
        results=[ir.RankedTensorType.get(shape, kind.element_type)],
        operands=[value],
        attributes={
            "static_low": ir.DenseI64ArrayAttr.get([0] * kind.rank),
            "static_high": ir.DenseI64ArrayAttr.get(high),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0]),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(*[ir.IndexType.get()] * kind.rank)
    with ir.InsertionPoint(block):
        ir.Operation.create("tensor.yield", operands=[zero])
    return op.results[0]


def _part(value: ir.Value, kind: ir.RankedTensorType, start: int = 0) -> ir.Value:
    """The part of a tensor that has the shape of `kind`, from `start` along the last axis on."""
    ones = [1] * kind.rank
    sizes = _dynamic(value)
    return ir.Operation.create(
        "tensor.extract_slice",
        results=[kind],
        operands=[value, *sizes],
        attributes={
            "static_offsets": ir.DenseI64ArrayAttr.get([0] * (kind.rank - 1) + [start]),
            "static_sizes": ir.DenseI64ArrayAttr.get(list(kind.shape)),
            "static_strides": ir.DenseI64ArrayAttr.get(ones),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, len(sizes), 0]),
        },
    ).results[0]
