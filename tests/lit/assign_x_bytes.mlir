// RUN: qcc opt %s --pipeline "assign-x-bytes" | filecheck %s

// Two bytes of x where weights of few bits meet long rows; in others three cost nothing.
// CHECK-LABEL: @main
// CHECK: %[[A:.*]] = "qcc.linear"(%[[X:.*]], %{{.*}}) {operandSegmentSizes = array<i32: 1, 1, 0>, x_bytes = 2 : i64}
// CHECK: "qcc.linear"(%[[X]], %{{.*}}) {operandSegmentSizes = array<i32: 1, 1, 0>} :
// CHECK: "qcc.linear"(%[[A]], %{{.*}}) {operandSegmentSizes = array<i32: 1, 1, 0>} :
func.func @main(%x: tensor<?x1024xf32>) -> (tensor<?x1008xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<1008x1024xf32>, "amxfp4">
  %b = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<16x1024xf32>, "int4<group=32>">
  %c = "qcc.param"() {symbol = "c"} : () -> !qcc.packed<tensor<16x1008xf32>, "int2<group=16>">
  %u = "qcc.linear"(%x, %a) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x1024xf32>, !qcc.packed<tensor<1008x1024xf32>, "amxfp4">) -> tensor<?x1008xf32>
  %v = "qcc.linear"(%x, %b) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x1024xf32>, !qcc.packed<tensor<16x1024xf32>, "int4<group=32>">) -> tensor<?x16xf32>
  %w = "qcc.linear"(%u, %c) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x1008xf32>, !qcc.packed<tensor<16x1008xf32>, "int2<group=16>">) -> tensor<?x16xf32>
  return %u, %v, %w : tensor<?x1008xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}
