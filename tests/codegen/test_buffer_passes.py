"""Early frees, and copies without the C runtime."""

from __future__ import annotations

from qcc.codegen.cpu.hoist_deallocations import hoist_deallocations
from qcc.codegen.cpu.replace_copies import replace_copies
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context

M = "memref<8xf32>"


def after(apply, body: str) -> str:
    text = f"""
      func.func private @use({M})
      func.func private @take(index)
      func.func @main(%x: {M}) {{ {body} return }}"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        apply(module)
        assert module.operation.verify()
        return str(module)


def test_a_buffer_is_freed_after_its_last_use(check) -> None:
    # CHECK: %[[A:.*]] = memref.alloc
    # CHECK: call @use(%[[A]])
    # CHECK-NEXT: memref.dealloc %[[A]]
    # CHECK-NEXT: call @use(%arg0)
    check(after(hoist_deallocations, f"""
      %a = memref.alloc() : {M}
      func.call @use(%a) : ({M}) -> ()
      func.call @use(%x) : ({M}) -> ()
      memref.dealloc %a : {M}
    """))  # fmt: skip


def test_a_view_and_an_address_keep_their_buffer(check) -> None:
    # CHECK: %[[A:.*]] = memref.alloc
    # CHECK: call @take
    # CHECK-NEXT: call @use
    # CHECK-NEXT: memref.dealloc %[[A]]
    # CHECK-NEXT: call @use(%arg0)
    check(after(hoist_deallocations, f"""
      %a = memref.alloc() : {M}
      %p = memref.extract_aligned_pointer_as_index %a : {M} -> index
      %v = memref.reinterpret_cast %a to offset: [0], sizes: [8], strides: [1] : {M} to {M}
      func.call @take(%p) : (index) -> ()
      func.call @use(%v) : ({M}) -> ()
      func.call @use(%x) : ({M}) -> ()
      memref.dealloc %a : {M}
    """))  # fmt: skip


def test_a_use_inside_a_loop_keeps_the_buffer_until_after_it(check) -> None:
    # CHECK: scf.for
    # CHECK: call @use
    # CHECK: }
    # CHECK-NEXT: memref.dealloc
    # CHECK-NEXT: call @use(%arg0)
    check(after(hoist_deallocations, f"""
      %a = memref.alloc() : {M}
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      scf.for %i = %c0 to %c1 step %c1 {{ func.call @use(%a) : ({M}) -> () }}
      func.call @use(%x) : ({M}) -> ()
      memref.dealloc %a : {M}
    """))  # fmt: skip


def test_the_shape_of_a_returned_view_is_freed_before_the_return(check) -> None:
    # CHECK: %[[A:.*]] = memref.alloc() : memref<1xi64>
    # CHECK: %[[V:.*]] = memref.reshape
    # CHECK-NEXT: memref.dealloc %[[A]]
    # CHECK-NEXT: return %[[V]]
    text = f"""
      func.func @main(%x: {M}) -> memref<?xf32> {{
        %a = memref.alloc() : memref<1xi64>
        %v = memref.reshape %x(%a) : ({M}, memref<1xi64>) -> memref<?xf32>
        memref.dealloc %a : memref<1xi64>
        return %v : memref<?xf32>
      }}"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        hoist_deallocations(module)
        assert module.operation.verify()
        check(str(module))


def test_copies_become_linalg(check) -> None:
    # CHECK: scf.for
    # CHECK: linalg.copy {{.*}} ins(%arg0 : memref<8xf32>) outs(%{{.*}} : memref<8xf32>)
    # CHECK: linalg.copy
    # CHECK-NOT: memref.copy
    check(after(replace_copies, f"""
      %a = memref.alloc() : {M}
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      scf.for %i = %c0 to %c1 step %c1 {{ memref.copy %x, %a : {M} to {M} }}
      memref.copy %a, %x : {M} to {M}
      memref.dealloc %a : {M}
    """))  # fmt: skip
