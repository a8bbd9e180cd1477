// One thread block in execution: its threads, warps, barriers and memory, and how it fails.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "fibers.h"
#include "launch.h"

namespace qcc::emulator {

constexpr int lanes = 32;
constexpr int max_warps = 32;
constexpr int max_threads = lanes * max_warps;
constexpr u32 all_lanes = 0xffffffff;

// Moments of a thread, comparable between threads that have synchronised: the number of the thread
// and the time of its warp, which advances at every synchronisation. Zero is before all moments.
using Moment = u32;
constexpr int time_bits = 22;
constexpr u32 last_time = (1u << time_bits) - 2;
constexpr u32 in_flight = (1u << time_bits) - 1;  // the time of a write that was not waited for
constexpr Moment moment_of(u32 thread, u32 time) { return thread << time_bits | time; }
constexpr u32 thread_of(Moment moment) { return moment >> time_bits; }
constexpr u32 time_of(Moment moment) { return moment & ((1u << time_bits) - 1); }

struct Index3 {
  u32 x, y, z;
};

// What a warp knows of every warp: times up to which their accesses happened before.
struct Knowledge {
  u32 time[max_warps];
  Moment lane[max_warps];  // and one lane more exactly, that signalled for itself

  void join(const Knowledge& other) {
    for (int warp = 0; warp < max_warps; ++warp) {
      if (other.time[warp] > time[warp]) time[warp] = other.time[warp];
      if (time_of(other.lane[warp]) > time_of(lane[warp])) lane[warp] = other.lane[warp];
    }
  }
};

// The last accesses of a byte of shared memory.
struct Tag {
  Moment write, read;
  u16 write_line : 15, async : 1;  // written by a tensor copy rather than by a thread
  u16 read_line;
};

struct Copy {
  u32 to, bytes, group;
  int line;
  bool landed;
  u8 data[16];
};

struct Access_record {
  u64 address;
  int line;
  u16 bytes;
  bool shared, write;
};

struct Machine;
struct Thread;
struct Warp;

// A transfer under way to shared memory: lands on its own when nobody can go on.
struct Transfer {
  u32 to, barrier;
  Moment issued;
  std::vector<u8> data;
  std::vector<u32> places;  // of each 16 bytes of data, relative to `to`
};

// A barrier in shared memory, at byte `offset`, that counts arrivals and bytes.
struct Mbarrier {
  u32 offset, expected, pending;
  s64 bytes;
  u32 phase;
  Knowledge brought, completed;
  std::vector<Thread*> waiting;
};

// A product of a warp group that was issued and has not been waited for: the part of one warp.
struct Product {
  u32 group;
  int line;
  void (*execute)(Product&);
  u64 a, b;      // descriptors
  bool add;      // to what d holds
  bool columns;  // b holds columns of K
  u32 registers_a[lanes][4];
  void* d[lanes];
};

// What the tensor unit was asked for and has not been seen to finish: a product, a copy of scales,
// or (`execute` is null) a commit, whose barrier receives an arrival when all before it is done.
struct Tensor_work {
  void (*execute)(Machine&, const Tensor_work&);
  int line;
  Moment issued;
  u32 barrier;
  u32 d, columns;  // where it writes
  u32 instruction, a_scales, b_scales;
  bool add;
  u64 a, b;  // descriptors
  u32 rows;  // that it reads of b
  Knowledge brought;  // of a commit: what came before it
};

// The last accesses of 16 lanes of a column of tensor memory.
struct Tensor_tag {
  Moment write, read;
  int write_line, read_line;
};

constexpr u32 tensor_lanes = 128, tensor_columns = 512, tensor_slice = 32;

// Empty until the block allocates.
struct Tensor_memory {
  std::vector<u32> words;
  std::vector<Tensor_tag> tags;
  std::vector<Tensor_work> work;
  std::vector<u32> operand;  // of the product that is executed
  u32 owner[tensor_columns / tensor_slice];  // 1 + the first column of the allocation; 0: free
  bool relinquished;

  void clear() {
    words.clear(), tags.clear(), work.clear();
    memset(owner, 0, sizeof owner);
    relinquished = false;
  }
};

struct Thread {
  Fiber fiber;
  Machine* machine;
  Warp* warp;
  Index3 index;
  u32 number, lane;
  bool exited;
  const char* waiting;  // the instruction it sleeps at
  int line;
  u32 copy_groups;
  u32 fenced;  // up to this time its writes are seen by tensor copies and products
  bool tensor_behind;  // waited at a barrier, with no tensor_fence_after since
  bool tensor_ahead;   // read tensor memory, with no tensor_fence_before since
  std::vector<Copy> copies;
  std::vector<Access_record> accesses;
};

struct Warp {
  u32 number;
  u32 live, runnable, arrived;
  const char* instruction;
  int line;
  void* operands[lanes];
  Knowledge knows;
  Thread* threads;
  u32 product_groups;
  std::vector<Product> products;

  u32 time() const { return knows.time[number]; }
  void tick() { ++knows.time[number]; }
};

constexpr u32 all_living = 0;

struct Barrier {
  u32 arrived, expected;  // threads; all_living: those that have not returned
  u32 waiting;            // warps, a bit each
  Knowledge brought;
};

struct Machine {
  Launch* launch;
  const char* kernel;
  void (*invoke)(void** arguments);
  void** arguments;
  Index3 block;
  Stacks* stacks;
  Fiber home;
  bool stopped;
  int warp_count, living_warps, last_warp;
  u32 random, spins;
  Thread threads[max_threads];
  Warp warps[max_warps];
  Barrier barriers[16];
  std::vector<Transfer> transfers;
  std::vector<Mbarrier> mbarriers;
  Tensor_memory tensor;
  std::vector<u8> shared;
  std::vector<Tag> tags;
  u64 counters[counter_count];
};

inline thread_local Thread* current = nullptr;

inline void count(Counter counter, u64 amount = 1) {
  current->machine->counters[static_cast<int>(counter)] += amount;
}

// Once a warp, from within an instruction that every lane executes.
inline void count_warp(Counter counter, u64 amount = 1) {
  if (current->lane == 0) count(counter, amount);
}

// ---- violations

inline void record(Machine& machine, const Thread* thread, Fault fault, int line, const char* form,
                   va_list values) {
  Violation& violation = machine.launch->violation;
  Fault none = Fault::none;
  machine.stopped = true;
  if (!__atomic_compare_exchange_n(&violation.fault, &none, fault, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST))
    return;  // another worker was first
  violation.line = line;
  const Index3 block = machine.block, index = thread ? thread->index : Index3{};
  const u32 blocks[3] = {block.x, block.y, block.z}, threads[3] = {index.x, index.y, index.z};
  memcpy(violation.block, blocks, sizeof blocks);
  memcpy(violation.thread, threads, sizeof threads);
  vsnprintf(violation.text, sizeof violation.text, form, values);
}

// Ends the launch with a report about the current thread; its fiber is never resumed.
[[noreturn]] __attribute__((format(printf, 3, 4), noinline, cold)) inline void fail(
    Fault fault, int line, const char* form, ...) {
  va_list values;
  va_start(values, form);
  record(*current->machine, current, fault, line, form, values);
  va_end(values);
  for (;;) switch_fiber(current->fiber, current->machine->home);
}

__attribute__((format(printf, 5, 6))) inline void report(Machine& machine, const Thread* thread,
                                                         Fault fault, int line, const char* form,
                                                         ...) {
  va_list values;
  va_start(values, form);
  record(machine, thread, fault, line, form, values);
  va_end(values);
}

}  // namespace qcc::emulator
