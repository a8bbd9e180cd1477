// RUN: qcc opt %s --pipeline "raise-torch,lower-torch,name-layers" | filecheck %s

// CHECK: func.func @main(%[[X:.*]]: tensor<2x4xf32>, %[[W:.*]]: tensor<3x4xf32>) -> tensor<2x3xf32>
// CHECK: %[[Y:.*]] = "qcc.linear"(%[[X]], %[[W]]) {layer = "linear.0"
// CHECK: linalg.generic {{.*}} ins(%[[Y]]
// CHECK-NOT: torch
// CHECK: return
func.func @main(%x: !torch.vtensor<[2,4],f32>, %w: !torch.vtensor<[3,4],f32>)
    -> !torch.vtensor<[2,3],f32> {
  %none = torch.constant.none
  %y = torch.aten.linear %x, %w, %none
    : !torch.vtensor<[2,4],f32>, !torch.vtensor<[3,4],f32>, !torch.none -> !torch.vtensor<[2,3],f32>
  %z = torch.aten.relu %y : !torch.vtensor<[2,3],f32> -> !torch.vtensor<[2,3],f32>
  return %z : !torch.vtensor<[2,3],f32>
}
