// Running the blocks of a launch: who is next, and what it means when nobody is.
#pragma once

#include <pthread.h>

#include "tensor_unit.h"
#include "traffic.h"

namespace qcc::emulator {

inline void enter_thread() {
  Thread& thread = *current;
  Warp& warp = *thread.warp;
  Machine& machine = *thread.machine;
  machine.invoke(machine.arguments);
  thread.exited = true;
  warp.live &= ~(1u << thread.lane);
  warp.runnable &= ~(1u << thread.lane);
  if (!warp.live) {
    --machine.living_warps;
    if (machine.launch->trace) flush_accesses(warp);
    Barrier& barrier = machine.barriers[0];
    if (barrier.arrived && complete(machine, barrier)) release_waiting(machine, barrier);
  }
  for (;;) suspend();
}

inline void prepare_warp(Machine& machine, int number) {
  Warp& warp = machine.warps[number];
  warp.number = number;
  warp.arrived = 0;
  warp.knows = Knowledge{};
  warp.product_groups = 0;
  warp.products.clear();
  warp.live = warp.runnable = all_lanes;
  warp.threads = machine.threads + number * lanes;
  warp.knows.time[number] = 1;
  const u32* size = machine.launch->block;
  for (u32 lane = 0; lane < lanes; ++lane) {
    Thread& thread = warp.threads[lane];
    const u32 index = number * lanes + lane;
    thread.machine = &machine;
    thread.warp = &warp;
    thread.index = {index % size[0], index / size[0] % size[1], index / size[0] / size[1]};
    thread.number = index;
    thread.lane = lane;
    thread.exited = false;
    thread.waiting = nullptr;
    thread.copy_groups = thread.fenced = 0;
    thread.tensor_behind = thread.tensor_ahead = false;
    thread.copies.clear();
    thread.accesses.clear();
    prepare_fiber(thread.fiber, machine.stacks->stack(index), enter_thread);
  }
}

inline Warp* next_warp(Machine& machine) {
  const int warps = machine.warp_count, down = descending(machine) ? -1 : 1;
  if (machine.launch->order == Order::random) machine.last_warp = random_bits(machine) % warps;
  for (int step = 1; step <= warps; ++step) {
    const int number = ((machine.last_warp + down * step) % warps + warps) % warps;
    if (!machine.warps[number].runnable) continue;
    machine.last_warp = number;
    return &machine.warps[number];
  }
  return nullptr;
}

// The report of a block in which every thread sleeps: who waits where, one warp after another.
inline void report_deadlock(Machine& machine) {
  char text[480];
  size_t length = 0;
  const Thread* first = nullptr;
  for (int number = 0; number < machine.warp_count; ++number) {
    const Warp& warp = machine.warps[number];
    if (warp.live && warp.live != all_lanes && warp.arrived) {
      const Thread& waiting = warp.threads[__builtin_ctz(warp.arrived)];
      return report(machine, &waiting, Fault::divergence, waiting.line,
                    "lanes %08x wait at %s for lanes %08x, which have returned", warp.arrived,
                    waiting.waiting, ~warp.live);
    }
    for (u32 lane = 0; lane < lanes; ++lane) {
      const Thread& thread = warp.threads[lane];
      if (thread.exited || !thread.waiting) continue;
      if (!first) first = &thread;
      const Thread* before = lane ? &warp.threads[lane - 1] : nullptr;
      if (before && before->waiting == thread.waiting && before->line == thread.line) continue;
      if (length + 80 < sizeof text)
        length += snprintf(text + length, sizeof text - length, "%swarp %d lane %u at %s (line %d)",
                           length ? ", " : "", number, lane, thread.waiting, thread.line);
    }
  }
  report(machine, first, Fault::deadlock, first ? first->line : 0, "nobody can go on: %s", text);
}

inline void run_block(Machine& machine, Index3 block) {
  const Launch& launch = *machine.launch;
  machine.block = block;
  machine.last_warp = launch.order == Order::reversed ? 0 : machine.warp_count - 1;
  machine.living_warps = machine.warp_count;
  machine.spins = 0;
  machine.transfers.clear();
  machine.mbarriers.clear();
  machine.tensor.clear();
  for (Barrier& barrier : machine.barriers) barrier = Barrier{};
  // All ones are NaN in every floating-point format: what was never written shows in the results.
  machine.shared.assign(launch.shared_bytes, 0xff);
  machine.tags.assign(launch.checks ? launch.shared_bytes : 0, Tag{});
  for (int number = 0; number < machine.warp_count; ++number) prepare_warp(machine, number);
  while (!machine.stopped) {
    if (Warp* warp = next_warp(machine)) {
      current = &next_thread(*warp);
      switch_fiber(machine.home, current->fiber);
    } else if (!machine.living_warps) {
      return report_tensor_leaks(machine);
    } else if (!land_first(machine) && !finish_tensor_work(machine)) {
      return report_deadlock(machine);
    }
  }
}

struct Work {
  Launch* launch;
  const char* kernel;
  void (*invoke)(void** arguments);
  void** arguments;
  u64 next_block;
};

// What a worker keeps from launch to launch; most launches are shorter than making it anew.
struct Keep {
  Machine machine{};
  Stacks* stacks = nullptr;
  u32 threads = 0;

  ~Keep() { delete stacks; }
  bool grow(u32 wanted) {
    if (wanted > threads) {
      delete stacks;
      stacks = new Stacks(wanted);
      threads = wanted;
    }
    return stacks->allocated();
  }
};

struct Keeper {
  Keep* keep = nullptr;

  ~Keeper() { delete keep; }
};

// The body of a worker: blocks in order until none is left or one of them failed.
inline void* run_blocks(void* shared_work) {
  static thread_local Keeper keeper;  // a pointer: there is little room for such variables
  if (!keeper.keep) keeper.keep = new Keep;
  Keep* kept = keeper.keep;
  Work& work = *static_cast<Work*>(shared_work);
  Launch& launch = *work.launch;
  const u32 threads = launch.block[0] * launch.block[1] * launch.block[2];
  Machine* machine = &kept->machine;
  machine->stopped = false;
  memset(machine->counters, 0, sizeof machine->counters);
  machine->launch = &launch;
  machine->kernel = work.kernel;
  machine->invoke = work.invoke;
  machine->arguments = work.arguments;
  machine->warp_count = threads / lanes;
  const bool enough = kept->grow(threads);
  machine->stacks = kept->stacks;
  if (!enough) report(*machine, nullptr, Fault::resources, 0, "no memory for %u stacks", threads);
  const u64 blocks = u64(launch.grid[0]) * launch.grid[1] * launch.grid[2];
  while (__atomic_load_n(&launch.violation.fault, __ATOMIC_RELAXED) == Fault::none) {
    const u64 number = __atomic_fetch_add(&work.next_block, 1, __ATOMIC_RELAXED);
    if (number >= blocks) break;
    machine->random = (launch.seed + number) * 2654435761u | 1;
    const u32 row = number / launch.grid[0];
    run_block(*machine, {u32(number % launch.grid[0]), row % launch.grid[1], row / launch.grid[1]});
  }
  for (int index = 0; index < counter_count; ++index)
    __atomic_fetch_add(&launch.counters[index], machine->counters[index], __ATOMIC_RELAXED);
  current = nullptr;
  return nullptr;
}

constexpr int most_workers = 16;

inline int run(const char* kernel, void (*invoke)(void**), void** arguments, Launch& launch) {
  Work work{&launch, kernel, invoke, arguments, 0};
  pthread_t workers[most_workers];
  u32 started = 0;
  while (started + 1 < launch.workers && started < most_workers &&
         pthread_create(&workers[started], nullptr, run_blocks, &work) == 0)
    ++started;
  run_blocks(&work);
  for (u32 worker = 0; worker < started; ++worker) pthread_join(workers[worker], nullptr);
  return static_cast<int>(launch.violation.fault);
}

}  // namespace qcc::emulator
