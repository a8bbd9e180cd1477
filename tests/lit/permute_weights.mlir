// RUN: qcc opt %s --pipeline "permute-weights" | filecheck %s

// A weight that a linear layer and an embedding share lies in panels, in every function.
// CHECK-LABEL: @main
// CHECK: "qcc.param"() {layout = "panel16", symbol = "tied"}
func.func @main(%x: tensor<?x32xf32>, %i: tensor<?xi64>) -> (tensor<?x16xf32>, tensor<?x32xf32>) {
  %w = "qcc.param"() {symbol = "tied"} : () -> !qcc.packed<tensor<16x32xf32>, "int4<group=32>">
  %y = "qcc.linear"(%x, %w) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x32xf32>, !qcc.packed<tensor<16x32xf32>, "int4<group=32>">) -> tensor<?x16xf32>
  %e = "qcc.embedding"(%w, %i) : (!qcc.packed<tensor<16x32xf32>, "int4<group=32>">, tensor<?xi64>) -> tensor<?x32xf32>
  return %y, %e : tensor<?x16xf32>, tensor<?x32xf32>
}

// CHECK-LABEL: @step
// CHECK: "qcc.param"() {layout = "panel16", symbol = "tied"}
func.func @step(%i: tensor<?xi64>) -> tensor<?x32xf32> {
  %w = "qcc.param"() {symbol = "tied"} : () -> !qcc.packed<tensor<16x32xf32>, "int4<group=32>">
  %e = "qcc.embedding"(%w, %i) : (!qcc.packed<tensor<16x32xf32>, "int4<group=32>">, tensor<?xi64>) -> tensor<?x32xf32>
  return %e : tensor<?x32xf32>
}

// Rows without a value have nothing to lay out.
// CHECK-LABEL: @empty
// CHECK: "qcc.param"() {symbol = "nothing"}
func.func @empty(%x: tensor<?x0xf32>) -> tensor<?x16xf32> {
  %w = "qcc.param"() {symbol = "nothing"} : () -> !qcc.packed<tensor<16x0xf32>, "int8">
  %y = "qcc.linear"(%x, %w) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x0xf32>, !qcc.packed<tensor<16x0xf32>, "int8">) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// Only rows are read of a plain embedding; a decoded weight is written as a whole.
// CHECK-LABEL: @others
// CHECK-COUNT-3: "qcc.param"() {symbol = "{{.*}}"}
func.func @others(%x: tensor<?x32xf32>, %i: tensor<?xi64>) -> (tensor<?x32xf32>, tensor<?x16xf32>, tensor<16x32xf32>, tensor<?x15xf32>) {
  %t = "qcc.param"() {symbol = "table"} : () -> !qcc.packed<tensor<16x32xf32>, "int4<group=32>">
  %e = "qcc.embedding"(%t, %i) : (!qcc.packed<tensor<16x32xf32>, "int4<group=32>">, tensor<?xi64>) -> tensor<?x32xf32>
  %d = "qcc.param"() {symbol = "decoded"} : () -> !qcc.packed<tensor<16x32xf32>, "int4<group=32>">
  %y = "qcc.linear"(%x, %d) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x32xf32>, !qcc.packed<tensor<16x32xf32>, "int4<group=32>">) -> tensor<?x16xf32>
  %v = "qcc.dequantize"(%d) : (!qcc.packed<tensor<16x32xf32>, "int4<group=32>">) -> tensor<16x32xf32>
  %f = "qcc.param"() {symbol = "few"} : () -> !qcc.packed<tensor<15x32xf32>, "int4<group=32>">
  %z = "qcc.linear"(%x, %f) {operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x32xf32>, !qcc.packed<tensor<15x32xf32>, "int4<group=32>">) -> tensor<?x15xf32>
  return %e, %y, %v, %z : tensor<?x32xf32>, tensor<?x16xf32>, tensor<16x32xf32>, tensor<?x15xf32>
}
