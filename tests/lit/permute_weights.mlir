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

// Convolutions of integers read their weights a tap at a time; others, and ragged groups, by row.
// CHECK-LABEL: @images
// CHECK: "qcc.param"() {layout = "panel16-taps", symbol = "taps"}
// CHECK: "qcc.param"() {symbol = "blocks"}
// CHECK: "qcc.param"() {symbol = "ragged"}
// CHECK: "qcc.param"() {symbol = "unrounded"}
func.func @images(%x: tensor<1x16x4x4xf32>) -> (tensor<1x32x4x4xf32>, tensor<1x32x4x4xf32>, tensor<1x24x4x4xf32>, tensor<1x32x4x4xf32>) {
  %q = "qcc.quantize"(%x) : (tensor<1x16x4x4xf32>) -> !qcc.packed<tensor<1x16x4x4xf32>, "int8<group=tensor>">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<tensor<1x16x4x4xf32>, "int8<group=tensor>">) -> tensor<1x16x4x4xf32>
  %a = "qcc.param"() {symbol = "taps"} : () -> !qcc.packed<tensor<32x16x1x1xf32>, "int8">
  %u = "qcc.conv2d"(%d, %a) {dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, padding = array<i64: 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x16x4x4xf32>, !qcc.packed<tensor<32x16x1x1xf32>, "int8">) -> tensor<1x32x4x4xf32>
  %b = "qcc.param"() {symbol = "blocks"} : () -> !qcc.packed<tensor<32x16x1x1xf32>, "int8<group=16>">
  %v = "qcc.conv2d"(%d, %b) {dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, padding = array<i64: 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x16x4x4xf32>, !qcc.packed<tensor<32x16x1x1xf32>, "int8<group=16>">) -> tensor<1x32x4x4xf32>
  %c = "qcc.param"() {symbol = "ragged"} : () -> !qcc.packed<tensor<24x8x1x1xf32>, "int8">
  %w = "qcc.conv2d"(%d, %c) {dilation = array<i64: 1, 1>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, padding = array<i64: 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x16x4x4xf32>, !qcc.packed<tensor<24x8x1x1xf32>, "int8">) -> tensor<1x24x4x4xf32>
  %e = "qcc.param"() {symbol = "unrounded"} : () -> !qcc.packed<tensor<32x16x1x1xf32>, "int8">
  %z = "qcc.conv2d"(%x, %e) {dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, padding = array<i64: 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x16x4x4xf32>, !qcc.packed<tensor<32x16x1x1xf32>, "int8">) -> tensor<1x32x4x4xf32>
  return %u, %v, %w, %z : tensor<1x32x4x4xf32>, tensor<1x32x4x4xf32>, tensor<1x24x4x4xf32>, tensor<1x32x4x4xf32>
}

// So many products as still fit 32 bits, and one more.
// CHECK-LABEL: @long
// CHECK: "qcc.param"() {layout = "panel16-taps", symbol = "fits"}
// CHECK: "qcc.param"() {symbol = "overflows"}
func.func @long(%x: tensor<1x133144x1x1xf32>, %z: tensor<1x133145x1x1xf32>) -> (tensor<1x16x1x1xf32>, tensor<1x16x1x1xf32>) {
  %q = "qcc.quantize"(%x) : (tensor<1x133144x1x1xf32>) -> !qcc.packed<tensor<1x133144x1x1xf32>, "int8<group=tensor>">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<tensor<1x133144x1x1xf32>, "int8<group=tensor>">) -> tensor<1x133144x1x1xf32>
  %a = "qcc.param"() {symbol = "fits"} : () -> !qcc.packed<tensor<16x133144x1x1xf32>, "int8">
  %u = "qcc.conv2d"(%d, %a) {dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, padding = array<i64: 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x133144x1x1xf32>, !qcc.packed<tensor<16x133144x1x1xf32>, "int8">) -> tensor<1x16x1x1xf32>
  %r = "qcc.quantize"(%z) : (tensor<1x133145x1x1xf32>) -> !qcc.packed<tensor<1x133145x1x1xf32>, "int8<group=tensor>">
  %e = "qcc.dequantize"(%r) : (!qcc.packed<tensor<1x133145x1x1xf32>, "int8<group=tensor>">) -> tensor<1x133145x1x1xf32>
  %b = "qcc.param"() {symbol = "overflows"} : () -> !qcc.packed<tensor<16x133145x1x1xf32>, "int8">
  %v = "qcc.conv2d"(%e, %b) {dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, padding = array<i64: 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x133145x1x1xf32>, !qcc.packed<tensor<16x133145x1x1xf32>, "int8">) -> tensor<1x16x1x1xf32>
  return %u, %v : tensor<1x16x1x1xf32>, tensor<1x16x1x1xf32>
}
