// The addresses of the parameters' storage parts, in the order the compiler fixed.
llvm.mlir.global internal @qcc_parameters(0 : i64) : i64

llvm.func @qcc_set_parameters(%table: !llvm.ptr) {
  %at = llvm.mlir.addressof @qcc_parameters : !llvm.ptr
  llvm.store %table, %at : !llvm.ptr, !llvm.ptr
  llvm.return
}

// The KV caches: the number of positions they hold, then the addresses of each cache's arrays: the
// parts of the keys, their marks if they are packed, and the same for the values.
llvm.mlir.global internal @qcc_caches(0 : i64) : i64

llvm.func @qcc_set_caches(%table: !llvm.ptr) {
  %at = llvm.mlir.addressof @qcc_caches : !llvm.ptr
  llvm.store %table, %at : !llvm.ptr, !llvm.ptr
  llvm.return
}
