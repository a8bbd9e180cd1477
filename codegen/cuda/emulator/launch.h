// What the host and the emulator exchange: the records that launch.py mirrors field by field.
#pragma once

#include "../device/words.cuh"

namespace qcc::emulator {

// Counted a thread each, collective instructions (matrix_*, mma_*, shuffles, *_syncs) a warp each.
// Sectors and conflicts are filled only when the launch asks for them.
#define QCC_COUNTERS(counter)                                                                  \
  counter(global_loads) counter(global_stores) counter(global_bytes_read)                      \
  counter(global_bytes_written) counter(global_sectors_read) counter(global_sectors_written)   \
  counter(shared_loads) counter(shared_stores) counter(shared_bytes_read)                      \
  counter(shared_bytes_written) counter(bank_conflicts) counter(async_copies)                  \
  counter(async_copy_bytes) counter(matrix_loads) counter(matrix_stores) counter(mma_half)     \
  counter(mma_integer) counter(mma_minifloat) counter(mma_warpgroup) counter(multiply_adds)    \
  counter(shuffles) counter(votes) counter(block_syncs) counter(warp_syncs) counter(atomics)   \
  counter(conversions) counter(half_arithmetic) counter(bit_operations) counter(dot_products)  \
  counter(special_functions) counter(tensor_copies) counter(mma_tensor)

enum class Counter {
#define counter(name) name,
  QCC_COUNTERS(counter)
#undef counter
  count
};

constexpr int counter_count = static_cast<int>(Counter::count);

enum class Fault : s32 {
  none,
  out_of_bounds,
  misaligned,
  uninitialised,
  race,
  divergence,
  deadlock,
  misuse,
  resources,
};

struct Violation {
  Fault fault;
  s32 line;
  u32 block[3];
  u32 thread[3];
  char text[512];
};

// A buffer that the kernel was given.
struct Extent {
  u64 begin;
  u64 bytes;
  u32 used;  // 1: viewed as constant, 2: written
  u32 argument;
};

enum class Order : u32 { forward, reversed, random };

struct Launch {
  u32 grid[3];
  u32 block[3];
  u32 shared_bytes;
  u32 eager;             // asynchronous copies land when issued, not when waited for
  Order order;           // of the warps, and of the lanes of a warp
  u32 seed;
  u32 checks;            // tags on shared memory: races, uninitialised reads, unawaited copies
  u32 trace;             // fill the counters that need addresses
  u32 workers;
  s32 accumulator_bits;  // 0: fp32 sums in index order; else bits kept below the largest addend
  u32 extent_count;
  Extent* extents;
  u64 counters[counter_count];
  Violation violation;
};

}  // namespace qcc::emulator
