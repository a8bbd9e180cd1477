// RUN: qcc opt %s --pipeline "select-view" | filecheck %s

// CHECK: %[[A:.*]] = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<3x4xf32>, "nestedfp16<view=fp8_e4m3>">
// CHECK: %[[B:.*]] = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<2x3xf32>, "int8">
// CHECK: "qcc.linear"(%arg0, %[[A]]) {{.*}} : (tensor<?x4xf32>, !qcc.packed<tensor<3x4xf32>, "nestedfp16<view=fp8_e4m3>">)
// CHECK: "qcc.linear"(%{{.*}}, %[[B]])
// CHECK: "qcc.dequantize"(%[[A]]) : (!qcc.packed<tensor<3x4xf32>, "nestedfp16<view=fp8_e4m3>">) -> tensor<3x4xf32>
func.func @main(%x: tensor<?x4xf32>) -> (tensor<?x2xf32>, tensor<3x4xf32>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<3x4xf32>, "nestedfp16">
  %b = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<2x3xf32>, "int8">
  %y = "qcc.linear"(%x, %a) {layer = "a", operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x4xf32>, !qcc.packed<tensor<3x4xf32>, "nestedfp16">) -> tensor<?x3xf32>
  %z = "qcc.linear"(%y, %b) {layer = "b", operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<?x3xf32>, !qcc.packed<tensor<2x3xf32>, "int8">) -> tensor<?x2xf32>
  %w = "qcc.dequantize"(%a) : (!qcc.packed<tensor<3x4xf32>, "nestedfp16">) -> tensor<3x4xf32>
  return %z, %w : tensor<?x2xf32>, tensor<3x4xf32>
}
