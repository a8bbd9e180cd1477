// Barriers in shared memory that count arrivals and bytes, and the transfers that feed them.
#pragma once

#include "tags.h"

namespace qcc::emulator {

inline void finish_phase(Machine& machine, Mbarrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  barrier.phase ^= 1;
  barrier.pending = barrier.expected;
  barrier.completed = barrier.brought;
  for (Thread* thread : barrier.waiting) thread->warp->runnable |= 1u << thread->lane;
  barrier.waiting.clear();
  (void)machine;
}

inline Mbarrier* mbarrier_at(Machine& machine, u32 offset) {
  for (Mbarrier& barrier : machine.mbarriers)
    if (barrier.offset == offset) return &barrier;
  return nullptr;
}

// The barrier whose word is at `offset`, which the thread must know to be initialised.
inline Mbarrier& known_mbarrier(u32 offset, int line) {
  tag_read(offset, 8, line);
  Mbarrier* barrier = mbarrier_at(*current->machine, offset);
  if (!barrier)
    fail(Fault::misuse, line, "byte %u of shared memory is no initialised mbarrier", offset);
  return *barrier;
}

// What the current thread did so far comes before the phase completes: of its warp, what was
// before the last synchronisation, and all that this lane did.
inline void bring(Knowledge& brought) {
  Warp& warp = *current->warp;
  Knowledge mine = warp.knows;
  mine.lane[warp.number] = now();
  --mine.time[warp.number];
  brought.join(mine);
  warp.tick();
}

inline void arrive_at(Mbarrier& barrier, u32 bytes, int line) {
  check_tensor_order("mbarrier_arrive", line);
  if (!barrier.pending)
    fail(Fault::misuse, line, "more than %u arrivals in a phase of the mbarrier at byte %u",
         barrier.expected, barrier.offset);
  bring(barrier.brought);
  --barrier.pending;
  barrier.bytes += bytes;
  finish_phase(*current->machine, barrier);
}

inline void wait_at(u32 offset, u32 parity, int line) {
  current->tensor_behind = true;
  for (;;) {
    Mbarrier& barrier = known_mbarrier(offset, line);
    if (barrier.phase != (parity & 1)) {
      current->warp->knows.join(barrier.completed);
      return;
    }
    Thread& here = *current;
    barrier.waiting.push_back(&here);
    here.warp->runnable &= ~(1u << here.lane);
    here.waiting = "mbarrier_wait";
    here.line = line;
    suspend();
    here.waiting = nullptr;
  }
}

inline void land(Machine& machine, const Transfer& transfer) {
  for (size_t part = 0; part < transfer.places.size(); ++part) {
    const u32 to = transfer.to + transfer.places[part];
    memcpy(&machine.shared[to], &transfer.data[16 * part], 16);
    for (u32 byte = to; byte < to + 16 && !machine.tags.empty(); ++byte) {
      machine.tags[byte].write = transfer.issued;
      machine.tags[byte].async = 1;
    }
  }
  Mbarrier* barrier = mbarrier_at(machine, transfer.barrier);
  const u32 warp = thread_of(transfer.issued) / lanes, time = time_of(transfer.issued);
  if (barrier->brought.time[warp] < time) barrier->brought.time[warp] = time;
  barrier->bytes -= s64(transfer.data.size());
  finish_phase(machine, *barrier);
}

// The oldest transfer lands, as late as it can: everybody waits. False where there is none.
inline bool land_first(Machine& machine) {
  if (machine.transfers.empty()) return false;
  const Transfer transfer = machine.transfers.front();
  machine.transfers.erase(machine.transfers.begin());
  land(machine, transfer);
  return true;
}

// A transfer of this thread, checked, is on its way.
inline void issue(Transfer& transfer, int line) {
  Thread& thread = *current;
  Machine& machine = *thread.machine;
  known_mbarrier(transfer.barrier, line);
  for (u32 place : transfer.places) tag_flight(transfer.to + place, 16, line);
  transfer.issued = now();
  thread.warp->tick();
  count(Counter::tensor_copies);
  if (machine.launch->eager)
    land(machine, transfer);
  else
    machine.transfers.push_back(transfer);
}

}  // namespace qcc::emulator
