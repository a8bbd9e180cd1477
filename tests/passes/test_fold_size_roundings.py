"""Lengths that were rounded up as floats are the integers that they came from."""

from __future__ import annotations

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.passes.fold_size_roundings import fold_size_roundings

LENGTH = """
func.func @main(%n: i64, %x: f32) -> (i64, i64, i32) {
  %f = arith.sitofp %n : i64 to f32
  %c = math.ceil %f : f32
  %m = arith.fptoui %c : f32 to i64
  %d = arith.divf %c, %x : f32
  %other = arith.fptosi %d : f32 to i64
  %narrow = arith.fptosi %c : f32 to i32
  return %m, %other, %narrow : i64, i64, i32
}
"""


def test_whole_numbers_stay(check) -> None:
    # CHECK: %[[D:.*]] = arith.divf
    # CHECK: %[[OTHER:.*]] = arith.fptosi %[[D]]
    # CHECK: %[[NARROW:.*]] = arith.fptosi
    # CHECK: return %arg0, %[[OTHER]], %[[NARROW]]
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(LENGTH)
        fold_size_roundings(module.operation)
        assert module.operation.verify()
        check(str(module))
