"""Rules that decode to operands of 8 bits: i8, and the two kinds of fp8; and to i4."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..formats.packets import ORDERS
from .decode_program import AND_OR, Builder, DecodeProgram, Offset, Source
from .decode_question import Affine, Question, Segment, affine_form, gathered
from .decode_words import minifloat, offset_name

SIGN = 0x80
SIGNS = 0x80808080
BYTE, NIBBLES = 8, 4
ZERO = 0


def integers(question: Question) -> DecodeProgram | None:
    """
    A code in the upper bits of its byte, 2**(8 - bits) times its value, if half the codes are
    below zero (in nibbles too); else the code less the middle, in bytes that borrow nothing from
    one another.
    """
    if question.operand.is_float or question.bits > question.operand.bits:
        return None
    if not question.whole or question.partly_shifted:
        return None
    form = affine_form(question.values)
    if form is None or (question.shifted is not None and form.step != 1):
        return None
    if question.shifted is None and form.middle == 1 << (question.bits - 1):
        return _upper(question, form)
    return _lower(question, form) if question.operand.bits == BYTE else None


def _upper(question: Question, form: Affine) -> DecodeProgram:
    operand = question.operand
    shift = operand.bits - question.bits
    build = Builder(ORDERS[f"mma{operand.bits}"], question.bits, operand)
    flip = (form.flip ^ 1 << (question.bits - 1)) << shift
    segments = [Segment(0, question.bits, shift)]
    outputs = [gathered(build, each, segments, flip) for each in range(build.registers)]
    return build.finished("affine", outputs, factor=form.step / (1 << shift))


def _lower(question: Question, form: Affine) -> DecodeProgram | None:
    """128 + times * code, less times * middle (at most 128), with the upper bit turned over."""
    times = 1 if form.middle == int(form.middle) else 2
    largest = times * (len(question.values) - 1)
    middles = times * (form.middle + question.zeros)
    if largest >= SIGN or middles.min() < 0 or middles.max() > SIGN:
        return None
    build = Builder(ORDERS["mma8"], question.bits, question.operand)
    segments = [Segment(0, question.bits, times - 1)]
    offsets: list[Offset] = []
    outputs = []
    for register in range(build.registers):
        raised = gathered(build, register, segments, SIGN ^ form.flip * times)
        if question.shifted is None:
            minus: Source = question.operand.repeated(times * form.middle)
        else:
            minus = offset_name(offsets, Offset(times * form.middle, times), register)
        outputs.append(build("xor", build("subtract", raised, minus), SIGNS))
    return build.finished("affine", outputs, factor=form.step / times, offsets=tuple(offsets))


def table(question: Question) -> DecodeProgram | None:
    """Bytes of a table in registers, selected by the codes: eight entries to a permutation."""
    if question.bits > NIBBLES:
        return None
    factor = _step(question)
    if factor is None:
        return None
    scaled = np.where(np.isfinite(question.values), question.values, 0) / factor
    pairs = "_pairs" if question.bits == NIBBLES else ""
    build = Builder(ORDERS["mma8" + pairs], question.bits, question.operand)
    if question.shifted is None:
        entries = _bytes(question, scaled)
        outputs = _selected(build, entries)
        return build.finished("table", outputs, factor=factor)
    times = round(1 / factor)
    return _shifted(build, question, scaled.astype(np.int64), factor, times)


def _shifted(
    build: Builder, question: Question, scaled: NDArray[np.int64], factor: float, times: int
) -> DecodeProgram | None:
    """128 + entry, less the zero point where the code has one, with the upper bit turned over."""
    assert question.shifted is not None
    largest_zero = times * question.zeros.max()
    if question.operand.is_float or times * factor != 1 or question.zeros.min() < 0:
        return None
    lowest = np.where(question.shifted, scaled - largest_zero, scaled)
    if lowest.min() < -SIGN or scaled.max() >= SIGN:
        return None
    values = _selected(build, [(int(entry) + SIGN) & 0xFF for entry in scaled])
    marks = _selected(build, [0xFF * int(flag) for flag in question.shifted])
    offsets: list[Offset] = []
    outputs = []
    for register, (value, mark) in enumerate(zip(values, marks, strict=True)):
        zero = build("and", mark, offset_name(offsets, Offset(0, times), register))
        outputs.append(build("xor", build("subtract", value, zero), SIGNS))
    return build.finished("table", outputs, factor=factor, offsets=tuple(offsets))


def _step(question: Question) -> float | None:
    """The largest step of which all values are multiples that the operand type holds."""
    magnitudes = np.abs(question.values[np.isfinite(question.values)])
    smallest = magnitudes[magnitudes > 0].min(initial=np.inf)
    if not np.isfinite(smallest):
        return None
    for divisor in range(1, 17):
        step = float(smallest) / divisor
        multiples = magnitudes / step
        if np.array_equal(question.operand.rounded(multiples), multiples):
            return step
    return None


def _bytes(question: Question, values: NDArray[np.float64]) -> list[int]:
    one_each = np.zeros((len(values), question.operand.per_register))
    one_each[:, 0] = values
    return [int(each) & 0xFF for each in question.operand.joined(one_each)]


def _selected(build: Builder, entries: list[int]) -> list[str]:
    banks = [
        sum(byte << 8 * index for index, byte in enumerate(entries[first : first + 4]))
        for first in range(0, 16, 4)
    ]
    select = _from_sixteen if build.empty.bits == NIBBLES else _from_eight
    return [select(build, register, banks) for register in range(build.registers)]


def _from_sixteen(build: Builder, register: int, banks: list[int]) -> str:
    """
    Four codes lie in sixteen bits, as the selector of a permutation wants them but for bit 3.

    That bit, which would ask for a sign, chooses between the results of both banks.
    """
    (plane,) = build.empty.planes
    word, bit = build.empty.place(plane, register, 0)
    inside = build.moved(build("and", word, 0x77777777), bit)
    bank = build("lop3", build("shift_right", word, 1), 0x44444444, 0x32103210, AND_OR)
    low, high = (_of_eight(build, banks[first : first + 2], inside) for first in (0, 2))
    return build("permute", low, high, build.moved(bank, bit))


def _of_eight(build: Builder, banks: list[int], inside: str) -> Source:
    """The selected bytes of two registers; eight equal ones need no selection."""
    if banks[0] == banks[1] == (banks[0] & 0xFF) * 0x01010101:
        return banks[0]
    return build("permute", *banks, inside)


def _from_eight(build: Builder, register: int, banks: list[int]) -> str:
    """Codes in bytes, drawn together to a selector."""
    codes = gathered(build, register, [Segment(0, build.empty.bits, 0)])
    pairs = build("xor", codes, build("shift_right", codes, 4))
    return build("permute", banks[0], banks[1], build("permute", pairs, ZERO, 0x4420))


NIBBLE_RULES = (integers,)
BYTE_RULES: tuple[Callable[[Question], DecodeProgram | None], ...] = (integers, minifloat, table)
