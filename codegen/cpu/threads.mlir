// The thread pool of a compiled CPU object: parked pthreads and one job at a time.
//
// A job is a function over a range [0, total), cut into chunks of `grain` that the threads take
// from an atomic counter. Workers spin for a bounded moment between jobs, then park on a
// condition variable. Calls into one object are serialized by its owner, so there is one job.

llvm.mlir.global internal @pool_lock(dense<0> : tensor<8xi64>) : !llvm.array<8 x i64>
llvm.mlir.global internal @pool_wake(dense<0> : tensor<8xi64>) : !llvm.array<8 x i64>
llvm.mlir.global internal @pool_handles(dense<0> : tensor<256xi64>) : !llvm.array<256 x i64>
llvm.mlir.global internal @pool_workers(0 : i64) : i64
llvm.mlir.global internal @pool_generation(0 : i64) : i64
llvm.mlir.global internal @pool_stopping(0 : i64) : i64
llvm.mlir.global internal @pool_running(0 : i64) : i64
llvm.mlir.global internal @job_function(0 : i64) : i64
llvm.mlir.global internal @job_arguments(0 : i64) : i64
llvm.mlir.global internal @job_total(0 : i64) : i64
llvm.mlir.global internal @job_grain(0 : i64) : i64
llvm.mlir.global internal @job_next(0 : i64) : i64

llvm.func @pthread_create(!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr) -> i32
llvm.func @pthread_join(i64, !llvm.ptr) -> i32
llvm.func @pthread_mutex_lock(!llvm.ptr) -> i32
llvm.func @pthread_mutex_unlock(!llvm.ptr) -> i32
llvm.func @pthread_cond_wait(!llvm.ptr, !llvm.ptr) -> i32
llvm.func @pthread_cond_broadcast(!llvm.ptr) -> i32
llvm.func @sched_yield() -> i32

// Takes chunks of the current job until none is left.
llvm.func internal @pool_take_chunks() {
  %next = llvm.mlir.addressof @job_next : !llvm.ptr
  %total_at = llvm.mlir.addressof @job_total : !llvm.ptr
  %grain_at = llvm.mlir.addressof @job_grain : !llvm.ptr
  %function_at = llvm.mlir.addressof @job_function : !llvm.ptr
  %arguments_at = llvm.mlir.addressof @job_arguments : !llvm.ptr
  %total = llvm.load %total_at : !llvm.ptr -> i64
  %grain = llvm.load %grain_at : !llvm.ptr -> i64
  %function = llvm.load %function_at : !llvm.ptr -> !llvm.ptr
  %arguments = llvm.load %arguments_at : !llvm.ptr -> !llvm.ptr
  llvm.br ^take
^take:
  %begin = llvm.atomicrmw add %next, %grain acq_rel : !llvm.ptr, i64
  %left = llvm.icmp "slt" %begin, %total : i64
  llvm.cond_br %left, ^run, ^done
^run:
  %stop = llvm.add %begin, %grain : i64
  %end = llvm.intr.smin(%stop, %total) : (i64, i64) -> i64
  llvm.call %function(%arguments, %begin, %end) : !llvm.ptr, (!llvm.ptr, i64, i64) -> ()
  llvm.br ^take
^done:
  llvm.return
}

// A worker's life: wait for a new generation, help, check in.
llvm.func internal @pool_worker(%argument: !llvm.ptr) -> !llvm.ptr {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %spins = llvm.mlir.constant(2000 : i64) : i64
  %lock = llvm.mlir.addressof @pool_lock : !llvm.ptr
  %wake = llvm.mlir.addressof @pool_wake : !llvm.ptr
  %generation_at = llvm.mlir.addressof @pool_generation : !llvm.ptr
  %stopping_at = llvm.mlir.addressof @pool_stopping : !llvm.ptr
  %running = llvm.mlir.addressof @pool_running : !llvm.ptr
  %first = llvm.ptrtoint %argument : !llvm.ptr to i64
  llvm.br ^idle(%first, %zero : i64, i64)
^idle(%seen: i64, %spun: i64):
  %now = llvm.load %generation_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %new = llvm.icmp "ne" %now, %seen : i64
  llvm.cond_br %new, ^work(%now : i64), ^spin
^spin:
  llvm.call_intrinsic "llvm.x86.sse2.pause"() : () -> ()
  %spun_more = llvm.add %spun, %one : i64
  %tired = llvm.icmp "sge" %spun_more, %spins : i64
  llvm.cond_br %tired, ^park, ^idle(%seen, %spun_more : i64, i64)
^park:
  %locked = llvm.call @pthread_mutex_lock(%lock) : (!llvm.ptr) -> i32
  llvm.br ^parked
^parked:
  %seen_now = llvm.load %generation_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %changed = llvm.icmp "ne" %seen_now, %seen : i64
  llvm.cond_br %changed, ^leave, ^sleep
^sleep:
  %slept = llvm.call @pthread_cond_wait(%wake, %lock) : (!llvm.ptr, !llvm.ptr) -> i32
  llvm.br ^parked
^leave:
  %unlocked = llvm.call @pthread_mutex_unlock(%lock) : (!llvm.ptr) -> i32
  llvm.br ^work(%seen_now : i64)
^work(%current: i64):
  %stopping = llvm.load %stopping_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %stop = llvm.icmp "ne" %stopping, %zero : i64
  llvm.cond_br %stop, ^exit, ^help
^help:
  llvm.call @pool_take_chunks() : () -> ()
  %before = llvm.atomicrmw sub %running, %one acq_rel : !llvm.ptr, i64
  llvm.br ^idle(%current, %zero : i64, i64)
^exit:
  %null = llvm.mlir.zero : !llvm.ptr
  llvm.return %null : !llvm.ptr
}

// Starts a generation: every worker will see it, awake or parked.
llvm.func internal @pool_announce() {
  %one = llvm.mlir.constant(1 : i64) : i64
  %lock = llvm.mlir.addressof @pool_lock : !llvm.ptr
  %wake = llvm.mlir.addressof @pool_wake : !llvm.ptr
  %generation_at = llvm.mlir.addressof @pool_generation : !llvm.ptr
  %locked = llvm.call @pthread_mutex_lock(%lock) : (!llvm.ptr) -> i32
  %before = llvm.atomicrmw add %generation_at, %one acq_rel : !llvm.ptr, i64
  %woken = llvm.call @pthread_cond_broadcast(%wake) : (!llvm.ptr) -> i32
  %unlocked = llvm.call @pthread_mutex_unlock(%lock) : (!llvm.ptr) -> i32
  llvm.return
}

// Runs function(arguments, begin, end) over [0, total) and returns when all of it is done.
llvm.func @qcc_parallel_for(%function: !llvm.ptr, %arguments: !llvm.ptr, %total: i64, %grain: i64) {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %patience = llvm.mlir.constant(4000 : i64) : i64
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  %workers = llvm.load %workers_at : !llvm.ptr -> i64
  %alone = llvm.icmp "eq" %workers, %zero : i64
  %small = llvm.icmp "sle" %total, %grain : i64
  %serial = llvm.or %alone, %small : i1
  llvm.cond_br %serial, ^serial, ^shared
^serial:
  llvm.call %function(%arguments, %zero, %total) : !llvm.ptr, (!llvm.ptr, i64, i64) -> ()
  llvm.return
^shared:
  %function_at = llvm.mlir.addressof @job_function : !llvm.ptr
  %arguments_at = llvm.mlir.addressof @job_arguments : !llvm.ptr
  %total_at = llvm.mlir.addressof @job_total : !llvm.ptr
  %grain_at = llvm.mlir.addressof @job_grain : !llvm.ptr
  %next = llvm.mlir.addressof @job_next : !llvm.ptr
  %running = llvm.mlir.addressof @pool_running : !llvm.ptr
  llvm.store %function, %function_at : !llvm.ptr, !llvm.ptr
  llvm.store %arguments, %arguments_at : !llvm.ptr, !llvm.ptr
  llvm.store %total, %total_at : i64, !llvm.ptr
  llvm.store %grain, %grain_at : i64, !llvm.ptr
  llvm.store %zero, %next : i64, !llvm.ptr
  llvm.store %workers, %running : i64, !llvm.ptr
  llvm.call @pool_announce() : () -> ()
  llvm.call @pool_take_chunks() : () -> ()
  llvm.br ^wait(%zero : i64)
^wait(%waited: i64):
  %busy = llvm.load %running atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %finished = llvm.icmp "eq" %busy, %zero : i64
  llvm.cond_br %finished, ^done, ^pause
^pause:
  llvm.call_intrinsic "llvm.x86.sse2.pause"() : () -> ()
  %waited_more = llvm.add %waited, %one : i64
  %impatient = llvm.icmp "sge" %waited_more, %patience : i64
  llvm.cond_br %impatient, ^yield, ^wait(%waited_more : i64)
^yield:
  %yielded = llvm.call @sched_yield() : () -> i32
  llvm.br ^wait(%zero : i64)
^done:
  llvm.return
}

// Starts `count` workers beside the calling thread; returns how many really started.
llvm.func @qcc_start_workers(%count: i64) -> i64 {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %most = llvm.mlir.constant(255 : i64) : i64
  %null = llvm.mlir.zero : !llvm.ptr
  %ok = llvm.mlir.constant(0 : i32) : i32
  %handles = llvm.mlir.addressof @pool_handles : !llvm.ptr
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  %stopping_at = llvm.mlir.addressof @pool_stopping : !llvm.ptr
  %generation_at = llvm.mlir.addressof @pool_generation : !llvm.ptr
  %worker = llvm.mlir.addressof @pool_worker : !llvm.ptr
  %wanted = llvm.intr.smin(%count, %most) : (i64, i64) -> i64
  llvm.store %zero, %stopping_at : i64, !llvm.ptr
  %generation = llvm.load %generation_at : !llvm.ptr -> i64
  %argument = llvm.inttoptr %generation : i64 to !llvm.ptr
  llvm.br ^next(%zero : i64)
^next(%started: i64):
  %more = llvm.icmp "slt" %started, %wanted : i64
  llvm.cond_br %more, ^start, ^done
^start:
  %handle = llvm.getelementptr %handles[%started] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %status = llvm.call @pthread_create(%handle, %null, %worker, %argument) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr) -> i32
  %created = llvm.icmp "eq" %status, %ok : i32
  %counted = llvm.add %started, %one : i64
  llvm.cond_br %created, ^next(%counted : i64), ^done
^done:
  llvm.store %started, %workers_at : i64, !llvm.ptr
  llvm.return %started : i64
}

// Ends and joins every worker; the pool can be started again.
llvm.func @qcc_stop_workers() {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %null = llvm.mlir.zero : !llvm.ptr
  %handles = llvm.mlir.addressof @pool_handles : !llvm.ptr
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  %stopping_at = llvm.mlir.addressof @pool_stopping : !llvm.ptr
  %workers = llvm.load %workers_at : !llvm.ptr -> i64
  llvm.store %one, %stopping_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  llvm.call @pool_announce() : () -> ()
  llvm.br ^next(%zero : i64)
^next(%joined: i64):
  %more = llvm.icmp "slt" %joined, %workers : i64
  llvm.cond_br %more, ^join, ^done
^join:
  %handle_at = llvm.getelementptr %handles[%joined] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %handle = llvm.load %handle_at : !llvm.ptr -> i64
  %status = llvm.call @pthread_join(%handle, %null) : (i64, !llvm.ptr) -> i32
  %counted = llvm.add %joined, %one : i64
  llvm.br ^next(%counted : i64)
^done:
  llvm.store %zero, %workers_at : i64, !llvm.ptr
  llvm.return
}

// For a forked child, whose copies of the workers do not exist.
llvm.func @qcc_forget_workers() {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  llvm.store %zero, %workers_at : i64, !llvm.ptr
  llvm.return
}
