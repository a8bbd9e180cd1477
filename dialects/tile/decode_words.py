"""Rules that decode to operands of 16 bits, f16 and bf16."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..formats.packets import ORDERS, WordPlane
from .decode_program import AND_XOR, TABLE_STRIDE, Builder, DecodeProgram, Offset
from .decode_question import Affine, Question, Segment, affine_form, gathered, new_shifts

LONGEST_CODE = 8
LONGEST_PAIR = 4
"""Codes of more bits are looked up one by one: their pairs would not fit shared memory."""


def affine(question: Question) -> DecodeProgram | None:
    """
    2**m + code * 2**s by or-ing the code into the mantissa (m bits) of 2**m, less 2**m and middle.

    A field inside a word need not be shifted to bit 0 if it stands low enough: a multiplication
    by 2**-s takes the place of the shift (spec §4.4).
    """
    form = _usable(question)
    if form is None or question.bits > question.operand.mantissa:
        return None
    build = Builder(ORDERS["mma16"], question.bits, question.operand)
    offsets: list[Offset] = []
    outputs = []
    for register in range(build.registers):
        shift = _best_shift(build, register, form, question)
        if shift is None:
            return None
        outputs.append(_integer(build, register, form, shift, question, offsets))
    return build.finished("affine", outputs, factor=form.step, offsets=tuple(offsets))


def _usable(question: Question) -> Affine | None:
    if not question.whole or question.partly_shifted:
        return None
    form = affine_form(question.values)
    if form is None or (question.shifted is not None and form.step != 1):
        return None
    return form


def _best_shift(build: Builder, register: int, form: Affine, question: Question) -> int | None:
    """Where in the mantissa to leave the code: with the fewest new shifts, then at the bottom."""
    operand = question.operand
    base = 2.0**operand.mantissa
    fits = [
        shift
        for shift in range(operand.mantissa - question.bits + 1)
        if all(operand.holds(base * 2.0**-shift + form.middle + zero) for zero in question.zeros)
    ]
    return min(
        fits,
        key=lambda shift: (
            new_shifts(build, register, [Segment(0, question.bits, shift)]),
            shift,
        ),
        default=None,
    )


def _integer(
    build: Builder,
    register: int,
    form: Affine,
    shift: int,
    question: Question,
    offsets: list[Offset],
) -> str:
    operand, base = question.operand, 2.0**question.operand.mantissa
    magic = operand.repeated(base) & 0xFFFF
    raised = gathered(
        build, register, [Segment(0, question.bits, shift)], magic ^ form.flip << shift
    )
    offset = Offset(-(base * 2.0**-shift + form.middle), -1)
    if question.shifted is None:
        minus: str | int = operand.repeated(offset.base)
    else:
        minus = offset_name(offsets, offset, register)
    if shift == 0:
        return build("add", raised, minus)
    return build("fma", raised, operand.repeated(2.0**-shift), minus)


def offset_name(offsets: list[Offset], offset: Offset, register: int) -> str:
    """The argument for this register, whose half of the rows is bit 1 of its number."""
    if offset not in offsets:
        offsets.append(offset)
    return f"offset{offsets.index(offset)}_{register >> 1 & 1}"


def nibbles(question: Question) -> DecodeProgram | None:
    """Each half of an 8-bit code as in `affine`, where the mantissa is too short for all of it."""
    form, operand = _usable(question), question.operand
    if form is None or question.bits <= operand.mantissa:
        return None
    build = Builder(ORDERS["mma16"], question.bits, operand)
    base, low_bits = 2.0**operand.mantissa, question.bits // 2
    magic = operand.repeated(base) & 0xFFFF
    offsets: list[Offset] = []
    outputs = []
    for register in range(build.registers):
        low = gathered(build, register, [Segment(0, low_bits, 0)], magic)
        high_segment = Segment(low_bits, question.bits - low_bits, 0)
        high = gathered(build, register, [high_segment], magic ^ form.flip >> low_bits)
        low = build("add", low, operand.repeated(-base))
        step = 2.0**low_bits
        high = build("fma", high, operand.repeated(step), operand.repeated(-base * step))
        code = build("add", high, low)
        offset = Offset(-form.middle, -1)
        dynamic = question.shifted is not None
        minus = offset_name(offsets, offset, register) if dynamic else operand.repeated(offset.base)
        outputs.append(code if not dynamic and form.middle == 0 else build("add", code, minus))
    return build.finished("nibbles", outputs, factor=form.step, offsets=tuple(offsets))


def minifloat(question: Question) -> DecodeProgram | None:
    """
    The magnitude's bits where the operand has them, the sign on top, times a power of two.

    The power goes into the scale where the operand's small numbers are numbers like others; bf16
    reaches down so far that its products would underflow, and is multiplied at once.
    """
    smallest = question.values[1] if len(question.values) > 1 else 0.0
    if question.shifted is not None or not question.operand.is_float:
        return None
    if not 0 < smallest < np.inf:
        return None
    for mantissa in range(min(question.bits - 1, question.operand.mantissa + 1)):
        program = _minifloat(question, mantissa, float(smallest))
        if program is not None:
            return program
    return None


def _minifloat(question: Question, mantissa: int, smallest: float) -> DecodeProgram | None:
    operand, bits = question.operand, question.bits
    unit = 2.0 ** (1 - operand.bias - mantissa)
    if not _reads_as(question, mantissa, smallest / unit):
        return None
    order = ORDERS["mma16" if operand.bits == 16 else "mma8"]
    build = Builder(order, bits, operand)
    segments = [
        Segment(0, bits - 1, operand.mantissa - mantissa),
        Segment(bits - 1, 1, operand.bits - 1),
    ]
    outputs = [gathered(build, register, segments) for register in range(build.registers)]
    factor = smallest / unit
    if operand.name == "bf16" and factor != 1:
        if not operand.holds(factor):
            return None
        outputs = [build("multiply", each, operand.repeated(factor)) for each in outputs]
        factor = 1.0
    return build.finished("minifloat", outputs, factor=factor)


def _reads_as(question: Question, mantissa: int, factor: float) -> bool:
    """Whether the codes, moved to the operand's places, are the values over `factor`."""
    operand, bits = question.operand, question.bits
    codes = np.arange(1 << bits, dtype=np.uint32)
    magnitude = (codes & ((1 << (bits - 1)) - 1)) << np.uint32(operand.mantissa - mantissa)
    if (magnitude >> (operand.bits - 1)).any():
        return False
    moved = magnitude | (codes >> (bits - 1)) << np.uint32(operand.bits - 1)
    values = operand.split(moved.astype(np.uint32))[:, 0]
    finite = np.isfinite(question.values)
    with np.errstate(invalid="ignore"):
        return np.array_equal(values[finite] * factor, question.values[finite])


def table(question: Question) -> DecodeProgram | None:
    """
    Entries of a table in shared memory, a copy in each bank: one read for the codes of a register.

    Where some codes only have a zero point subtracted, a second table says which. Values beyond
    the operand's range, or below its normal numbers, are brought near its upper end first.
    """
    operand, bits = question.operand, question.bits
    if bits > LONGEST_CODE:
        return None
    factor = _factor(question)
    at_once = operand.per_register if bits <= LONGEST_PAIR else 1
    build = Builder(ORDERS["mma16_pairs" if at_once > 1 else "mma16"], bits, operand)
    entries = _entries(build, question.values / factor, at_once)
    offsets: list[Offset] = []
    outputs = []
    for register in range(build.registers):
        value = _looked_up(build, register, at_once, 0)
        if question.shifted is not None:
            which = _looked_up(build, register, at_once, len(entries))
            minus = offset_name(offsets, Offset(0, -1), register)
            value = build("fma", which, minus, value)
        outputs.append(value)
    if question.shifted is not None:
        entries = entries + _entries(build, question.shifted.astype(np.float64), at_once)
    return build.finished(
        "table", outputs, factor=factor, offsets=tuple(offsets), table=tuple(entries)
    )


def _factor(question: Question) -> float:
    """A power of two that the values are divided by; 1 where the operand holds them as they are."""
    sizes = np.abs(question.values[np.isfinite(question.values)])
    sizes = sizes[sizes > 0]
    highest = 2.0**question.operand.bias
    fits = not sizes.size or (sizes.max() < highest and sizes.min() >= 2 / highest)
    if fits or question.shifted is not None:
        return 1.0
    return 2.0 ** (np.floor(np.log2(sizes.max())) + 1) / highest


def _entries(build: Builder, values: np.ndarray, at_once: int) -> list[int]:
    """Registers (or single elements) by index: the parts of all codes, plane after plane."""
    operand = build.empty.operand
    finite = np.where(np.isfinite(values), values, 0)
    index = np.arange(1 << (build.empty.bits * at_once))
    codes = np.zeros((len(index), at_once), np.int64)
    taken = 0
    for plane in build.empty.planes:
        for element in range(at_once):
            part = (index >> taken) & ((1 << plane.bits) - 1)
            codes[:, element] |= part << plane.low
            taken += plane.bits
    decoded = operand.rounded(finite[codes])
    padded = np.zeros((len(index), operand.per_register))
    padded[:, :at_once] = decoded
    return [int(each) for each in operand.joined(padded)]


def _looked_up(build: Builder, register: int, at_once: int, first: int) -> str:
    parts = [
        build("lookup", _index(build, register, element, at_once, first))
        for element in range(0, build.empty.operand.per_register, at_once)
    ]
    return parts[0] if len(parts) == 1 else build("permute", *parts, 0x5410)


def _index(build: Builder, register: int, element: int, at_once: int, first: int) -> str:
    result: str | int = first << TABLE_STRIDE
    for target, plane in _index_places(build, at_once):
        word, bit = build.empty.place(plane, register, element)
        mask = ((1 << plane.bits * at_once) - 1) << target
        moved = build.moved(word, bit - target)
        result = (
            build("and", moved, mask)
            if result == 0
            else build("lop3", moved, mask, result, AND_XOR)
        )
    assert isinstance(result, str)
    return result


def _index_places(build: Builder, at_once: int) -> Iterator[tuple[int, WordPlane]]:
    target = TABLE_STRIDE
    for plane in build.empty.planes:
        yield target, plane
        target += plane.bits * at_once


WORD_RULES: tuple[Callable[[Question], DecodeProgram | None], ...] = (
    affine,
    nibbles,
    minifloat,
    table,
)
