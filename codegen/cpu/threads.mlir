// The thread pool of a compiled CPU object: parked pthreads and one job at a time.
//
// A job is a function over a range [0, total), cut into chunks. Its ticket counts the chunks that
// nobody has taken (lower 16 bits) beside the number of the job (47 bits); its sign says that the
// workers shall end. A thread takes a chunk by decrementing the ticket with a compare-and-swap, and
// the caller returns when all chunks are finished: it waits for no worker that took none.
//
// A latecomer, one that read the ticket of job g and went on only after g was over, does no harm.
// * It runs nothing: its swap expects (g, left > 0), and the ticket has passed (g, 0) for good,
//   since the next 2^47 tickets have other numbers. A ticket with nothing left is never swapped.
// * Its reads of the job's fields may see those of a later job, and are discarded. Were a field
//   of g + 1 to meet a successful swap, then that field's release store, which follows the end of
//   g in the caller, would come before the swap, which so could not find (g, left > 0).
// * It writes `unfinished` only for chunks that it took, while the caller of g still waits.
// So whoever takes a chunk of g has read the fields of g, stored before the ticket's release, and
// the caller's arguments outlive the call. What a chunk wrote is released by the decrement of
// `unfinished` and acquired by the caller's last read of it.
//
// Workers spin for a bounded moment, then park on a condition variable. A worker counts itself
// among the sleepers, then reads the ticket; a caller sets the ticket, then reads the sleepers:
// both in the one order of sequentially consistent operations, so that one sees the other. A
// caller that sees none spares the wake-up; one that sees some broadcasts under the lock, which a
// sleeper holds from before it counted itself until it waits.
//
// None of it is optimized: an object is built often, and a launch takes but a few nanoseconds more.
//
// A call that comes while the pool has a job, from a chunk of it or from another thread, computes
// alone. What threads write often lies on lines of its own; two, as processors fetch them in pairs.

llvm.mlir.global internal @job_ticket(dense<0> : tensor<16xi64>) {alignment = 128 : i64} : !llvm.array<16 x i64>
llvm.mlir.global internal @job_unfinished(dense<0> : tensor<16xi64>) {alignment = 128 : i64} : !llvm.array<16 x i64>
// Function, arguments, total, chunk size, number of chunks: written by the caller alone.
llvm.mlir.global internal @job_fields(dense<0> : tensor<16xi64>) {alignment = 128 : i64} : !llvm.array<16 x i64>
llvm.mlir.global internal @pool_sleepers(dense<0> : tensor<16xi64>) {alignment = 128 : i64} : !llvm.array<16 x i64>
// Whether the pool has a job, and the number of workers: of callers alone.
llvm.mlir.global internal @pool_busy(dense<0> : tensor<16xi64>) {alignment = 128 : i64} : !llvm.array<16 x i64>
llvm.mlir.global internal @pool_workers(0 : i64) : i64
llvm.mlir.global internal @pool_lock(dense<0> : tensor<8xi64>) {alignment = 64 : i64} : !llvm.array<8 x i64>
llvm.mlir.global internal @pool_wake(dense<0> : tensor<8xi64>) {alignment = 64 : i64} : !llvm.array<8 x i64>
llvm.mlir.global internal @pool_handles(dense<0> : tensor<256xi64>) : !llvm.array<256 x i64>

llvm.func @pthread_create(!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr) -> i32
llvm.func @pthread_join(i64, !llvm.ptr) -> i32
llvm.func @pthread_mutex_lock(!llvm.ptr) -> i32
llvm.func @pthread_mutex_unlock(!llvm.ptr) -> i32
llvm.func @pthread_cond_wait(!llvm.ptr, !llvm.ptr) -> i32
llvm.func @pthread_cond_broadcast(!llvm.ptr) -> i32
llvm.func @sched_yield() -> i32

// Takes chunks of the current job until none is left, then reports those it finished.
llvm.func internal @pool_take_chunks() attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %left_mask = llvm.mlir.constant(65535 : i64) : i64
  %ticket_at = llvm.mlir.addressof @job_ticket : !llvm.ptr
  %unfinished_at = llvm.mlir.addressof @job_unfinished : !llvm.ptr
  %function_at = llvm.mlir.addressof @job_fields : !llvm.ptr
  %arguments_at = llvm.getelementptr %function_at[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %total_at = llvm.getelementptr %function_at[2] : (!llvm.ptr) -> !llvm.ptr, i64
  %chunk_at = llvm.getelementptr %function_at[3] : (!llvm.ptr) -> !llvm.ptr, i64
  %count_at = llvm.getelementptr %function_at[4] : (!llvm.ptr) -> !llvm.ptr, i64
  llvm.br ^look(%zero : i64)
^look(%finished: i64):
  %ticket = llvm.load %ticket_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %left = llvm.and %ticket, %left_mask : i64
  %exhausted = llvm.icmp "eq" %left, %zero : i64
  llvm.cond_br %exhausted, ^leave, ^take
^take:
  %function = llvm.load %function_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> !llvm.ptr
  %arguments = llvm.load %arguments_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> !llvm.ptr
  %total = llvm.load %total_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %chunk = llvm.load %chunk_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %count = llvm.load %count_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %lower = llvm.sub %ticket, %one : i64
  %swap = llvm.cmpxchg %ticket_at, %ticket, %lower acq_rel acquire : !llvm.ptr, i64
  %taken = llvm.extractvalue %swap[1] : !llvm.struct<(i64, i1)>
  llvm.cond_br %taken, ^run, ^look(%finished : i64)
^run:
  %index = llvm.sub %count, %left : i64
  %begin = llvm.mul %index, %chunk : i64
  %stop = llvm.add %begin, %chunk : i64
  %end = llvm.intr.smin(%stop, %total) : (i64, i64) -> i64
  llvm.call %function(%arguments, %begin, %end) : !llvm.ptr, (!llvm.ptr, i64, i64) -> ()
  %finished_more = llvm.add %finished, %one : i64
  llvm.br ^look(%finished_more : i64)
^leave:
  %some = llvm.icmp "ne" %finished, %zero : i64
  llvm.cond_br %some, ^report, ^done
^report:
  %before = llvm.atomicrmw sub %unfinished_at, %finished acq_rel : !llvm.ptr, i64
  llvm.br ^done
^done:
  llvm.return
}

// A worker's life: wait for a ticket with chunks left, help.
llvm.func internal @pool_worker(%argument: !llvm.ptr) -> !llvm.ptr attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %spins = llvm.mlir.constant(2000 : i64) : i64
  %left_mask = llvm.mlir.constant(65535 : i64) : i64
  %null = llvm.mlir.zero : !llvm.ptr
  %lock = llvm.mlir.addressof @pool_lock : !llvm.ptr
  %wake = llvm.mlir.addressof @pool_wake : !llvm.ptr
  %ticket_at = llvm.mlir.addressof @job_ticket : !llvm.ptr
  %sleepers_at = llvm.mlir.addressof @pool_sleepers : !llvm.ptr
  llvm.br ^idle(%zero : i64)
^idle(%spun: i64):
  %ticket = llvm.load %ticket_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %left = llvm.and %ticket, %left_mask : i64
  %exhausted = llvm.icmp "eq" %left, %zero : i64
  llvm.cond_br %exhausted, ^rest, ^help
^help:
  llvm.call @pool_take_chunks() : () -> ()
  llvm.br ^idle(%zero : i64)
^rest:
  %ending = llvm.icmp "slt" %ticket, %zero : i64
  llvm.cond_br %ending, ^exit, ^spin
^spin:
  llvm.call_intrinsic "llvm.x86.sse2.pause"() : () -> ()
  %spun_more = llvm.add %spun, %one : i64
  %tired = llvm.icmp "sge" %spun_more, %spins : i64
  llvm.cond_br %tired, ^park, ^idle(%spun_more : i64)
^park:
  %locked = llvm.call @pthread_mutex_lock(%lock) : (!llvm.ptr) -> i32
  %others = llvm.atomicrmw add %sleepers_at, %one seq_cst : !llvm.ptr, i64
  %last_look = llvm.load %ticket_at atomic seq_cst {alignment = 8 : i64} : !llvm.ptr -> i64
  %same = llvm.icmp "eq" %last_look, %ticket : i64
  llvm.cond_br %same, ^sleep, ^rise
^sleep:
  %slept = llvm.call @pthread_cond_wait(%wake, %lock) : (!llvm.ptr, !llvm.ptr) -> i32
  llvm.br ^rise
^rise:
  %counted = llvm.atomicrmw sub %sleepers_at, %one seq_cst : !llvm.ptr, i64
  %unlocked = llvm.call @pthread_mutex_unlock(%lock) : (!llvm.ptr) -> i32
  llvm.br ^idle(%zero : i64)
^exit:
  llvm.return %null : !llvm.ptr
}

// Sets the ticket: every worker will see it, awake or parked.
llvm.func internal @pool_announce(%ticket: i64) attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %lock = llvm.mlir.addressof @pool_lock : !llvm.ptr
  %wake = llvm.mlir.addressof @pool_wake : !llvm.ptr
  %ticket_at = llvm.mlir.addressof @job_ticket : !llvm.ptr
  %sleepers_at = llvm.mlir.addressof @pool_sleepers : !llvm.ptr
  %before = llvm.atomicrmw xchg %ticket_at, %ticket seq_cst : !llvm.ptr, i64
  %sleepers = llvm.load %sleepers_at atomic seq_cst {alignment = 8 : i64} : !llvm.ptr -> i64
  %all_awake = llvm.icmp "eq" %sleepers, %zero : i64
  llvm.cond_br %all_awake, ^done, ^wake
^wake:
  %locked = llvm.call @pthread_mutex_lock(%lock) : (!llvm.ptr) -> i32
  %woken = llvm.call @pthread_cond_broadcast(%wake) : (!llvm.ptr) -> i32
  %unlocked = llvm.call @pthread_mutex_unlock(%lock) : (!llvm.ptr) -> i32
  llvm.br ^done
^done:
  llvm.return
}

// Runs function(arguments, begin, end) over [0, total) and returns when all of it is done.
//
// Chunks are of at least `grain`, and no more than eight for each thread.
llvm.func internal @qcc_parallel_for(%function: !llvm.ptr, %arguments: !llvm.ptr, %total: i64, %grain: i64) attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %turns = llvm.mlir.constant(8 : i64) : i64
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  %workers = llvm.load %workers_at : !llvm.ptr -> i64
  %alone = llvm.icmp "eq" %workers, %zero : i64
  %small = llvm.icmp "sle" %total, %grain : i64
  %serial = llvm.or %alone, %small : i1
  llvm.cond_br %serial, ^serial, ^enter
^serial:
  llvm.call %function(%arguments, %zero, %total) : !llvm.ptr, (!llvm.ptr, i64, i64) -> ()
  llvm.return
^enter:
  %busy_at = llvm.mlir.addressof @pool_busy : !llvm.ptr
  %busy = llvm.atomicrmw xchg %busy_at, %one acq_rel : !llvm.ptr, i64
  %free = llvm.icmp "eq" %busy, %zero : i64
  llvm.cond_br %free, ^share, ^serial
^share:
  %threads = llvm.add %workers, %one : i64
  %most = llvm.mul %threads, %turns : i64
  %even = llvm.call @pool_quotient(%total, %most) : (i64, i64) -> i64
  %chunk = llvm.intr.smax(%even, %grain) : (i64, i64) -> i64
  %count = llvm.call @pool_quotient(%total, %chunk) : (i64, i64) -> i64
  llvm.call @pool_run(%function, %arguments, %total, %chunk, %count) : (!llvm.ptr, !llvm.ptr, i64, i64, i64) -> ()
  llvm.store %zero, %busy_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  llvm.return
}

// a / b, rounded up.
llvm.func internal @pool_quotient(%a: i64, %b: i64) -> i64 attributes {no_inline, optimize_none} {
  %one = llvm.mlir.constant(1 : i64) : i64
  %almost = llvm.sub %b, %one : i64
  %sum = llvm.add %a, %almost : i64
  %quotient = llvm.udiv %sum, %b : i64
  llvm.return %quotient : i64
}

// Publishes the job of the one caller that has the pool, helps, and waits for the last chunk.
llvm.func internal @pool_run(%function: !llvm.ptr, %arguments: !llvm.ptr, %total: i64, %chunk: i64, %count: i64) attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %patience = llvm.mlir.constant(4000 : i64) : i64
  %number_unit = llvm.mlir.constant(65536 : i64) : i64
  %number_mask = llvm.mlir.constant(0x7FFFFFFFFFFF0000 : i64) : i64
  %ticket_at = llvm.mlir.addressof @job_ticket : !llvm.ptr
  %unfinished_at = llvm.mlir.addressof @job_unfinished : !llvm.ptr
  %function_at = llvm.mlir.addressof @job_fields : !llvm.ptr
  %arguments_at = llvm.getelementptr %function_at[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %total_at = llvm.getelementptr %function_at[2] : (!llvm.ptr) -> !llvm.ptr, i64
  %chunk_at = llvm.getelementptr %function_at[3] : (!llvm.ptr) -> !llvm.ptr, i64
  %count_at = llvm.getelementptr %function_at[4] : (!llvm.ptr) -> !llvm.ptr, i64
  llvm.store %function, %function_at atomic release {alignment = 8 : i64} : !llvm.ptr, !llvm.ptr
  llvm.store %arguments, %arguments_at atomic release {alignment = 8 : i64} : !llvm.ptr, !llvm.ptr
  llvm.store %total, %total_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  llvm.store %chunk, %chunk_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  llvm.store %count, %count_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  llvm.store %count, %unfinished_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  %last = llvm.load %ticket_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %next = llvm.add %last, %number_unit : i64
  %number = llvm.and %next, %number_mask : i64
  %ticket = llvm.or %number, %count : i64
  llvm.call @pool_announce(%ticket) : (i64) -> ()
  llvm.call @pool_take_chunks() : () -> ()
  llvm.br ^wait(%zero : i64)
^wait(%waited: i64):
  %unfinished = llvm.load %unfinished_at atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
  %finished = llvm.icmp "eq" %unfinished, %zero : i64
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
llvm.func @qcc_start_workers(%count: i64) -> i64 attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %most = llvm.mlir.constant(255 : i64) : i64
  %null = llvm.mlir.zero : !llvm.ptr
  %ok = llvm.mlir.constant(0 : i32) : i32
  %handles = llvm.mlir.addressof @pool_handles : !llvm.ptr
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  %worker = llvm.mlir.addressof @pool_worker : !llvm.ptr
  %wanted = llvm.intr.smin(%count, %most) : (i64, i64) -> i64
  llvm.br ^next(%zero : i64)
^next(%started: i64):
  %more = llvm.icmp "slt" %started, %wanted : i64
  llvm.cond_br %more, ^start, ^done
^start:
  %handle = llvm.getelementptr %handles[%started] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %status = llvm.call @pthread_create(%handle, %null, %worker, %null) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr) -> i32
  %created = llvm.icmp "eq" %status, %ok : i32
  %counted = llvm.add %started, %one : i64
  llvm.cond_br %created, ^next(%counted : i64), ^done
^done:
  llvm.store %started, %workers_at : i64, !llvm.ptr
  llvm.return %started : i64
}

// The pthread_t of a worker, for its affinity.
llvm.func @qcc_worker(%index: i64) -> i64 attributes {no_inline, optimize_none} {
  %handles = llvm.mlir.addressof @pool_handles : !llvm.ptr
  %handle_at = llvm.getelementptr %handles[%index] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %handle = llvm.load %handle_at : !llvm.ptr -> i64
  llvm.return %handle : i64
}

// Ends and joins every worker of a pool without a job; it can be started again.
llvm.func @qcc_stop_workers() attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %null = llvm.mlir.zero : !llvm.ptr
  %handles = llvm.mlir.addressof @pool_handles : !llvm.ptr
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  %ticket_at = llvm.mlir.addressof @job_ticket : !llvm.ptr
  %end = llvm.mlir.constant(0x8000000000000000 : i64) : i64
  %workers = llvm.load %workers_at : !llvm.ptr -> i64
  llvm.call @pool_announce(%end) : (i64) -> ()
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
  llvm.store %zero, %ticket_at atomic release {alignment = 8 : i64} : i64, !llvm.ptr
  llvm.store %zero, %workers_at : i64, !llvm.ptr
  llvm.return
}

// For a forked child, whose copies of the workers do not exist.
llvm.func @qcc_forget_workers() attributes {no_inline, optimize_none} {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %workers_at = llvm.mlir.addressof @pool_workers : !llvm.ptr
  llvm.store %zero, %workers_at : i64, !llvm.ptr
  llvm.return
}
