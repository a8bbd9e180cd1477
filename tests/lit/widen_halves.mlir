// RUN: qcc opt %s --pipeline "round-scalars,widen-halves" | filecheck %s

// An op of several operations rounds its result once; a number that is added has the tensor's type.
// CHECK: func.func @rounds(%[[X:.*]]: !torch.vtensor<[2],bf16>)
// CHECK: %[[WIDE:.*]] = torch.prims.convert_element_type %[[X]], {{.*}} -> !torch.vtensor<[2],f32>
// CHECK: %[[Y:.*]] = torch.aten.silu %[[WIDE]] : !torch.vtensor<[2],f32>
// CHECK: %[[HALF:.*]] = torch.prims.convert_element_type %[[Y]], {{.*}} -> !torch.vtensor<[2],bf16>
// CHECK: %[[TENTH:.*]] = torch.constant.float 0.10009765625
// CHECK: %[[AGAIN:.*]] = torch.prims.convert_element_type %[[HALF]], {{.*}} -> !torch.vtensor<[2],f32>
// CHECK: torch.aten.add.Scalar %[[AGAIN]], %[[TENTH]], {{.*}} -> !torch.vtensor<[2],f32>
func.func @rounds(%x: !torch.vtensor<[2],bf16>) -> !torch.vtensor<[2],bf16> {
  %one = torch.constant.int 1
  %tenth = torch.constant.float 1.000000e-01
  %y = torch.aten.silu %x : !torch.vtensor<[2],bf16> -> !torch.vtensor<[2],bf16>
  %z = torch.aten.add.Scalar %y, %tenth, %one
    : !torch.vtensor<[2],bf16>, !torch.float, !torch.int -> !torch.vtensor<[2],bf16>
  return %z : !torch.vtensor<[2],bf16>
}

// A factor is taken in fp32, and whole numbers only after they are rounded.
// CHECK: func.func @factors(%[[X:.*]]: !torch.vtensor<[2],f16>, %[[N:.*]]: !torch.vtensor<[2],si64>)
// CHECK: torch.aten.mul.Scalar {{.*}}, %float1.000000e-01 : !torch.vtensor<[2],f32>
// CHECK: %[[ROUNDED:.*]] = torch.prims.convert_element_type %[[N]], {{.*}} -> !torch.vtensor<[2],f16>
// CHECK: %[[WIDE:.*]] = torch.prims.convert_element_type %[[ROUNDED]], {{.*}} -> !torch.vtensor<[2],f32>
// CHECK: torch.aten.mul.Tensor {{.*}}, %[[WIDE]]
func.func @factors(%x: !torch.vtensor<[2],f16>, %n: !torch.vtensor<[2],si64>)
    -> !torch.vtensor<[2],f16> {
  %tenth = torch.constant.float 1.000000e-01
  %y = torch.aten.mul.Scalar %x, %tenth
    : !torch.vtensor<[2],f16>, !torch.float -> !torch.vtensor<[2],f16>
  %z = torch.aten.mul.Tensor %y, %n
    : !torch.vtensor<[2],f16>, !torch.vtensor<[2],si64> -> !torch.vtensor<[2],f16>
  return %z : !torch.vtensor<[2],f16>
}

// What moves or compares values stays; numbers are compared as the tensor would hold them.
// CHECK: func.func @stays(%[[X:.*]]: !torch.vtensor<[2],bf16>, %[[S:.*]]: !torch.vtensor<[2],f32>)
// CHECK-NOT: convert_element_type
// CHECK: torch.aten.neg %[[X]]
// CHECK: %[[TENTH:.*]] = torch.constant.float 0.10000000149011612
// CHECK: torch.aten.gt.Scalar %[[S]], %[[TENTH]]
// CHECK: torch.aten.mul.Tensor %[[S]], %[[S]]
func.func @stays(%x: !torch.vtensor<[2],bf16>, %s: !torch.vtensor<[2],f32>)
    -> (!torch.vtensor<[2],bf16>, !torch.vtensor<[2],i1>, !torch.vtensor<[2],f32>) {
  %tenth = torch.constant.float 1.000000e-01
  %y = torch.aten.neg %x : !torch.vtensor<[2],bf16> -> !torch.vtensor<[2],bf16>
  %above = torch.aten.gt.Scalar %s, %tenth
    : !torch.vtensor<[2],f32>, !torch.float -> !torch.vtensor<[2],i1>
  %square = torch.aten.mul.Tensor %s, %s
    : !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32> -> !torch.vtensor<[2],f32>
  return %y, %above, %square
    : !torch.vtensor<[2],bf16>, !torch.vtensor<[2],i1>, !torch.vtensor<[2],f32>
}
