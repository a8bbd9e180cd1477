"""
Words for writing CPU kernels in MLIR: scalars, vectors of `LANES` floats, pointers and loops.

A kernel is a Python function that builds arith, vector, scf and llvm ops at the current
insertion point. `Val` gives SSA values their operators, so that a kernel reads as arithmetic:

    acc = fma(row.load(VEC), weights, acc)

Integers are i64 unless said otherwise; `Ptr` is an address with its element type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.bindings import arith, ir, llvm, scf, vector
from ...dialects.rounding import values
from ...dialects.rounding.values import (
    Number,
    Val,
    absolute,
    constant,
    double_to_single,
    f32,
    f64,
    float_to_signed,
    fma,
    half_to_float,
    i1,
    i8,
    i16,
    i32,
    i64,
    is_float,
    maximum,
    minimum,
    reinterpret,
    round_even,
    round_to_zero,
    same_shape,
    scalar,
    select,
    signed_to_float,
    single_to_double,
    size,
    square_root,
    truncate,
    widen,
    widen_signed,
)

__all__ = [
    "LANES",
    "Number",
    "Ptr",
    "Val",
    "absolute",
    "branch",
    "branch_values",
    "broadcast",
    "constant",
    "double_to_single",
    "either",
    "f32",
    "f64",
    "float_to_signed",
    "floats",
    "fma",
    "half_to_float",
    "i1",
    "i8",
    "i16",
    "i32",
    "i64",
    "is_float",
    "lane",
    "lane_constants",
    "lane_mask",
    "lane_max",
    "lane_or",
    "lane_sum",
    "lane_sums",
    "lanes",
    "maximum",
    "minimum",
    "pointer",
    "read",
    "reinterpret",
    "repeat",
    "round_even",
    "round_to_zero",
    "same_shape",
    "scalar",
    "select",
    "shuffle",
    "signed_to_float",
    "single_to_double",
    "size",
    "splat",
    "square_root",
    "truncate",
    "vectors",
    "widen",
    "widen_signed",
    "words",
    "write",
]

LANES = 8
DYNAMIC = -(2**31)
"""Of an index that getelementptr takes as an operand; others are written into the op."""


def pointer() -> ir.Type:
    return ir.Type.parse("!llvm.ptr")


def lanes(element: ir.Type, count: int = LANES) -> ir.Type:
    """A vector of `count` elements."""
    return ir.VectorType.get([count], element)


def floats() -> ir.Type:
    return lanes(f32())


def words() -> ir.Type:
    return lanes(i32())


@dataclass(frozen=True, slots=True, eq=False)
class Ptr:
    """An address and the type of what it points at; `at(i)` steps by that type."""

    ssa: ir.Value
    element: ir.Type

    def at(self, index: Val | int) -> Ptr:
        if isinstance(index, int) and index == 0:
            return self
        if isinstance(index, Val):
            held, written = [index.ssa], DYNAMIC
        elif -DYNAMIC > index > DYNAMIC:
            held, written = [], index
        else:
            held, written = [size(index).ssa], DYNAMIC
        address = llvm.getelementptr(pointer(), self.ssa, held, [written], self.element, 0)
        return Ptr(address, self.element)

    def as_type(self, element: ir.Type) -> Ptr:
        return Ptr(self.ssa, element)

    def load(self, type_: ir.Type | None = None, align: int | None = None) -> Val:
        """One element, or a wider `type_` that starts here (aligned to one element)."""
        return Val(
            llvm.load(type_ or self.element, self.ssa, alignment=align or _bytes(self.element))
        )

    def store(self, value: Val) -> None:
        llvm.store(value.ssa, self.ssa, alignment=_bytes(self.element))

    def prefetch(self, locality: int = 3) -> None:
        """Ask for the cache line, into the second level at `locality` 2; any address will do."""
        llvm.intr_prefetch(self.ssa, 0, locality, 1)

    def load_first(self, count: int) -> Val:
        """A float vector whose lanes from `count` on are 0 and are not read from memory."""
        mask = Val(vector.constant_mask(lanes(i1()), [count]))
        zero = splat(0.0)
        return Val(llvm.intr_masked_load(floats(), self.ssa, mask.ssa, 4, pass_thru=zero.ssa))

    def store_first(self, count: int, value: Val) -> None:
        mask = vector.constant_mask(lanes(i1()), [count])
        llvm.intr_masked_store(value.ssa, self.ssa, mask, 4)

    def load_while(self, mask: Val) -> Val:
        """A float vector; lanes where `mask` is false are 0 and are not read."""
        type_ = same_shape(mask, f32())
        zero = constant(0, type_)
        return Val(llvm.intr_masked_load(type_, self.ssa, mask.ssa, 4, pass_thru=zero.ssa))

    def store_while(self, mask: Val, value: Val) -> None:
        llvm.intr_masked_store(value.ssa, self.ssa, mask.ssa, 4)


def _bytes(element: ir.Type) -> int:
    if isinstance(element, ir.IntegerType):
        return max(1, ir.IntegerType(element).width // 8)
    return 4


def splat(value: float) -> Val:
    return constant(value, floats())


def vectors(length: int) -> list[tuple[int, int]]:
    """(start, valid lanes) of each vector of a row of `length` floats."""
    return [(k, min(LANES, length - k)) for k in range(0, length, LANES)]


def read(row: Ptr, k: int, count: int) -> Val:
    """`count` floats from `row` at k; the other lanes are 0."""
    return row.at(k).load(floats()) if count == LANES else row.at(k).load_first(count)


def write(row: Ptr, k: int, count: int, value: Val) -> None:
    if count == LANES:
        row.at(k).store(value)
    else:
        row.at(k).store_first(count, value)


def lane_constants(values: Sequence[Number], element: ir.Type) -> Val:
    """A vector constant with one value a lane."""
    type_ = lanes(element, len(values))
    if is_float(element):
        array = np.asarray(values, np.float32)
    else:
        width = ir.IntegerType(element).width
        array = np.asarray(values, {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}[width])
    # The stubs have the overload for buffers only from Python 3.12 on.
    attribute = ir.DenseElementsAttr.get(array, type=type_)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return Val(arith.constant(type_, attribute))


def either(condition: Val, yes: Ptr, no: Ptr) -> Ptr:
    return Ptr(arith.select(condition.ssa, yes.ssa, no.ssa), yes.element)


def shuffle(a: Val, b: Val, picks: Sequence[int]) -> Val:
    return Val(vector.shuffle(a.ssa, b.ssa, list(picks)))


def lane_sum(a: Val) -> Val:
    """Sum of the lanes as a balanced tree."""
    return _fold_lanes(a, lambda x, y: x + y)


def lane_sums(rows: Sequence[Val]) -> Val:
    """
    `lane_sum` of each of up to eight vectors, at once: lane i holds that of rows[i].

    Lanes behind the last of `rows`, whose number is a power of two, repeat the others.
    """
    low, high = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
    halves = [(low, high)]
    halves.append(((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)))
    halves.append(((0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)))
    sums = [rows[index % len(rows)] for index in range(LANES)]
    for first, second in halves:
        pairs = zip(sums[::2], sums[1::2], strict=True)
        sums = [shuffle(a, b, first) + shuffle(a, b, second) for a, b in pairs]
    return shuffle(sums[0], sums[0], (0, 4, 1, 5, 2, 6, 3, 7))


def lane_max(a: Val) -> Val:
    return _fold_lanes(a, maximum)


def lane_or(a: Val) -> Val:
    return _fold_lanes(a, lambda x, y: x | y)


def _fold_lanes(a: Val, combine: Callable[[Val, Val], Val]) -> Val:
    count = ir.VectorType(a.type).shape[0]
    while count > 1:
        half = count // 2
        low = shuffle(a, a, range(half))
        high = shuffle(a, a, range(half, count))
        a, count = combine(low, high), half
    return lane(a, 0)


def lane(a: Val, index: int) -> Val:
    return Val(vector.extract(a.ssa, [], [index]))


def lane_mask(count: Val, width: int = LANES) -> Val:
    """`width` i1 lanes, true in the first `count` (an i64, may exceed the width)."""
    positions = lane_constants(list(range(width)), i64())
    return positions.compare("lt", broadcast(count, width))


def repeat(
    start: Val | int, stop: Val | int, step: int = 1, carry: Sequence[Val] = ()
) -> Callable[[Callable[..., Any]], list[Val]]:
    """
    Decorator: run the body for start, start+step, … below stop; its name becomes the results.

    The body takes the index and the carried values and returns the carried values of the next
    turn (nothing when there are none).
    """

    def build(body: Callable[..., Any]) -> list[Val]:
        first, end, by = ((b if isinstance(b, Val) else size(b)).ssa for b in (start, stop, step))
        loop = scf.ForOp(first, end, by, [value.ssa for value in carry])
        with ir.InsertionPoint(loop.body):
            carried = [Val(argument) for argument in loop.inner_iter_args]
            following = body(Val(loop.induction_variable), *carried) or ()
            if isinstance(following, Val):
                following = (following,)
            scf.yield_([value.ssa for value in following])
        return [Val(result) for result in loop.results]

    return build


def branch(condition: Val, yes: Callable[[], None], no: Callable[[], None] | None = None) -> None:
    """`if`, for effect."""
    op = scf.IfOp(condition.ssa, has_else=no is not None)
    with ir.InsertionPoint(op.then_block):
        yes()
        scf.yield_([])
    if no is not None:
        with ir.InsertionPoint(op.else_block):
            no()
            scf.yield_([])


def branch_values(
    condition: Val,
    like: Sequence[Val],
    yes: Callable[[], Sequence[Val]],
    no: Callable[[], Sequence[Val]],
) -> list[Val]:
    """`if`, for values of the types of `like`."""
    op = scf.IfOp(condition.ssa, [value.type for value in like], has_else=True)
    for block, make in ((op.then_block, yes), (op.else_block, no)):
        with ir.InsertionPoint(block):
            scf.yield_([value.ssa for value in make()])
    return [Val(result) for result in op.results]


def broadcast(value: Val, count: int = LANES) -> Val:
    return values.broadcast(value, count)
