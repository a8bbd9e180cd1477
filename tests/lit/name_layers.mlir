// RUN: qcc opt %s --pipeline name-layers | filecheck %s

// CHECK: "qcc.linear"(%arg0, %{{.*}}) {layer = "blocks.0.q"
// CHECK: "qcc.matmul"(%arg1, %arg1) {layer = "matmul.0"}
func.func @main(%x: tensor<2x4xf32>, %b: tensor<2x2x2xf32>) {
  %w = "qcc.param"() {symbol = "blocks.0.q.weight"} : () -> tensor<3x4xf32>
  %y = "qcc.linear"(%x, %w) {operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  %z = "qcc.matmul"(%b, %b) : (tensor<2x2x2xf32>, tensor<2x2x2xf32>) -> tensor<2x2x2xf32>
  return
}
