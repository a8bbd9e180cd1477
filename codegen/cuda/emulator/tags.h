// Who wrote and read each byte of shared memory, and when: races, uninitialised reads and copies
// that nobody waited for are found where they happen, whatever order the warps ran in.
#pragma once

#include "collective.h"

namespace qcc::emulator {

[[noreturn]] __attribute__((noinline, cold)) inline void refuse_read(u32 byte, const Tag& tag,
                                                                     int line) {
  if (!tag.write)
    fail(Fault::uninitialised, line, "reads byte %u of shared memory, which was never written",
         byte);
  const u32 writer = thread_of(tag.write);
  if (time_of(tag.write) == in_flight)
    fail(Fault::race, line,
         "reads byte %u of shared memory, whose copy (thread %u, line %u) was not waited for", byte,
         writer, tag.write_line);
  fail(Fault::race, line,
       "reads byte %u of shared memory, which thread %u writes (line %u) with no barrier between",
       byte, writer, tag.write_line);
}

[[noreturn]] __attribute__((noinline, cold)) inline void refuse_write(u32 byte, const Tag& tag,
                                                                      int line) {
  const bool after_write = !seen(tag.write);
  fail(Fault::race, line,
       "writes byte %u of shared memory, which thread %u %s (line %u) with no barrier between",
       byte, thread_of(after_write ? tag.write : tag.read), after_write ? "writes" : "reads",
       after_write ? tag.write_line : tag.read_line);
}

inline bool readable(Moment write) { return write && time_of(write) != in_flight && seen(write); }

inline void tag_read(u32 start, int bytes, int line) {
  Machine& machine = *current->machine;
  if (machine.tags.empty()) return;
  Tag* tags = machine.tags.data() + start;
  const Moment moment = now();
  Moment checked = 0;
  for (int byte = 0; byte < bytes; ++byte) {
    Tag& tag = tags[byte];
    if (tag.write != checked || !checked) {
      if (!readable(tag.write)) refuse_read(start + byte, tag, line);
      checked = tag.write;
    }
    tag.read = moment;
    tag.read_line = line;
  }
}

inline void tag_write_at(u32 start, int bytes, Moment moment, int line) {
  Machine& machine = *current->machine;
  if (machine.tags.empty()) return;
  Tag* tags = machine.tags.data() + start;
  Moment checked_write = 0, checked_read = 0;
  for (int byte = 0; byte < bytes; ++byte) {
    Tag& tag = tags[byte];
    if (tag.write != checked_write || tag.read != checked_read) {
      const bool flying = tag.write && time_of(tag.write) == in_flight;
      if (flying || !seen(tag.write) || !seen(tag.read)) refuse_write(start + byte, tag, line);
      checked_write = tag.write;
      checked_read = tag.read;
    }
    tag = {moment, 0, u16(line & 0x7fff), 0, 0};
  }
}

inline void tag_write(u32 start, int bytes, int line) { tag_write_at(start, bytes, now(), line); }

// An asynchronous write has been issued: until it lands nobody may touch these bytes.
inline void tag_flight(u32 start, int bytes, int line) {
  tag_write_at(start, bytes, moment_of(current->number, in_flight), line);
}

inline void tag_landing(u32 start, int bytes) {
  Machine& machine = *current->machine;
  if (machine.tags.empty()) return;
  const Moment moment = now();
  for (int byte = 0; byte < bytes; ++byte) machine.tags[start + byte].write = moment;
}

}  // namespace qcc::emulator
