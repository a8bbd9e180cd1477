"""
Decode programs derived from what a format's codes mean, each proven over all codes.

A rule looks at the table of values alone, so a format that nobody thought of decodes as well as
the built-in ones. Rules are tried in order; what a rule proposes counts only if it equals the
table, rounded once to the operand type, for every code at every place of a word.

    affine      integers: the code is or-ed into the mantissa of a number whose unit it is, and
                that number subtracted; in bytes, the code stands in the upper bits
    nibbles     integers of 8 bits in bf16: the same for each half of the code
    minifloat   sign and magnitude are moved to where the operand type has them
    nested      two byte planes are merged
    table       a pair of codes indexes shared memory; in bytes, codes select bytes of registers
    stored      operands of 4 bits are the codes themselves
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError
from ..formats import Format
from ..formats.definition import Nested
from ..formats.packets import ORDERS
from .decode_bytes import BYTE_RULES, NIBBLE_RULES
from .decode_nested import nested, nested_question
from .decode_program import Builder, DecodeProgram, decode
from .decode_question import Question
from .decode_words import WORD_RULES
from .operand_types import OPERAND_TYPES

ZEROS_EVERYWHERE = 9
"""Zero points tried at every place; the first place sees all of them."""
AFFINE_ERROR = 2.0**-22
"""Of the largest value: levels computed in fp32 keep this close to their evenly spaced ideals."""


def decode_program(fmt: Format, operand: str) -> DecodeProgram:
    """
    The program that turns codes of `fmt` into elements of `operand`, scales left out.

    Raises UnsupportedError where the type cannot hold the values.
    """
    if isinstance(fmt.element, Nested) and operand == "f16":
        return nested_program()
    values = fmt.element_values()
    shifted = fmt.zero_point_codes() if fmt.zero_point is not None else None
    program = _derived(
        values.tobytes(), None if shifted is None else shifted.tobytes(), fmt.zero_point, operand
    )
    if program is None:
        raise UnsupportedError(
            "decode-unrepresentable",
            f"the codes of {fmt.spelling} have no exact form in {operand}",
            why=f"its {1 << fmt.bits} values are neither integers, minifloats nor a short table "
            f"that {operand} holds" + (", less the zero points" if shifted is not None else ""),
            next_step="use activations of bf16, which have the exponents of fp32"
            if operand == "f16"
            else "use 16-bit activations, to which any table is decoded",
        )
    return program


@cache
def nested_program() -> DecodeProgram:
    """The program of nested halves, whose codes here are both their bytes."""
    question = nested_question()
    program = proof(question, nested(question))
    assert program is not None
    return program


@lru_cache(maxsize=256)
def _derived(
    values: bytes, shifted: bytes | None, zero_point: str | None, operand: str
) -> DecodeProgram | None:
    table = np.frombuffer(values, np.float32).astype(np.float64)
    flags = None if shifted is None else np.frombuffer(shifted, np.bool_)
    question = Question(table, OPERAND_TYPES[operand], flags, _zero_points(zero_point, len(table)))
    for rule in RULES[question.operand.bits]:
        program = rule(question)
        if program is not None and (proven := proof(question, program)) is not None:
            return proven
    return None


def stored(question: Question) -> DecodeProgram | None:
    """Codes of four bits as they are: each word is a register."""
    if question.bits != question.operand.bits or question.shifted is not None:
        return None
    build = Builder(ORDERS["mma4"], question.bits, question.operand)
    return build.finished("stored", [f"w{each}" for each in range(build.registers)], factor=1.0)


RULES = {16: WORD_RULES, 8: BYTE_RULES, 4: (stored, *NIBBLE_RULES)}
"""By the bits of the operands."""


def proof(question: Question, program: DecodeProgram) -> DecodeProgram | None:
    """
    The program with its measured error, or None unless it decodes every code at every place.

    Each code is tried at every place, beside neighbours of all zeros and of all ones.
    """
    codes = np.flatnonzero(np.isfinite(question.values))
    values = _meaning(question, codes)
    with np.errstate(over="ignore"):
        expected = program.operand.rounded(values / program.factor)
    held = expected * program.factor
    bound = AFFINE_ERROR * np.abs(question.values[codes]).max(initial=0)
    if program.rule == "table" and question.operand.bits == 16:
        bound = np.abs(values) * 2.0 ** -(question.operand.mantissa + 1)  # one rounding
    if not (np.abs(held - values) <= bound).all():
        return None
    some = np.unique(np.linspace(0, len(question.zeros) - 1, ZEROS_EVERYWHERE).astype(int))
    everywhere = list(range(program.registers * program.order.per_register))
    for places, zeros in ((everywhere, some), (everywhere[:1], np.arange(len(question.zeros)))):
        found = _decoded(program, codes, question.zeros[zeros], places)
        if not (found == expected[:, zeros] if values.shape[1] > 1 else found == expected).all():
            return None
    nonzero = values != 0
    error = np.abs(held - values)[nonzero] / np.abs(values[nonzero])
    return replace(program, error=float(error.max(initial=0)))


def _meaning(question: Question, codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Values [codes, zero points]."""
    values = question.values[codes][:, None]
    if question.shifted is None:
        return values
    return values - question.shifted[codes][:, None] * question.zeros


def _decoded(
    program: DecodeProgram,
    codes: NDArray[np.intp],
    zeros: NDArray[np.float64],
    places: list[int],
) -> NDArray[np.float64]:
    """[places, fills, codes, zeros]: each code at each place of a unit, neighbours filled."""
    shape = program.registers, program.order.per_register
    fills = np.array([0, (1 << program.bits) - 1])
    every = np.empty((*shape, len(places), 2, len(codes), 1), np.int64)
    every[:] = fills[:, None, None]
    where = [divmod(place, shape[1]) for place in places]
    for index, (register, element) in enumerate(where):
        every[register, element, index, :, :, 0] = codes
    halves = np.broadcast_to(zeros, (2, 1, 1, 1, len(zeros)))
    found = decode(program, every, halves if program.offsets else None)
    return np.stack([found[r, e, index] for index, (r, e) in enumerate(where)])


def _zero_points(kind: str | None, codes: int) -> NDArray[np.float64]:
    if kind is None:
        return np.zeros(1)
    return np.arange(codes, dtype=np.float64) - (codes // 2 if kind == "int8" else 0)
