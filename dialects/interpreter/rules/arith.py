"""
`arith`: element by element on arrays of one dtype; integers wrap, i1 is arithmetic modulo 2.

`maximumf` and `minimumf` do not order the two zeros.
"""

from collections.abc import Callable

import numpy as np

from ...bindings import ir
from ..constants import constant_array
from ..element_types import Array, dtype_of, is_float, signed, signless, unsigned
from ..frame import Frame, Rule
from ..program import Step

Binary = Callable[[Array, Array], Array]

# cmpf predicates by number: does it hold for an unordered pair, and for an ordered one.
FLOAT_PREDICATES: tuple[tuple[bool, Binary | bool], ...] = (
    (False, False),
    (False, np.equal),
    (False, np.greater),
    (False, np.greater_equal),
    (False, np.less),
    (False, np.less_equal),
    (False, np.not_equal),
    (False, True),
    (True, np.equal),
    (True, np.greater),
    (True, np.greater_equal),
    (True, np.less),
    (True, np.less_equal),
    (True, np.not_equal),
    (True, False),
    (True, True),
)
INTEGER_PREDICATES: tuple[tuple[Binary, Callable[[Array], Array]], ...] = (
    (np.equal, signed),
    (np.not_equal, signed),
    (np.less, signed),
    (np.less_equal, signed),
    (np.greater, signed),
    (np.greater_equal, signed),
    (np.less, unsigned),
    (np.less_equal, unsigned),
    (np.greater, unsigned),
    (np.greater_equal, unsigned),
)


def predicate(step: Step) -> int:
    return ir.IntegerAttr(step.op.attributes["predicate"]).value


def compare_floats(step: Step, operands: list[Array], _: Frame) -> Array:
    left, right = operands
    unordered, ordered = FLOAT_PREDICATES[predicate(step)]
    is_unordered = np.isnan(left) | np.isnan(right)
    if isinstance(ordered, bool):
        return np.where(is_unordered, unordered, ordered)
    holds = np.asarray(ordered(left, right))
    return holds | is_unordered if unordered else holds & ~is_unordered


def compare_integers(step: Step, operands: list[Array], _: Frame) -> Array:
    holds, reading = INTEGER_PREDICATES[predicate(step)]
    return holds(reading(operands[0]), reading(operands[1]))


def elementwise(function: Callable[..., Array]) -> Rule:
    return lambda _step, operands, _frame: function(*operands)


def modular(function: Binary, on_bits: Binary) -> Rule:
    """A ring operation: on i1 it is the Boolean one."""

    def rule(_step: Step, operands: list[Array], _frame: Frame) -> Array:
        return (on_bits if operands[0].dtype.kind == "b" else function)(*operands)

    return rule


def reading(function: Callable[..., Array], read: Callable[[Array], Array]) -> Rule:
    """An operation on one reading of signless integers."""

    def rule(_step: Step, operands: list[Array], _frame: Frame) -> Array:
        return signless(function(*map(read, operands)), operands[0].dtype)

    return rule


def divide_toward_zero(left: Array, right: Array) -> Array:
    return (left - np.fmod(left, right)) // right


def divide_up(left: Array, right: Array) -> Array:
    quotient = left // right  # 0 where `right` is, as in every division
    return quotient + ((quotient * right != left) & (right != 0)).astype(left.dtype)


def cast(read: Callable[[Array], Array] | None = None) -> Rule:
    """A conversion to the result's type, rounding to nearest even; `read` of an integer source."""

    def rule(step: Step, operands: list[Array], _frame: Frame) -> Array:
        dtype = dtype_of(step.op.results[0].type)
        source = read(operands[0]) if read else operands[0]
        if is_float(dtype):
            return source.astype(dtype)
        return signless(source, dtype)

    return rule


def float_to_integer(step: Step, operands: list[Array], _frame: Frame) -> Array:
    """Toward zero; a value that the integer cannot hold is undefined."""
    dtype = dtype_of(step.op.results[0].type)
    wide = np.uint64 if step.name == "arith.fptoui" else np.int64
    return signless(np.trunc(operands[0]).astype(wide), dtype)


def bitcast(step: Step, operands: list[Array], _frame: Frame) -> Array:
    return (
        np.ascontiguousarray(operands[0])
        .view(dtype_of(step.op.results[0].type))
        .reshape(operands[0].shape)
    )


def add_with_carry(_step: Step, operands: list[Array], _frame: Frame) -> list[Array]:
    left, right = map(unsigned, operands)
    total = left + right
    return [signless(total, operands[0].dtype), total < left]


def unsigned_high(left: Array, right: Array) -> Array:
    """The upper half of a product of unsigned integers, by schoolbook digits of half a word."""
    word = left.dtype.type
    half = word(4 * left.dtype.itemsize)
    digit = word((1 << int(half)) - 1)
    low = (left & digit) * (right & digit)
    middle = (left >> half) * (right & digit) + (low >> half)
    cross = (left & digit) * (right >> half) + (middle & digit)
    return (left >> half) * (right >> half) + (middle >> half) + (cross >> half)


def wide_product(step: Step, operands: list[Array], _frame: Frame) -> list[Array]:
    """Low and high halves of a product, each in the operands' dtype."""
    left, right = operands
    high = unsigned_high(unsigned(left), unsigned(right)).view(left.dtype)
    if step.name == "arith.mulsi_extended":
        zero = left.dtype.type(0)
        high = high - np.where(left < 0, right, zero) - np.where(right < 0, left, zero)
    return [left * right, high]


def select(_step: Step, operands: list[Array], _frame: Frame) -> Array:
    return np.where(*operands)


def constant(step: Step, _operands: list[Array], _frame: Frame) -> Array:
    return constant_array(step.op.attributes["value"])


RULES: dict[str, Rule] = {
    "arith.constant": constant,
    "arith.select": select,
    "arith.cmpf": compare_floats,
    "arith.cmpi": compare_integers,
    "arith.addf": elementwise(np.add),
    "arith.subf": elementwise(np.subtract),
    "arith.mulf": elementwise(np.multiply),
    "arith.divf": elementwise(np.divide),
    "arith.remf": elementwise(np.fmod),
    "arith.negf": elementwise(np.negative),
    "arith.maximumf": elementwise(np.maximum),
    "arith.minimumf": elementwise(np.minimum),
    "arith.maxnumf": elementwise(np.fmax),
    "arith.minnumf": elementwise(np.fmin),
    "arith.addi": modular(np.add, np.logical_xor),
    "arith.subi": modular(np.subtract, np.logical_xor),
    "arith.muli": modular(np.multiply, np.logical_and),
    "arith.andi": elementwise(np.bitwise_and),
    "arith.ori": elementwise(np.bitwise_or),
    "arith.xori": elementwise(np.bitwise_xor),
    "arith.shli": reading(np.left_shift, unsigned),
    "arith.shrsi": reading(np.right_shift, signed),
    "arith.shrui": reading(np.right_shift, unsigned),
    "arith.divsi": reading(divide_toward_zero, signed),
    "arith.divui": reading(np.floor_divide, unsigned),
    "arith.floordivsi": reading(np.floor_divide, signed),
    "arith.ceildivsi": reading(divide_up, signed),
    "arith.ceildivui": reading(divide_up, unsigned),
    "arith.remsi": reading(np.fmod, signed),
    "arith.remui": reading(np.fmod, unsigned),
    "arith.maxsi": reading(np.maximum, signed),
    "arith.minsi": reading(np.minimum, signed),
    "arith.maxui": reading(np.maximum, unsigned),
    "arith.minui": reading(np.minimum, unsigned),
    "arith.addui_extended": add_with_carry,
    "arith.mulsi_extended": wide_product,
    "arith.mului_extended": wide_product,
    "arith.extf": cast(),
    "arith.truncf": cast(),
    "arith.sitofp": cast(signed),
    "arith.uitofp": cast(unsigned),
    "arith.extsi": cast(signed),
    "arith.extui": cast(unsigned),
    "arith.trunci": cast(),
    "arith.index_cast": cast(signed),
    "arith.index_castui": cast(unsigned),
    "arith.fptosi": float_to_integer,
    "arith.fptoui": float_to_integer,
    "arith.bitcast": bitcast,
}
