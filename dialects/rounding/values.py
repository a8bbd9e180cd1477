"""
SSA values with operators: a Python function that computes builds arith and math ops.

    inverse = constant(1.0, value.type) / value

Values are scalars, or vectors of which every lane is computed alike. The ops stand at the
current insertion point.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..bindings import arith, ir, math, vector

Number = int | float


def i1() -> ir.Type:
    return ir.IntegerType.get_signless(1)


def i8() -> ir.Type:
    return ir.IntegerType.get_signless(8)


def i16() -> ir.Type:
    return ir.IntegerType.get_signless(16)


def i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def i64() -> ir.Type:
    return ir.IntegerType.get_signless(64)


def f32() -> ir.Type:
    return ir.F32Type.get()


def f64() -> ir.Type:
    return ir.F64Type.get()


def is_float(type_: ir.Type) -> bool:
    element = ir.VectorType(type_).element_type if isinstance(type_, ir.VectorType) else type_
    return isinstance(element, ir.F64Type | ir.F32Type | ir.F16Type)


@dataclass(frozen=True, slots=True, eq=False)
class Val:
    """An SSA value with operators; Python numbers become constants of its type."""

    ssa: ir.Value

    @property
    def type(self) -> ir.Type:
        return self.ssa.type

    def _with(self, other: Val | Number) -> ir.Value:
        if isinstance(other, Val):
            return other.ssa
        return constant(other, self.type).ssa

    def __add__(self, other: Val | Number) -> Val:
        op = arith.addf if is_float(self.type) else arith.addi
        return Val(op(self.ssa, self._with(other)))

    def __sub__(self, other: Val | Number) -> Val:
        op = arith.subf if is_float(self.type) else arith.subi
        return Val(op(self.ssa, self._with(other)))

    def __mul__(self, other: Val | Number) -> Val:
        op = arith.mulf if is_float(self.type) else arith.muli
        return Val(op(self.ssa, self._with(other)))

    def __truediv__(self, other: Val | Number) -> Val:
        return Val(arith.divf(self.ssa, self._with(other)))

    def __floordiv__(self, other: Val | Number) -> Val:
        """Unsigned division: every integer of a kernel is a size or an index."""
        return Val(arith.divui(self.ssa, self._with(other)))

    def __mod__(self, other: Val | Number) -> Val:
        return Val(arith.remui(self.ssa, self._with(other)))

    def __and__(self, other: Val | Number) -> Val:
        return Val(arith.andi(self.ssa, self._with(other)))

    def __or__(self, other: Val | Number) -> Val:
        return Val(arith.ori(self.ssa, self._with(other)))

    def __xor__(self, other: Val | Number) -> Val:
        return Val(arith.xori(self.ssa, self._with(other)))

    def __lshift__(self, other: Val | Number) -> Val:
        return Val(arith.shli(self.ssa, self._with(other)))

    def __rshift__(self, other: Val | Number) -> Val:
        """Logical shift."""
        return Val(arith.shrui(self.ssa, self._with(other)))

    def shift_right_signed(self, other: Val | Number) -> Val:
        return Val(arith.shrsi(self.ssa, self._with(other)))

    def __neg__(self) -> Val:
        return Val(arith.negf(self.ssa))

    def compare(self, predicate: str, other: Val | Number) -> Val:
        """
        i1 (or a vector of i1): signed integer or ordered float comparison.

        `predicate` is one of eq, ne, lt, le, gt, ge.
        """
        rhs = self._with(other)
        if is_float(self.type):
            code = {"eq": 1, "gt": 2, "ge": 3, "lt": 4, "le": 5, "ne": 6}[predicate]
            return Val(arith.cmpf(code, self.ssa, rhs))
        code = {"eq": 0, "ne": 1, "lt": 2, "le": 3, "gt": 4, "ge": 5}[predicate]
        return Val(arith.cmpi(code, self.ssa, rhs))


def constant(value: Number, type_: ir.Type) -> Val:
    """A scalar constant, or a splat when `type_` is a vector."""
    if isinstance(type_, ir.VectorType):
        element = ir.VectorType(type_).element_type
        scalar = _scalar_attribute(value, element)
        return Val(arith.constant(type_, ir.DenseElementsAttr.get_splat(type_, scalar)))
    return Val(arith.constant(type_, _scalar_attribute(value, type_)))


def _scalar_attribute(value: Number, type_: ir.Type) -> ir.Attribute:
    if is_float(type_):
        return ir.FloatAttr.get(type_, float(value))
    return ir.IntegerAttr.get(type_, int(value))


def size(value: int) -> Val:
    return constant(value, i64())


def scalar(value: float) -> Val:
    return constant(value, f32())


def broadcast(scalar: Val, count: int) -> Val:
    """A vector of `count` lanes that are all the scalar."""
    return Val(vector.broadcast(ir.VectorType.get([count], scalar.type), scalar.ssa))


def fma(a: Val, b: Val, c: Val) -> Val:
    return Val(math.fma(a.ssa, b.ssa, c.ssa))


def maximum(a: Val, b: Val) -> Val:
    op = arith.maxnumf if is_float(a.type) else arith.maxsi
    return Val(op(a.ssa, b.ssa))


def minimum(a: Val, b: Val | int) -> Val:
    rhs = b if isinstance(b, Val) else constant(b, a.type)
    op = arith.minnumf if is_float(a.type) else arith.minsi
    return Val(op(a.ssa, rhs.ssa))


def absolute(a: Val) -> Val:
    return Val(math.absf(a.ssa))


def square_root(a: Val) -> Val:
    return Val(math.sqrt(a.ssa))


def round_even(a: Val) -> Val:
    return Val(math.roundeven(a.ssa))


def round_to_zero(a: Val) -> Val:
    return Val(math.trunc(a.ssa))


def select(condition: Val, yes: Val, no: Val) -> Val:
    return Val(arith.select(condition.ssa, yes.ssa, no.ssa))


def signed_to_float(a: Val) -> Val:
    """int → fp32, lane by lane for vectors."""
    return Val(arith.sitofp(same_shape(a, f32()), a.ssa))


def float_to_signed(a: Val, element: ir.Type) -> Val:
    return Val(arith.fptosi(same_shape(a, element), a.ssa))


def widen(a: Val, element: ir.Type) -> Val:
    """Zero extension."""
    return Val(arith.extui(same_shape(a, element), a.ssa))


def widen_signed(a: Val, element: ir.Type) -> Val:
    return Val(arith.extsi(same_shape(a, element), a.ssa))


def truncate(a: Val, element: ir.Type) -> Val:
    return Val(arith.trunci(same_shape(a, element), a.ssa))


def reinterpret(a: Val, element: ir.Type) -> Val:
    """The same bits as another type of the same width."""
    return Val(arith.bitcast(same_shape(a, element), a.ssa))


def single_to_double(a: Val) -> Val:
    return Val(arith.extf(same_shape(a, f64()), a.ssa))


def double_to_single(a: Val) -> Val:
    """To nearest, ties to even."""
    return Val(arith.truncf(same_shape(a, f32()), a.ssa))


def half_to_float(a: Val) -> Val:
    """i16 bits of fp16 → fp32."""
    halves = Val(arith.bitcast(same_shape(a, ir.F16Type.get()), a.ssa))
    return Val(arith.extf(same_shape(a, f32()), halves.ssa))


def same_shape(a: Val, element: ir.Type) -> ir.Type:
    if isinstance(a.type, ir.VectorType):
        return ir.VectorType.get(ir.VectorType(a.type).shape, element)
    return element
