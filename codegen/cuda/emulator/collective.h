// How threads take turns, meet and learn of one another.
//
// A warp-wide instruction is a `gather`: every lane leaves its operands and sleeps, the last one
// executes for all. Lanes that meet at different instructions have diverged.
#pragma once

#include "machine.h"

namespace qcc::emulator {

// ---- switching

inline u32 random_bits(Machine& machine) {  // xorshift32
  u32 bits = machine.random;
  bits ^= bits << 13;
  bits ^= bits >> 17;
  bits ^= bits << 5;
  return machine.random = bits;
}

inline bool descending(Machine& machine) {
  switch (machine.launch->order) {
    case Order::forward: return false;
    case Order::reversed: return true;
    default: return random_bits(machine) & 1;
  }
}

inline Thread& next_thread(Warp& warp) {
  const bool down = descending(*warp.threads->machine);
  return warp.threads[down ? 31 - __builtin_clz(warp.runnable) : __builtin_ctz(warp.runnable)];
}

inline void go_to(Thread& next) {
  Thread& here = *current;
  current = &next;
  switch_fiber(here.fiber, next.fiber);
}

// Let another lane of the warp run, or else another warp; returns when this lane is resumed.
inline void suspend() {
  Thread& here = *current;
  if (here.warp->runnable)
    go_to(next_thread(*here.warp));
  else
    switch_fiber(here.fiber, here.machine->home);
}

constexpr u32 most_spins = 1 << 22;

// A step of a polling loop: everybody else gets a turn.
inline void yield(const char* instruction, int line) {
  Thread& here = *current;
  if (++here.machine->spins > most_spins)
    fail(Fault::deadlock, line, "%s polls for a value that no running or earlier block writes",
         instruction);
  const u32 later = here.lane == 31 ? 0 : here.warp->runnable & (all_lanes << (here.lane + 1));
  if (later)
    go_to(here.warp->threads[__builtin_ctz(later)]);
  else
    switch_fiber(here.fiber, here.machine->home);
}

// ---- warp-wide instructions

[[noreturn]] inline void diverged(const char* instruction, int line) {
  const Warp& warp = *current->warp;
  fail(Fault::divergence, line,
       "lane %u executes %s while lanes %08x of its warp are at %s (line %d)", current->lane,
       instruction, warp.arrived, warp.instruction, warp.line);
}

void flush_accesses(Warp& warp);

// True for the last lane, whose `warp->operands` are then those of all lanes; the others return
// false when it has executed.
inline bool gather(const char* instruction, int line, void* operands) {
  Thread& here = *current;
  Warp& warp = *here.warp;
  if (!warp.arrived) {
    warp.instruction = instruction;
    warp.line = line;
  } else if (warp.line != line ||
             (warp.instruction != instruction && strcmp(warp.instruction, instruction) != 0)) {
    diverged(instruction, line);
  }
  const u32 bit = 1u << here.lane;
  warp.operands[here.lane] = operands;
  warp.arrived |= bit;
  if (warp.arrived == all_lanes) {
    warp.arrived = 0;
    warp.runnable = all_lanes;
    if (here.machine->launch->trace) flush_accesses(warp);
    return true;
  }
  warp.runnable &= ~bit;
  here.waiting = instruction;
  here.line = line;
  suspend();
  here.waiting = nullptr;
  return false;
}

// Execute body(operands of all lanes) once for the warp.
template <typename Operands, typename Body>
inline void collective(const char* instruction, int line, Operands& mine, Body body) {
  if (gather(instruction, line, &mine))
    body(reinterpret_cast<Operands* const*>(current->warp->operands));
}

// ---- ordering

// Whether what happened at `moment` is seen by the current thread.
inline bool seen(Moment moment) {
  const Thread& here = *current;
  const Warp& warp = *here.warp;
  const u32 thread = thread_of(moment), time = time_of(moment), other = thread / lanes;
  if (other == warp.number) return thread == here.number || time < warp.time();
  const Moment lane = warp.knows.lane[other];
  return time <= warp.knows.time[other] || (thread_of(lane) == thread && time <= time_of(lane));
}

inline Moment now() { return moment_of(current->number, current->warp->time()); }

inline void release_waiting(Machine& machine, Barrier& barrier) {
  for (int number = 0; number < machine.warp_count; ++number) {
    if (!(barrier.waiting >> number & 1)) continue;
    Warp& warp = machine.warps[number];
    warp.knows.join(barrier.brought);
    warp.tick();
    warp.runnable = warp.live;
  }
  barrier = Barrier{};
}

inline bool complete(const Machine& machine, const Barrier& barrier) {
  const u32 living = lanes * machine.living_warps;
  return barrier.arrived == (barrier.expected == all_living ? living : barrier.expected);
}

inline void check_barrier(int id, int threads, int line) {
  const int living = lanes * current->machine->living_warps;
  if (id < 1 || id > 15)
    fail(Fault::misuse, line, "named barriers are 1 to 15 (0 is sync_threads), not %d", id);
  if (threads <= 0 || threads % lanes || threads > living)
    fail(Fault::misuse, line, "barrier %d for %d threads: whole warps, at most %d", id, threads,
         living);
}

// A thread that signals has ordered what it did in tensor memory before that.
inline void check_tensor_order(const char* instruction, int line) {
  if (current->tensor_ahead)
    fail(Fault::race, line, "%s after reading tensor memory, without tensor_fence_before",
         instruction);
}

// The warp arrives at barrier `id` and, if it is to wait, sleeps until all the others have.
inline void arrive(int id, u32 expected, bool wait, const char* instruction, int line) {
  check_tensor_order(instruction, line);
  current->tensor_behind |= wait;
  if (!gather(instruction, line, nullptr)) return;
  Machine& machine = *current->machine;
  Warp& warp = *current->warp;
  Barrier& barrier = machine.barriers[id];
  if (barrier.arrived && barrier.expected != expected)
    fail(Fault::misuse, line, "barrier %d is used for %u threads, and by other warps for %u", id,
         expected, barrier.expected);
  if (warp.time() >= last_time)
    fail(Fault::resources, line, "more than %u synchronisations in a block", last_time);
  count(Counter::block_syncs);
  barrier.expected = expected;
  barrier.arrived += lanes;
  barrier.brought.join(warp.knows);
  if (wait)
    barrier.waiting |= 1u << warp.number;
  else
    warp.tick();
  if (complete(machine, barrier)) return release_waiting(machine, barrier);
  if (!wait) return;
  warp.runnable = 0;
  current->waiting = instruction;
  current->line = line;
  suspend();
  current->waiting = nullptr;
}

}  // namespace qcc::emulator
