// RUN: qcc opt %s --pipeline "name-layers,assign-formats,canonicalize" | filecheck %s

// CHECK: "qcc.embedding"(%arg0, %arg1) {layer = "embedding.0"}
// CHECK-NOT: qcc.packed
func.func @main(%t: tensor<9x4xf32>, %i: tensor<?xi64>) -> tensor<?x4xf32> {
  %y = "qcc.embedding"(%t, %i) : (tensor<9x4xf32>, tensor<?xi64>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
