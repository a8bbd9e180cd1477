// RUN: qcc opt %s --pipeline "canonicalize,cse,canonicalize" | filecheck %s

// Attention with a cache reads and extends it: two equal ones are two, and one whose result nobody
// takes stays.
// CHECK-LABEL: @step
// CHECK: %[[FIRST:.*]] = "qcc.attention"(%arg0, %arg1, %arg2, %arg3)
// CHECK: %[[SECOND:.*]] = "qcc.attention"(%arg0, %arg1, %arg2, %arg3)
// CHECK: "qcc.attention"(%arg0, %arg1, %arg2, %arg3) {{.*}}cache = "unused"
// CHECK: return %[[FIRST]], %[[SECOND]]
func.func @step(%q: tensor<1x2x?x8xf32>, %k: tensor<1x2x?x8xf32>, %v: tensor<1x2x?x8xf32>, %past: tensor<i64>) -> (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>) {
  %a = "qcc.attention"(%q, %k, %v, %past) {scale = 1.0 : f64, causal = true, cache = "c", operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>} : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<i64>) -> tensor<1x2x?x8xf32>
  %b = "qcc.attention"(%q, %k, %v, %past) {scale = 1.0 : f64, causal = true, cache = "c", operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>} : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<i64>) -> tensor<1x2x?x8xf32>
  %c = "qcc.attention"(%q, %k, %v, %past) {scale = 1.0 : f64, causal = true, cache = "unused", operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>} : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<i64>) -> tensor<1x2x?x8xf32>
  return %a, %b : tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>
}

// Without a cache the result is all there is: equal ones merge, unused ones go.
// CHECK-LABEL: @main
// CHECK: %[[ONE:.*]] = "qcc.attention"(%arg0, %arg1, %arg2)
// CHECK-NOT: qcc.attention
// CHECK: return %[[ONE]], %[[ONE]]
func.func @main(%q: tensor<1x2x?x8xf32>, %k: tensor<1x2x?x8xf32>, %v: tensor<1x2x?x8xf32>) -> (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>) {
  %a = "qcc.attention"(%q, %k, %v) {scale = 1.0 : f64, causal = true, cache = "", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>} : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
  %b = "qcc.attention"(%q, %k, %v) {scale = 1.0 : f64, causal = true, cache = "", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>} : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
  %c = "qcc.attention"(%q, %k, %v) {scale = 2.0 : f64, causal = true, cache = "", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>} : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
  return %a, %b : tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>
}
