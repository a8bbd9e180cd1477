"""
NestedFP's halves out of two byte planes: three operations take back what rounding added.

With a byte U of the upper and L of the lower plane, and d the upper bit of L (formats.md §3.1),

    high byte of the half = sign of U | ((U - d) >> 1) & 0x3f       low byte = L

for four halves at once; two permutations then pair the bytes.
"""

from __future__ import annotations

import numpy as np

from ..formats.nested import split_halves
from ..formats.packets import NESTED_BYTES
from .decode_program import AND_OR, Builder, DecodeProgram
from .decode_question import Question
from .operand_types import OPERAND_TYPES

SIGNS, CHECKS, BODIES = 0x80808080, 0x01010101, 0x3F3F3F3F
FIRST_PAIR, SECOND_PAIR = 0x5140, 0x7362
LARGEST = 0x3F80  # bits of 1.875: from here on planes are not unique


def nested_question() -> Question:
    """What codes U << 8 | L mean; those that no half is stored as mean nothing."""
    magnitudes = np.arange(LARGEST, dtype=np.uint16)
    halves = np.concatenate([magnitudes, magnitudes | 0x8000]).astype(np.uint16)
    upper, lower = split_halves(halves)
    values = np.full(1 << 16, np.nan)
    values[upper.astype(np.intp) << 8 | lower] = halves.view(np.float16)
    return Question(values, OPERAND_TYPES["f16"], None, np.zeros(1))


def nested(question: Question) -> DecodeProgram:
    """Words of four bytes: those of two registers, of the upper and of the lower plane."""
    build = Builder(NESTED_BYTES, 16, question.operand)
    outputs: list[str] = []
    for half in range(2):
        lower, upper = (build.empty.place(plane, 2 * half, 0)[0] for plane in build.empty.planes)
        sign = build("and", upper, SIGNS)
        rounded = build("and", build("shift_right", lower, 7), CHECKS)
        body = build("shift_right", build("subtract", upper, rounded), 1)
        high = build("lop3", body, BODIES, sign, AND_OR)
        outputs += [build("permute", lower, high, pair) for pair in (FIRST_PAIR, SECOND_PAIR)]
    return build.finished("nested", outputs, factor=1.0)
