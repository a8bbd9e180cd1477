// Kernels that hardware would run without a word; each does one thing that is undefined.
#include "qcc_cuda.cuh"

namespace qcc {

#define KERNEL(name) \
  extern "C" __global__ void __launch_bounds__(64) name(const u32* in, u32* out, int n)

KERNEL(read_beyond_buffer) {
  const Global<const u32> x(in, n);
  Global<u32>(out, n).store(threadIdx.x, x.load(n - 63 + threadIdx.x));  // LINE read_beyond_buffer
}
QCC_KERNEL(read_beyond_buffer)

KERNEL(view_beyond_buffer) {
  const Global<const u32> x(in, n + 1);  // LINE view_beyond_buffer
  Global<u32>(out, n).store(threadIdx.x, x.load(threadIdx.x));
}
QCC_KERNEL(view_beyond_buffer)

KERNEL(write_beyond_shared) {
  const Shared<u32> tile(0, 32);
  tile.store(threadIdx.x, 0);  // LINE write_beyond_shared
}
QCC_KERNEL(write_beyond_shared)

KERNEL(view_beyond_shared) {
  const Shared<u32> tile(64, 1024);  // LINE view_beyond_shared
  tile.store(threadIdx.x, 0);
}
QCC_KERNEL(view_beyond_shared)

KERNEL(misaligned_load) {
  const Global<const u32> x(in, n);
  const Words<4> words = x.load<16>(threadIdx.x & 7);  // LINE misaligned_load
  Global<u32>(out, n).store(threadIdx.x, words[0]);
}
QCC_KERNEL(misaligned_load)

KERNEL(misaligned_copy) {
  const Shared<u32> tile(0, 256);
  const Global<const u32> x(in, n);
  copy_async<16>(tile.at(4 * threadIdx.x), x.at(1), 4);  // LINE misaligned_copy
  wait_copies<0>();
}
QCC_KERNEL(misaligned_copy)

KERNEL(uninitialised_read) {
  const Shared<u32> tile(0, 128);
  tile.store(threadIdx.x, 1);
  sync_threads();
  Global<u32>(out, n).store(threadIdx.x, tile.load(threadIdx.x + 1));  // LINE uninitialised_read
}
QCC_KERNEL(uninitialised_read)

KERNEL(race_between_warps) {
  const Shared<u32> tile(0, 64);
  tile.store(threadIdx.x, threadIdx.x);
  sync_warp();
  Global<u32>(out, n).store(threadIdx.x, tile.load(63 - threadIdx.x));  // LINE race_between_warps
}
QCC_KERNEL(race_between_warps)

KERNEL(race_in_warp) {
  const Shared<u32> tile(0, 64);
  tile.store(threadIdx.x, threadIdx.x);
  Global<u32>(out, n).store(threadIdx.x, tile.load(threadIdx.x ^ 1));  // LINE race_in_warp
}
QCC_KERNEL(race_in_warp)

KERNEL(two_writers) {
  const Shared<u32> tile(0, 64);
  tile.store(threadIdx.x / 2, threadIdx.x);  // LINE two_writers
  Global<u32>(out, n).store(threadIdx.x, 0);
}
QCC_KERNEL(two_writers)

KERNEL(copy_seen_by_others) {
  const Shared<u32> tile(0, 256);
  copy_async<4>(tile.at(threadIdx.x), Global<const u32>(in, n).at(threadIdx.x));
  commit_copies();
  wait_copies<0>();
  Global<u32>(out, n).store(threadIdx.x, tile.load(63 - threadIdx.x));  // LINE copy_seen_by_others
}
QCC_KERNEL(copy_seen_by_others)

KERNEL(copy_not_committed) {
  const Shared<u32> tile(0, 256);
  copy_async<4>(tile.at(threadIdx.x), Global<const u32>(in, n).at(threadIdx.x));
  wait_copies<0>();
  Global<u32>(out, n).store(threadIdx.x, tile.load(threadIdx.x));  // LINE copy_not_committed
}
QCC_KERNEL(copy_not_committed)

KERNEL(diverged_shuffle) {
  u32 value = threadIdx.x;
  if (threadIdx.x % 2)
    value = shuffle_xor(value, 1);  // LINE diverged_shuffle
  else
    value = shuffle_xor(value, 2);
  Global<u32>(out, n).store(threadIdx.x, value);
}
QCC_KERNEL(diverged_shuffle)

KERNEL(returned_lanes) {
  if (threadIdx.x % 32 > 20) return;
  const u32 votes = ballot(true);  // LINE returned_lanes
  Global<u32>(out, n).store(threadIdx.x, votes);
}
QCC_KERNEL(returned_lanes)

KERNEL(barrier_of_one_warp) {
  const Shared<u32> tile(0, 64);
  if (threadIdx.x < 32)
    sync_named(1, 64);  // LINE barrier_of_one_warp
  else
    sync_named(2, 64);
  tile.store(threadIdx.x, 0);
}
QCC_KERNEL(barrier_of_one_warp)

KERNEL(different_counts) {
  sync_named(1, threadIdx.x < 32 ? 64 : 32);  // LINE different_counts
}
QCC_KERNEL(different_counts)

KERNEL(waits_for_later_block) {
  const Global<u32> flag(out, n);
  while (load_acquire(flag, 0) == 0) {  // LINE waits_for_later_block
  }
}
QCC_KERNEL(waits_for_later_block)

KERNEL(writes_a_constant) {
  const u32 value = Global<const u32>(out, n).load(threadIdx.x);
  Global<u32>(out, n).store(threadIdx.x, value + 1);  // LINE writes_a_constant
}
QCC_KERNEL(writes_a_constant)

// ---- legal neighbours of the above, which must pass

KERNEL(empty_copies_beyond_buffer) {
  const Shared<u32> tile(0, 256);
  copy_async<16>(tile.at(4 * threadIdx.x), Global<const u32>(in, n).at(4 * threadIdx.x),
                 4 * int(threadIdx.x) < n ? 16 : 0);
  commit_copies();
  wait_copies<0>();
  Global<u32>(out, n).store(threadIdx.x, tile.load(4 * threadIdx.x + 3));
}
QCC_KERNEL(empty_copies_beyond_buffer)

// Half of the block hands values to the other half over two named barriers.
KERNEL(producer_and_consumer) {
  const Shared<u32> tile(0, 32);
  const Global<u32> results(out, n);
  const int lane = threadIdx.x % 32;
  for (int step = 0; step < 3; ++step) {
    if (threadIdx.x < 32) {
      if (step) sync_named(2, 64);
      tile.store(lane, 100 * step + lane);
      arrive_named(1, 64);
    } else {
      sync_named(1, 64);
      results.store(threadIdx.x, results.load(threadIdx.x) + tile.load(31 - lane));
      if (step < 2) arrive_named(2, 64);
    }
  }
}
QCC_KERNEL(producer_and_consumer)

KERNEL(whole_warps_return) {
  const Shared<u32> tile(0, 64);
  if (threadIdx.x >= 32) return;
  tile.store(threadIdx.x, threadIdx.x);
  sync_threads();
  Global<u32>(out, n).store(threadIdx.x, tile.load(31 - threadIdx.x));
}
QCC_KERNEL(whole_warps_return)

}  // namespace qcc
