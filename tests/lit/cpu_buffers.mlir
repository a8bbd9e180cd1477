// RUN: qcc opt %s --pipeline "hoist-deallocations,replace-copies,outline-loops" | filecheck %s
// Both copies are one function; the first buffer is gone before the second one is used.

// CHECK: func.func private @[[LOOP:loop_[0-9]+]](%[[S:.*]]: memref<8xf32>, %[[T:.*]]: memref<8xf32>)
// CHECK: linalg.copy {{.*}}ins(%[[S]] : memref<8xf32>) outs(%[[T]] : memref<8xf32>)
// CHECK-NOT: func.func private
// CHECK: func.func @main(%[[X:.*]]: memref<8xf32>, %[[Y:.*]]: memref<8xf32>)
// CHECK: %[[A:.*]] = memref.alloc
// CHECK: call @[[LOOP]](%[[X]], %[[A]])
// CHECK-NEXT: memref.dealloc %[[A]]
// CHECK-NEXT: call @[[LOOP]](%[[X]], %[[Y]])
// CHECK-NOT: linalg.copy
func.func @main(%x: memref<8xf32>, %y: memref<8xf32>) {
  %a = memref.alloc() : memref<8xf32>
  memref.copy %x, %a : memref<8xf32> to memref<8xf32>
  memref.copy %x, %y : memref<8xf32> to memref<8xf32>
  memref.dealloc %a : memref<8xf32>
  return
}
