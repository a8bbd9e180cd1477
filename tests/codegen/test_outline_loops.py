"""Loops in functions of their own: what they take along, and when they are shared."""

from __future__ import annotations

from qcc.codegen.cpu.outline_loops import outline_loops
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context

M = "memref<8xf32>"
SCALE = """linalg.generic {{indexing_maps = [affine_map<(d) -> (d)>, affine_map<(d) -> (d)>],
  iterator_types = ["parallel"]}} ins({source} : memref<8xf32>) outs({target} : memref<8xf32>) {{
^bb0(%in: f32, %out: f32):
  %p = arith.mulf %in, {factor} : f32
  linalg.yield %p : f32
}}"""


def outlined(body: str) -> str:
    text = f"func.func @main(%x: {M}, %y: {M}, %f: f32, %g: f32) {{ {body} return }}"
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        outline_loops(module)
        assert module.operation.verify()
        return str(module)


def scale(source: str, target: str, factor: str) -> str:
    return SCALE.format(source=source, target=target, factor=factor)


def test_equal_loops_share_a_function_whatever_they_capture(check) -> None:
    # CHECK: func.func private @[[L:.*]](%[[A:.*]]: memref<8xf32>, %[[B:.*]]: memref<8xf32>,
    # CHECK-SAME: %[[F:.*]]: f32) attributes {no_inline}
    # CHECK: arith.mulf %{{.*}}, %[[F]]
    # CHECK-NOT: func.func private
    # CHECK: func.func @main(%[[X:.*]]: memref<8xf32>, %[[Y:.*]]: memref<8xf32>, %[[P:.*]]: f32,
    # CHECK: call @[[L]](%[[X]], %[[Y]], %[[P]])
    # CHECK-NEXT: call @[[L]](%[[Y]], %[[X]], %{{.*}})
    # CHECK-NEXT: return
    check(outlined(scale("%x", "%y", "%f") + scale("%y", "%x", "%g")))


def test_constants_move_into_the_function_and_tell_loops_apart(check) -> None:
    # CHECK: func.func private @[[SECOND:.*]](%{{.*}}: memref<8xf32>, %{{.*}}: memref<8xf32>)
    # CHECK: arith.constant 3.0
    # CHECK: func.func private @[[FIRST:.*]](%{{.*}}: memref<8xf32>, %{{.*}}: memref<8xf32>)
    # CHECK: arith.constant 2.0
    # CHECK: func.func @main
    # CHECK: call @[[FIRST]](
    # CHECK: call @[[SECOND]](
    check(outlined(f"""
      %two = arith.constant 2.0 : f32
      %three = arith.constant 3.0 : f32
      {scale("%x", "%y", "%two")} {scale("%x", "%y", "%three")}"""))  # fmt: skip


def test_a_loop_on_tensors_stays(check) -> None:
    # CHECK-NOT: func.func private
    # CHECK: linalg.fill
    check(
        outlined("""
      %t = tensor.empty() : tensor<8xf32>
      %u = linalg.fill ins(%f : f32) outs(%t : tensor<8xf32>) -> tensor<8xf32>""")
    )
