"""Which ops share a kernel, and what kernels store: cases that whole models ran into."""

from __future__ import annotations

from typing import Any

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.regions import walk
from qcc.dialects.tile.group_op import outputs_of
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_groups import schedule_groups

ZEROS = """
func.func @main() -> tensor<2x3xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<2x3xf32>
  %y = linalg.fill ins(%zero : f32) outs(%e : tensor<2x3xf32>) -> tensor<2x3xf32>
  return %y : tensor<2x3xf32>
}
"""
SHARED_MAXIMUM = """
#all = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>
func.func @main(%x: tensor<5x12xf32>) -> (tensor<5x12xf32>, tensor<5xi64>) {
  %zero = arith.constant 0 : i64
  %least = arith.constant 0xFF800000 : f32
  %e0 = tensor.empty() : tensor<5xi64>
  %first = linalg.fill ins(%zero : i64) outs(%e0 : tensor<5xi64>) -> tensor<5xi64>
  %e1 = tensor.empty() : tensor<5xf32>
  %low = linalg.fill ins(%least : f32) outs(%e1 : tensor<5xf32>) -> tensor<5xf32>
  %max:2 = linalg.generic
      {indexing_maps = [#all, #row, #row], iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<5x12xf32>) outs(%low, %first : tensor<5xf32>, tensor<5xi64>) {
  ^bb0(%a: f32, %most: f32, %place: i64):
    %i = linalg.index 1 : index
    %at = arith.index_cast %i : index to i64
    %larger = arith.cmpf ogt, %a, %most : f32
    %kept = arith.select %larger, %a, %most : f32
    %found = arith.select %larger, %at, %place : i64
    linalg.yield %kept, %found : f32, i64
  } -> (tensor<5xf32>, tensor<5xi64>)
  %e2 = tensor.empty() : tensor<5x12xf32>
  %y = linalg.generic
      {indexing_maps = [#all, #row, #all], iterator_types = ["parallel", "parallel"]}
      ins(%x, %max#0 : tensor<5x12xf32>, tensor<5xf32>) outs(%e2 : tensor<5x12xf32>) {
  ^bb0(%a: f32, %most: f32, %o: f32):
    %d = arith.subf %a, %most : f32
    %b = math.exp %d : f32
    linalg.yield %b : f32
  } -> tensor<5x12xf32>
  return %y, %max#1 : tensor<5x12xf32>, tensor<5xi64>
}
"""
PADDED_BLOCKS = """
#all = affine_map<(d0, d1) -> (d0, d1)>
#cube = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#block = affine_map<(d0, d1, d2) -> (d0, d1)>
func.func @main(%x: tensor<3x40xf32>) -> tensor<3x40xf32> {
  %zero = arith.constant 0.0 : f32
  %e0 = tensor.empty() : tensor<3x40xf32>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<3x40xf32>) outs(%e0 : tensor<3x40xf32>) {
  ^bb0(%a: f32, %o: f32):
    %b = math.exp %a : f32
    linalg.yield %b : f32
  } -> tensor<3x40xf32>
  %padded = tensor.pad %y low[0, 0] high[0, 24] {
  ^bb0(%i: index, %j: index):
    tensor.yield %zero : f32
  } : tensor<3x40xf32> to tensor<3x64xf32>
  %blocks = tensor.expand_shape %padded [[0], [1, 2]] output_shape [3, 2, 32]
      : tensor<3x64xf32> into tensor<3x2x32xf32>
  %e1 = tensor.empty() : tensor<3x2xf32>
  %low = linalg.fill ins(%zero : f32) outs(%e1 : tensor<3x2xf32>) -> tensor<3x2xf32>
  %most = linalg.generic
      {indexing_maps = [#cube, #block], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%blocks : tensor<3x2x32xf32>) outs(%low : tensor<3x2xf32>) {
  ^bb0(%a: f32, %b: f32):
    %c = arith.maximumf %a, %b : f32
    linalg.yield %c : f32
  } -> tensor<3x2xf32>
  %e2 = tensor.empty() : tensor<3x2x32xf32>
  %scaled = linalg.generic
      {indexing_maps = [#cube, #block, #cube],
       iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%blocks, %most : tensor<3x2x32xf32>, tensor<3x2xf32>) outs(%e2 : tensor<3x2x32xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %c = arith.divf %a, %b : f32
    linalg.yield %c : f32
  } -> tensor<3x2x32xf32>
  %joined = tensor.collapse_shape %scaled [[0], [1, 2]]
      : tensor<3x2x32xf32> into tensor<3x64xf32>
  %cut = tensor.extract_slice %joined[0, 0] [3, 40] [1, 1] : tensor<3x64xf32> to tensor<3x40xf32>
  return %cut : tensor<3x40xf32>
}
"""


def scheduled(text: str) -> ir.Module:
    module = ir.Module.parse(text)
    schedule_groups(Scheduling())(module.operation, None)
    assert module.operation.verify()
    return module


def found(module: ir.Module, name: str) -> list[Any]:
    return [op for op in walk(module.operation) if op.operation.name == name]


def test_a_group_may_read_nothing() -> None:
    with make_context(), ir.Location.unknown():
        module = scheduled(ZEROS)
        [group], [launch] = found(module, "tile.group"), found(module, "tile.launch")
        assert len(group.arguments) == 0
        assert len(launch.arguments) == 1


def test_what_a_group_alone_reads_is_not_stored() -> None:
    """The launch plan knows no memory for a result that nobody takes."""
    with make_context(), ir.Location.unknown():
        module = scheduled(SHARED_MAXIMUM)
        [group] = found(module, "tile.group")
        assert [str(value.type) for value in outputs_of(group)] == [
            "tensor<5x12xf32>", "tensor<5xi64>",
        ]  # fmt: skip


def test_groups_do_not_wait_for_one_another() -> None:
    """Two groups compute the padded blocks; the one that scales them waits for their maxima."""
    with make_context(), ir.Location.unknown():
        assert len(found(scheduled(PADDED_BLOCKS), "tile.launch")) == 3
