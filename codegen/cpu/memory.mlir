// Memory of the tensors of a call: large buffers that are freed serve again.
//
// A model's layers ask for the same sizes again and again. Given back to the system in between,
// each of their pages would be cleared and mapped anew, a fifth of the time of a long prompt or of
// an image. Up to 32 MiB are kept from call to call, so that small models find all theirs. Large
// buffers begin at a cache line; every one can be freed by free(), as results are. Calls of an
// object never overlap, and kernels allocate nothing.
//
// Where the system has no more, a call ends: what it holds is freed, and its entry returns at once
// (guard_memory.py) with the bytes that were refused. For that the buffers in use are listed, the
// first 1024 of them; those in use at the end of a call are its results, which are the caller's.

llvm.mlir.global internal @memory_kept(dense<0> : tensor<32xi64>) : !llvm.array<32 x i64>
llvm.mlir.global internal @memory_used(dense<0> : tensor<1024xi64>) : !llvm.array<1024 x i64>
llvm.mlir.global internal @memory_used_count(0 : i64) : i64
llvm.mlir.global internal @memory_refused(0 : i64) : i64
// A jmp_buf: 200 bytes with glibc on x86-64.
llvm.mlir.global internal @memory_escape(dense<0> : tensor<32xi64>) {alignment = 64 : i64} : !llvm.array<32 x i64>

llvm.func @malloc(i64) -> !llvm.ptr
llvm.func @aligned_alloc(i64, i64) -> !llvm.ptr
llvm.func @malloc_usable_size(!llvm.ptr) -> i64
llvm.func @free(!llvm.ptr)
llvm.func @longjmp(!llvm.ptr, i32)

// By the names that finalize-memref-to-llvm calls.
llvm.func internal @_mlir_memref_to_llvm_alloc(%bytes: i64) -> !llvm.ptr attributes {no_inline} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %line = llvm.mlir.constant(64 : i64) : i64
  %below_line = llvm.mlir.constant(63 : i64) : i64
  %whole_lines = llvm.mlir.constant(-64 : i64) : i64
  %large = llvm.mlir.constant(65536 : i64) : i64
  %slots = llvm.mlir.constant(32 : i64) : i64
  %none = llvm.mlir.constant(-1 : i64) : i64
  %null = llvm.mlir.zero : !llvm.ptr
  %kept_at = llvm.mlir.addressof @memory_kept : !llvm.ptr
  %is_small = llvm.icmp "ult" %bytes, %large : i64
  llvm.cond_br %is_small, ^small, ^large
^small:
  %small = llvm.call @malloc(%bytes) : (i64) -> !llvm.ptr
  llvm.br ^given(%small : !llvm.ptr)
^large:
  // The smallest that fits, and of at most twice the size.
  %most = llvm.shl %bytes, %one : i64
  llvm.br ^look(%zero, %none, %most : i64, i64, i64)
^look(%slot: i64, %best: i64, %least: i64):
  %more = llvm.icmp "ult" %slot, %slots : i64
  llvm.cond_br %more, ^weigh, ^chosen
^weigh:
  %slot_at = llvm.getelementptr %kept_at[%slot] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %kept = llvm.load %slot_at : !llvm.ptr -> !llvm.ptr
  %size = llvm.call @malloc_usable_size(%kept) : (!llvm.ptr) -> i64
  %fits = llvm.icmp "uge" %size, %bytes : i64
  %smaller = llvm.icmp "ule" %size, %least : i64
  %better = llvm.and %fits, %smaller : i1
  %following = llvm.select %better, %slot, %best : i1, i64
  %bound = llvm.select %better, %size, %least : i1, i64
  %next = llvm.add %slot, %one : i64
  llvm.br ^look(%next, %following, %bound : i64, i64, i64)
^chosen:
  %found = llvm.icmp "ne" %best, %none : i64
  llvm.cond_br %found, ^again, ^fresh
^again:
  %best_at = llvm.getelementptr %kept_at[%best] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %taken = llvm.load %best_at : !llvm.ptr -> !llvm.ptr
  llvm.store %zero, %best_at : i64, !llvm.ptr
  llvm.br ^given(%taken : !llvm.ptr)
^fresh:
  %longer = llvm.add %bytes, %below_line : i64
  %rounded = llvm.and %longer, %whole_lines : i64
  %fresh = llvm.call @aligned_alloc(%line, %rounded) : (i64, i64) -> !llvm.ptr
  %missing = llvm.icmp "eq" %fresh, %null : !llvm.ptr
  llvm.cond_br %missing, ^spare, ^given(%fresh : !llvm.ptr)
^spare:
  // What is kept for later may be what is missing now.
  llvm.call @free_kept_beyond(%zero) : (i64) -> ()
  %spared = llvm.call @aligned_alloc(%line, %rounded) : (i64, i64) -> !llvm.ptr
  llvm.br ^given(%spared : !llvm.ptr)
^given(%buffer: !llvm.ptr):
  %refused = llvm.icmp "eq" %buffer, %null : !llvm.ptr
  llvm.cond_br %refused, ^end, ^list
^end:
  llvm.call @end_call(%bytes) : (i64) -> ()
  llvm.unreachable
^list:
  %count_at = llvm.mlir.addressof @memory_used_count : !llvm.ptr
  %count = llvm.load %count_at : !llvm.ptr -> i64
  %listed = llvm.mlir.constant(1024 : i64) : i64
  %room = llvm.icmp "ult" %count, %listed : i64
  llvm.cond_br %room, ^note, ^done
^note:
  %used = llvm.mlir.addressof @memory_used : !llvm.ptr
  %used_at = llvm.getelementptr %used[%count] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  llvm.store %buffer, %used_at : !llvm.ptr, !llvm.ptr
  %counted = llvm.add %count, %one : i64
  llvm.store %counted, %count_at : i64, !llvm.ptr
  llvm.br ^done
^done:
  llvm.return %buffer : !llvm.ptr
}

// Free what the call holds, and return from its entry.
llvm.func internal @end_call(%bytes: i64) attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %again = llvm.mlir.constant(1 : i32) : i32
  %refused_at = llvm.mlir.addressof @memory_refused : !llvm.ptr
  %escape = llvm.mlir.addressof @memory_escape : !llvm.ptr
  %used = llvm.mlir.addressof @memory_used : !llvm.ptr
  %count_at = llvm.mlir.addressof @memory_used_count : !llvm.ptr
  llvm.store %bytes, %refused_at : i64, !llvm.ptr
  %count = llvm.load %count_at : !llvm.ptr -> i64
  llvm.br ^each(%zero : i64)
^each(%index: i64):
  %more = llvm.icmp "ult" %index, %count : i64
  llvm.cond_br %more, ^free, ^leave
^free:
  %used_at = llvm.getelementptr %used[%index] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %buffer = llvm.load %used_at : !llvm.ptr -> !llvm.ptr
  llvm.call @free(%buffer) : (!llvm.ptr) -> ()
  %next = llvm.add %index, %one : i64
  llvm.br ^each(%next : i64)
^leave:
  llvm.store %zero, %count_at : i64, !llvm.ptr
  llvm.call @longjmp(%escape, %again) : (!llvm.ptr, i32) -> ()
  llvm.unreachable
}

// Where the runtime reads, and sets back to 0, the bytes that a call was refused.
llvm.func @qcc_refused() -> !llvm.ptr attributes {no_inline, optimize_none} {
  %refused_at = llvm.mlir.addressof @memory_refused : !llvm.ptr
  llvm.return %refused_at : !llvm.ptr
}

llvm.func internal @_mlir_memref_to_llvm_free(%buffer: !llvm.ptr) attributes {no_inline} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %large = llvm.mlir.constant(65536 : i64) : i64
  %slots = llvm.mlir.constant(32 : i64) : i64
  %kept_at = llvm.mlir.addressof @memory_kept : !llvm.ptr
  %used = llvm.mlir.addressof @memory_used : !llvm.ptr
  %count_at = llvm.mlir.addressof @memory_used_count : !llvm.ptr
  %count = llvm.load %count_at : !llvm.ptr -> i64
  // The last of the list takes the place of this one, which is often among the last itself.
  llvm.br ^before(%count : i64)
^before(%behind: i64):
  %unlisted = llvm.icmp "eq" %behind, %zero : i64
  llvm.cond_br %unlisted, ^weigh, ^compare
^compare:
  %index = llvm.sub %behind, %one : i64
  %used_at = llvm.getelementptr %used[%index] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %user = llvm.load %used_at : !llvm.ptr -> !llvm.ptr
  %same = llvm.icmp "eq" %user, %buffer : !llvm.ptr
  llvm.cond_br %same, ^strike, ^before(%index : i64)
^strike:
  %fewer = llvm.sub %count, %one : i64
  %last_at = llvm.getelementptr %used[%fewer] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %last = llvm.load %last_at : !llvm.ptr -> !llvm.ptr
  llvm.store %last, %used_at : !llvm.ptr, !llvm.ptr
  llvm.store %fewer, %count_at : i64, !llvm.ptr
  llvm.br ^weigh
^weigh:
  %size = llvm.call @malloc_usable_size(%buffer) : (!llvm.ptr) -> i64
  %is_small = llvm.icmp "ult" %size, %large : i64
  llvm.cond_br %is_small, ^free, ^look(%zero : i64)
^look(%slot: i64):
  %more = llvm.icmp "ult" %slot, %slots : i64
  llvm.cond_br %more, ^at, ^free
^at:
  %slot_at = llvm.getelementptr %kept_at[%slot] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %held = llvm.load %slot_at : !llvm.ptr -> i64
  %empty = llvm.icmp "eq" %held, %zero : i64
  %next = llvm.add %slot, %one : i64
  llvm.cond_br %empty, ^keep, ^look(%next : i64)
^keep:
  llvm.store %buffer, %slot_at : !llvm.ptr, !llvm.ptr
  llvm.return
^free:
  llvm.call @free(%buffer) : (!llvm.ptr) -> ()
  llvm.return
}

// At the end of a call: what is kept for the next one is little, what is used are results.
llvm.func internal @qcc_trim_kept() attributes {no_inline, optimize_none} {
  %most = llvm.mlir.constant(33554432 : i64) : i64
  %zero = llvm.mlir.constant(0 : i64) : i64
  %count_at = llvm.mlir.addressof @memory_used_count : !llvm.ptr
  llvm.store %zero, %count_at : i64, !llvm.ptr
  llvm.call @free_kept_beyond(%most) : (i64) -> ()
  llvm.return
}

// Before the object is unloaded.
llvm.func @qcc_free_kept() attributes {no_inline, optimize_none} {
  %none = llvm.mlir.constant(0 : i64) : i64
  llvm.call @free_kept_beyond(%none) : (i64) -> ()
  llvm.return
}

// Keep the first buffers that have `most` bytes together, free the others.
llvm.func internal @free_kept_beyond(%most: i64) attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %slots = llvm.mlir.constant(32 : i64) : i64
  %kept_at = llvm.mlir.addressof @memory_kept : !llvm.ptr
  llvm.br ^each(%zero, %zero : i64, i64)
^each(%slot: i64, %bytes: i64):
  %slot_at = llvm.getelementptr %kept_at[%slot] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.ptr
  %held = llvm.load %slot_at : !llvm.ptr -> !llvm.ptr
  %size = llvm.call @malloc_usable_size(%held) : (!llvm.ptr) -> i64
  %sum = llvm.add %bytes, %size : i64
  %fits = llvm.icmp "ule" %sum, %most : i64
  llvm.cond_br %fits, ^next(%sum : i64), ^free
^free:
  llvm.call @free(%held) : (!llvm.ptr) -> ()
  llvm.store %zero, %slot_at : i64, !llvm.ptr
  llvm.br ^next(%bytes : i64)
^next(%total: i64):
  %next = llvm.add %slot, %one : i64
  %more = llvm.icmp "ult" %next, %slots : i64
  llvm.cond_br %more, ^each(%next, %total : i64, i64), ^done
^done:
  llvm.return
}
