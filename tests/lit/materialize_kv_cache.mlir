// RUN: qcc opt %s --pipeline materialize-kv-cache | filecheck %s
// A causal decoder gets a step function: positions start at `past`, attention reads a cache.

// CHECK:      func.func @main(%{{.*}}: !torch.vtensor<[?,?],si64>)
// CHECK-NOT:  cache = "cache.0"
// CHECK:      func.func @step(%{{.*}}: !torch.vtensor<[?,?],si64>, %[[PAST:.*]]: !torch.vtensor<[],si64>)
// CHECK:      %[[SCALAR:.*]] = torch_c.to_builtin_tensor %[[PAST]]
// CHECK:      %[[POSITIONS:.*]] = torch.aten.arange
// CHECK:      %[[SHIFTED:.*]] = torch.aten.add.Tensor %[[POSITIONS]], %[[PAST]]
// CHECK:      qcc.attention"(%{{.*}}, %{{.*}}, %{{.*}}, %[[SCALAR]])
// CHECK-SAME: cache = "cache.0", causal = true
// CHECK:      return %[[SHIFTED]]
func.func @main(%tokens: !torch.vtensor<[?,?],si64>) -> !torch.vtensor<[?],si64> {
  %one = torch.constant.int 1
  %none = torch.constant.none
  %false = torch.constant.bool false
  %length = torch.aten.size.int %tokens, %one : !torch.vtensor<[?,?],si64>, !torch.int -> !torch.int
  %positions = torch.aten.arange %length, %none, %none, %none, %false : !torch.int, !torch.none, !torch.none, !torch.none, !torch.bool -> !torch.vtensor<[?],si64>
  %x = "qcc.param"() {symbol = "x"} : () -> tensor<1x2x3x8xf32>
  %y = "qcc.attention"(%x, %x, %x) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 1.0 : f64, causal = true, cache = ""} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  return %positions : !torch.vtensor<[?],si64>
}
