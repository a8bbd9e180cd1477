// Synchronisation, exchange between lanes, atomics and flags between blocks.
#pragma once

#include "arithmetic.h"
#include "views.h"

namespace qcc {

inline void sync_threads(int line = __builtin_LINE()) {
  emulator::arrive(0, emulator::all_living, true, "sync_threads", line);
}

// Barrier `id` for `threads` threads, whole warps: sync_named waits for the others, arrive_named
// does not.
inline void sync_named(int id, int threads, int line = __builtin_LINE()) {
  emulator::check_barrier(id, threads, line);
  emulator::arrive(id, threads, true, "sync_named", line);
}
inline void arrive_named(int id, int threads, int line = __builtin_LINE()) {
  emulator::check_barrier(id, threads, line);
  emulator::arrive(id, threads, false, "arrive_named", line);
}

inline void sync_warp(int line = __builtin_LINE()) {
  using namespace emulator;
  count_warp(Counter::warp_syncs);
  if (!gather("sync_warp", line, nullptr)) return;
  if (current->warp->time() >= last_time)
    fail(Fault::resources, line, "more than %u synchronisations in a block", last_time);
  current->warp->tick();
}

namespace emulator {

// result[lane] = value[source(lane)]
template <typename T, typename Source>
inline T exchange(const char* instruction, T value, int line, Source source) {
  static_assert(sizeof(T) == 4, "a shuffle moves 32 bits");
  struct Operands {
    T value, result;
  } mine{value, value};
  count_warp(Counter::shuffles);
  collective(instruction, line, mine, [&](Operands* const* warp) {
    for (int lane = 0; lane < lanes; ++lane) warp[lane]->result = warp[source(lane)]->value;
  });
  return mine.result;
}

}  // namespace emulator

template <typename T>
inline T shuffle_xor(T value, int mask, int line = __builtin_LINE()) {
  return emulator::exchange("shuffle_xor", value, line, [=](int lane) { return lane ^ mask; });
}

// The value of lane + distance; lanes that have none keep theirs.
template <typename T>
inline T shuffle_down(T value, int distance, int line = __builtin_LINE()) {
  return emulator::exchange("shuffle_down", value, line, [=](int lane) {
    return lane + distance < emulator::lanes ? lane + distance : lane;
  });
}

// The value of lane `source` modulo 32, which each lane chooses.
template <typename T>
inline T shuffle_from(T value, int source, int line = __builtin_LINE()) {
  using namespace emulator;
  static_assert(sizeof(T) == 4, "a shuffle moves 32 bits");
  struct Operands {
    T value, result;
    int source;
  } mine{value, value, source};
  count_warp(Counter::shuffles);
  collective("shuffle_from", line, mine, [](Operands* const* warp) {
    for (int lane = 0; lane < lanes; ++lane)
      warp[lane]->result = warp[warp[lane]->source & 31]->value;
  });
  return mine.result;
}

// Bit i: the predicate of lane i.
inline u32 ballot(bool predicate, int line = __builtin_LINE()) {
  using namespace emulator;
  struct Operands {
    bool predicate;
    u32 result;
  } mine{predicate, 0};
  count_warp(Counter::votes);
  collective("ballot", line, mine, [](Operands* const* warp) {
    u32 bits = 0;
    for (int lane = 0; lane < lanes; ++lane) bits |= u32(warp[lane]->predicate) << lane;
    for (int lane = 0; lane < lanes; ++lane) warp[lane]->result = bits;
  });
  return mine.result;
}

// ---- atomics on global memory; all return the value before

namespace emulator {

template <typename T, typename Update>
inline T atomic_update(Global<T> view, s64 index, int line, Update update) {
  T* target = view.writing(index, sizeof(T), line);
  count(Counter::atomics);
  u32 before = __atomic_load_n(reinterpret_cast<u32*>(target), __ATOMIC_RELAXED), after;
  T value;
  do {
    memcpy(&value, &before, 4);
    const T changed = update(value);
    memcpy(&after, &changed, 4);
  } while (!__atomic_compare_exchange_n(reinterpret_cast<u32*>(target), &before, after, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
  return value;
}

}  // namespace emulator

template <typename T>
inline T atomic_add(Global<T> view, s64 index, Value<T> value, int line = __builtin_LINE()) {
  static_assert(sizeof(T) == 4, "f32, s32 and u32 have atomic_add");
  return emulator::atomic_update(view, index, line, [=](T before) { return T(before + value); });
}
template <typename T>
inline T atomic_max(Global<T> view, s64 index, Value<T> value, int line = __builtin_LINE()) {
  static_assert(sizeof(T) == 4 && T(0.5) == T(0), "s32 and u32 have atomic_max");
  return emulator::atomic_update(view, index, line,
                                 [=](T before) { return before < value ? value : before; });
}

// Two f16 of a word at once; no value returns.
inline void atomic_add_f16x2(Global<u32> view, s64 index, u32 pair, int line = __builtin_LINE()) {
  emulator::atomic_update(view, index, line, [=](u32 before) {
    return emulator::add_pair<emulator::F16>(before, pair);
  });
}

// ---- flags between blocks

inline u32 load_acquire(Global<u32> view, s64 index, int line = __builtin_LINE()) {
  const u32* flag = view.reading(index, 4, line);
  emulator::yield("load_acquire", line);
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
inline void store_release(Global<u32> view, s64 index, u32 value, int line = __builtin_LINE()) {
  __atomic_store_n(view.writing(index, 4, line), value, __ATOMIC_RELEASE);
}
// What this thread did before is seen by all who see what it does afterwards.
inline void fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace qcc
