// What another device computes: the function of the host that has it done, called with addresses.
llvm.mlir.global internal @qcc_device(0 : i64) : i64

llvm.func @qcc_set_device(%function: !llvm.ptr) {
  %at = llvm.mlir.addressof @qcc_device : !llvm.ptr
  llvm.store %function, %at : !llvm.ptr, !llvm.ptr
  llvm.return
}

// The number of the call, input, its rows, bias or 0, result; of a function numbers and columns.
func.func private @qcc_call_device(%number: i64, %input: i64, %rows: i64, %other: i64, %result: i64) {
  %at = llvm.mlir.addressof @qcc_device : !llvm.ptr
  %function = llvm.load %at : !llvm.ptr -> !llvm.ptr
  llvm.call %function(%number, %input, %rows, %other, %result) : !llvm.ptr, (i64, i64, i64, i64, i64) -> ()
  func.return
}
