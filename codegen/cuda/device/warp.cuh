// Synchronisation, exchange between lanes, atomics and flags between blocks.
#pragma once

#include "memory.cuh"

namespace qcc {

QCC_DEVICE void sync_threads() { __syncthreads(); }
QCC_DEVICE void sync_warp() { __syncwarp(); }

// Barrier `id` for `threads` threads, whole warps: sync_named waits for the others, arrive_named
// does not.
QCC_DEVICE void sync_named(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
QCC_DEVICE void arrive_named(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <typename T>
QCC_DEVICE T shuffle_xor(T value, int mask) {
  static_assert(sizeof(T) == 4, "a shuffle moves 32 bits");
  return __shfl_xor_sync(0xffffffff, value, mask);
}
// The value of lane + distance; lanes that have none keep theirs.
template <typename T>
QCC_DEVICE T shuffle_down(T value, int distance) {
  static_assert(sizeof(T) == 4, "a shuffle moves 32 bits");
  return __shfl_down_sync(0xffffffff, value, distance);
}
// The value of lane `source` modulo 32, which each lane chooses.
template <typename T>
QCC_DEVICE T shuffle_from(T value, int source) {
  static_assert(sizeof(T) == 4, "a shuffle moves 32 bits");
  return __shfl_sync(0xffffffff, value, source);
}
// Bit i: the predicate of lane i.
QCC_DEVICE u32 ballot(bool predicate) { return __ballot_sync(0xffffffff, predicate); }

// ---- atomics on global memory; all return the value before

template <typename T>
QCC_DEVICE T atomic_add(Global<T> view, s64 index, Value<T> value) {
  static_assert(sizeof(T) == 4, "f32, s32 and u32 have atomic_add");
  return atomicAdd(view.address() + index, value);
}
template <typename T>
QCC_DEVICE T atomic_max(Global<T> view, s64 index, Value<T> value) {
  static_assert(sizeof(T) == 4 && T(0.5) == T(0), "s32 and u32 have atomic_max");
  return atomicMax(view.address() + index, value);
}
// Two f16 of a word at once; no value returns.
QCC_DEVICE void atomic_add_f16x2(Global<u32> view, s64 index, u32 pair) {
  asm volatile("red.global.add.noftz.f16x2 [%0], %1;" ::"l"(view.address() + index), "r"(pair)
               : "memory");
}

// ---- flags between blocks

QCC_DEVICE u32 load_acquire(Global<u32> view, s64 index) {
  u32 value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(view.address() + index)
               : "memory");
  return value;
}
QCC_DEVICE void store_release(Global<u32> view, s64 index, u32 value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(view.address() + index), "r"(value)
               : "memory");
}
// What this thread did before is seen by all who see what it does afterwards.
QCC_DEVICE void fence() { __threadfence(); }

}  // namespace qcc
