// What memory sees of a warp: 32-byte sectors of global memory, conflicts of shared banks.
//
// Lanes run apart, so their accesses are put together when the warp meets: those of one source
// line, in the order of the program, are one instruction.
#pragma once

#include "collective.h"

namespace qcc::emulator {

constexpr int banks = 32;

inline void note_access(u64 address, int bytes, bool shared, bool write, int line) {
  if (!current->machine->launch->trace) return;
  current->accesses.push_back({address, line, u16(bytes), shared, write});
}

// Different 32-byte sectors that the lanes touch.
inline int sectors_of(const Access_record* const* accesses, int count) {
  u64 seen_sectors[2 * lanes];
  int sectors = 0;
  for (int index = 0; index < count; ++index) {
    const u64 first = accesses[index]->address / 32;
    const u64 last = (accesses[index]->address + accesses[index]->bytes - 1) / 32;
    for (u64 sector = first; sector <= last; ++sector) {
      int known = 0;
      while (known < sectors && seen_sectors[known] != sector) ++known;
      if (known == sectors) seen_sectors[sectors++] = sector;
    }
  }
  return sectors;
}

// Additional turns of shared memory: a turn serves 128 bytes, one word of each bank.
inline int conflicts_of(const Access_record* const* accesses, int count) {
  const int bytes = accesses[0]->bytes < 4 ? 4 : accesses[0]->bytes, together = 128 / bytes;
  int conflicts = 0;
  for (int start = 0; start < count; start += together) {
    u64 words[banks][lanes];
    int used[banks] = {}, most = 1;
    for (int index = start; index < count && index < start + together; ++index)
      for (int word = 0; word < bytes / 4; ++word) {
        const u64 address = accesses[index]->address / 4 + word;
        int& in_bank = used[address % banks];
        int known = 0;
        while (known < in_bank && words[address % banks][known] != address) ++known;
        if (known == in_bank) words[address % banks][in_bank++] = address;
        if (in_bank > most) most = in_bank;
      }
    conflicts += most - 1;
  }
  return conflicts;
}

inline void count_traffic(Machine& machine, const Access_record* const* accesses, int count) {
  u64* counters = machine.counters;
  if (accesses[0]->shared)
    counters[int(Counter::bank_conflicts)] += conflicts_of(accesses, count);
  else if (accesses[0]->write)
    counters[int(Counter::global_sectors_written)] += sectors_of(accesses, count);
  else
    counters[int(Counter::global_sectors_read)] += sectors_of(accesses, count);
}

inline void flush_accesses(Warp& warp) {
  size_t next[lanes] = {};
  for (;;) {
    const Access_record* group[lanes];
    int count = 0, line = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      const auto& accesses = warp.threads[lane].accesses;
      if (next[lane] == accesses.size()) continue;
      const int candidate = accesses[next[lane]].line;
      if (!count || candidate < line) line = candidate, count = 1;
    }
    if (!count) break;
    count = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      const auto& accesses = warp.threads[lane].accesses;
      if (next[lane] < accesses.size() && accesses[next[lane]].line == line)
        group[count++] = &accesses[next[lane]++];
    }
    count_traffic(*warp.threads->machine, group, count);
  }
  for (int lane = 0; lane < lanes; ++lane) warp.threads[lane].accesses.clear();
}

}  // namespace qcc::emulator
