// Global<T> and Shared<T> with the checks of the emulator, and what moves data between them.
#pragma once

#include "tags.h"
#include "traffic.h"

namespace qcc {

namespace emulator {

inline Extent* extent_of(const void* pointer) {
  const u64 address = reinterpret_cast<u64>(pointer);
  Launch& launch = *current->machine->launch;
  // A pointer to the end of one buffer is in the next one, if that begins there.
  Extent* before = nullptr;
  for (u32 index = 0; index < launch.extent_count; ++index) {
    Extent& extent = launch.extents[index];
    if (address >= extent.begin && address < extent.begin + extent.bytes) return &extent;
    if (address == extent.begin + extent.bytes) before = &extent;
  }
  return before;
}

inline void check_view(const Extent* extent, const void* pointer, s64 bytes, int line) {
  if (bytes == 0) return;
  if (!extent) fail(Fault::out_of_bounds, line, "%p is in no buffer of the launch", pointer);
  const u64 offset = reinterpret_cast<u64>(pointer) - extent->begin;
  if (bytes < 0 || offset + bytes > extent->bytes)
    fail(Fault::out_of_bounds, line,
         "a view of %lld bytes at offset %llu of argument %u, which has %llu bytes", bytes, offset,
         extent->argument, extent->bytes);
}

// The compiler of the device may keep constant data in caches that writes do not reach.
inline void check_use(Extent* extent, u32 use, int line) {
  if (!extent || extent->used == use) return;
  if (__atomic_or_fetch(&extent->used, use, __ATOMIC_RELAXED) == 3)
    fail(Fault::misuse, line, "argument %u is written and also viewed as constant",
         extent->argument);
}

inline void check_index(const char* what, s64 index, s64 elements, s64 size, int line) {
  if (index < 0 || index + elements > size)
    fail(Fault::out_of_bounds, line, "%s element %lld of %lld", what, index + elements - 1, size);
}

inline void check_alignment(const char* what, u64 address, int bytes, int line) {
  if (address % bytes)
    fail(Fault::misaligned, line, "%s %d bytes at address %llu, which is %llu modulo %d", what,
         bytes, address, address % bytes, bytes);
}

}  // namespace emulator

// `count` elements at `pointer`. A const element type promises that no kernel of the launch
// writes the buffer.
template <typename T>
class Global {
 public:
  Global(T* pointer, s64 count, int line = __builtin_LINE())
      : base(pointer), size(count), extent(emulator::extent_of(pointer)) {
    emulator::check_view(extent, pointer, count * s64(sizeof(T)), line);
    emulator::check_alignment("views", reinterpret_cast<u64>(pointer), sizeof(T), line);
    // An empty view may lie where another buffer begins.
    if (is_const<T> && count) emulator::check_use(extent, 1, line);
  }
  Global(const Global<Value<T>>& other)
      : base(other.base), size(other.size), start(other.start), extent(other.extent) {}

  // The view from element `index` on; nothing is checked before an access.
  Global at(s64 index) const { return {base, size, start + index, extent}; }

  Value<T> load(s64 index, int line = __builtin_LINE()) const {
    Value<T> value;
    memcpy(&value, reading(index, sizeof(T), line), sizeof value);
    return value;
  }
  template <int bytes, Cache cache = Cache::normal>
  Accessed<bytes> load(s64 index, int line = __builtin_LINE()) const {
    Accessed<bytes> value;
    memcpy(&value, reading(index, bytes, line), bytes);
    return value;
  }
  void store(s64 index, Value<T> value, int line = __builtin_LINE()) const {
    memcpy(writing(index, sizeof(T), line), &value, sizeof value);
  }
  template <int bytes>
  void store(s64 index, Accessed<bytes> value, int line = __builtin_LINE()) const {
    memcpy(writing(index, bytes, line), &value, bytes);
  }

  // Checked addresses, for the instructions that are not plain loads and stores.
  const T* reading(s64 index, int bytes, int line) const {
    emulator::count(emulator::Counter::global_loads);
    emulator::count(emulator::Counter::global_bytes_read, bytes);
    return element("reads", index, bytes, false, line);
  }
  T* writing(s64 index, int bytes, int line) const {
    static_assert(!is_const<T>, "a view of constants is not written");
    emulator::check_use(extent, 2, line);
    emulator::count(emulator::Counter::global_stores);
    emulator::count(emulator::Counter::global_bytes_written, bytes);
    return element("writes", index, bytes, true, line);
  }
  // The source of a copy that is `bytes` wide and reads `valid` of them.
  const T* copied(int bytes, u32 valid, int line) const {
    emulator::check_alignment("copies from", reinterpret_cast<u64>(base + start), bytes, line);
    emulator::count(emulator::Counter::global_bytes_read, valid);
    const s64 elements = (valid + s64(sizeof(T)) - 1) / s64(sizeof(T));
    emulator::check_index("copies", start, elements, size, line);
    emulator::note_access(reinterpret_cast<u64>(base + start), valid, false, false, line);
    return base + start;
  }

 private:
  template <typename U>
  friend class Global;

  Global(T* base, s64 size, s64 start, emulator::Extent* extent)
      : base(base), size(size), start(start), extent(extent) {}

  T* element(const char* what, s64 index, int bytes, bool write, int line) const {
    const s64 elements = (bytes + s64(sizeof(T)) - 1) / s64(sizeof(T));
    emulator::check_index(what, start + index, elements, size, line);
    T* pointer = base + start + index;
    emulator::check_alignment(what, reinterpret_cast<u64>(pointer), bytes, line);
    emulator::note_access(reinterpret_cast<u64>(pointer), bytes, false, write, line);
    return pointer;
  }

  T* base;
  s64 size, start = 0;
  emulator::Extent* extent;
};

// `count` elements from byte `offset` of the block's dynamic shared memory.
template <typename T>
class Shared {
 public:
  Shared(u32 offset, s64 count, int line = __builtin_LINE()) : base(offset), size(count) {
    const u64 bytes = emulator::current->machine->shared.size();
    if (count < 0 || offset + count * sizeof(T) > bytes)
      emulator::fail(emulator::Fault::out_of_bounds, line,
                     "a view of %lld bytes at offset %u of shared memory, which has %llu bytes",
                     s64(count * sizeof(T)), offset, bytes);
    emulator::check_alignment("views", offset, sizeof(T), line);
  }

  Shared at(s64 index) const {
    Shared view = *this;
    view.start += index;
    return view;
  }

  T load(s64 index, int line = __builtin_LINE()) const {
    T value;
    memcpy(&value, reading(index, sizeof(T), line), sizeof value);
    return value;
  }
  template <int bytes>
  Accessed<bytes> load(s64 index, int line = __builtin_LINE()) const {
    Accessed<bytes> value;
    memcpy(&value, reading(index, bytes, line), bytes);
    return value;
  }
  void store(s64 index, T value, int line = __builtin_LINE()) const {
    memcpy(writing(index, sizeof(T), line), &value, sizeof value);
  }
  template <int bytes>
  void store(s64 index, Accessed<bytes> value, int line = __builtin_LINE()) const {
    memcpy(writing(index, bytes, line), &value, bytes);
  }

  const u8* reading(s64 index, int bytes, int line) const {
    const u32 offset = checked("reads", index, bytes, false, line);
    emulator::count(emulator::Counter::shared_loads);
    emulator::count(emulator::Counter::shared_bytes_read, bytes);
    emulator::tag_read(offset, bytes, line);
    return emulator::current->machine->shared.data() + offset;
  }
  u8* writing(s64 index, int bytes, int line) const {
    const u32 offset = checked("writes", index, bytes, true, line);
    emulator::count(emulator::Counter::shared_stores);
    emulator::count(emulator::Counter::shared_bytes_written, bytes);
    emulator::tag_write(offset, bytes, line);
    return emulator::current->machine->shared.data() + offset;
  }
  // The byte offset of an access that fits and is aligned; its tags are the caller's.
  u32 checked(const char* what, s64 index, int bytes, bool write, int line) const {
    const s64 elements = (bytes + s64(sizeof(T)) - 1) / s64(sizeof(T));
    emulator::check_index(what, start + index, elements, size, line);
    const u32 offset = base + (start + index) * sizeof(T);
    emulator::check_alignment(what, offset, bytes, line);
    emulator::note_access(offset, bytes, true, write, line);
    return offset;
  }

 private:
  u32 base;
  s64 size, start = 0;
};

// ---- asynchronous copies

// Copy `valid` of `bytes` bytes and zero the rest; other threads see them after wait_copies and a
// barrier.
template <int bytes, Cache cache = Cache::normal, typename T, typename S>
inline void copy_async(Shared<T> to, Global<S> from, u32 valid = bytes,
                       int line = __builtin_LINE()) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  using namespace emulator;
  if (valid > bytes) fail(Fault::misuse, line, "copies %u bytes of %d", valid, bytes);
  Thread& thread = *current;
  Copy copy{
      to.checked("copies to", 0, bytes, true, line), bytes, thread.copy_groups, line, false, {}};
  tag_flight(copy.to, bytes, line);
  if (valid) memcpy(copy.data, from.copied(bytes, valid, line), valid);
  count(Counter::async_copies);
  count(Counter::async_copy_bytes, valid);
  if (thread.machine->launch->eager) memcpy(&thread.machine->shared[copy.to], copy.data, bytes);
  thread.copies.push_back(copy);
}

inline void commit_copies(int = __builtin_LINE()) { ++emulator::current->copy_groups; }

// Until at most `pending` of the groups that this thread committed are under way.
template <int pending>
inline void wait_copies(int = __builtin_LINE()) {
  using namespace emulator;
  Thread& thread = *current;
  size_t kept = 0;
  for (Copy& copy : thread.copies) {
    if (copy.group + pending >= thread.copy_groups) {
      thread.copies[kept++] = copy;
      continue;
    }
    if (!thread.machine->launch->eager)
      memcpy(&thread.machine->shared[copy.to], copy.data, copy.bytes);
    tag_landing(copy.to, copy.bytes);
  }
  thread.copies.resize(kept);
}

// ---- matrices of 8 rows of 16 bytes

// Lane 8 m + r names row r of matrix m; d[m] is word `lane & 3` of row `lane >> 2`, or, transposed,
// the 16-bit elements 2 (lane & 3) and the next of column `lane >> 2`.
template <int count, bool transposed = false, typename T>
inline void load_matrix(u32 (&d)[count], Shared<T> row, int line = __builtin_LINE()) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
  using namespace emulator;
  struct Operands {
    const u8* row;
    u32* d;
  } mine{nullptr, d};
  if (current->lane < 8 * count) mine.row = row.reading(0, 16, line);
  count_warp(Counter::matrix_loads);
  collective("load_matrix", line, mine, [](Operands* const* warp) {
    for (int matrix = 0; matrix < count; ++matrix)
      for (int lane = 0; lane < lanes; ++lane) {
        u32 word;
        if constexpr (transposed) {
          const u8* first = warp[8 * matrix + 2 * (lane & 3)]->row + 2 * (lane >> 2);
          const u8* second = warp[8 * matrix + 2 * (lane & 3) + 1]->row + 2 * (lane >> 2);
          word = first[0] | first[1] << 8 | second[0] << 16 | u32(second[1]) << 24;
        } else {
          memcpy(&word, warp[8 * matrix + (lane >> 2)]->row + 4 * (lane & 3), 4);
        }
        warp[lane]->d[matrix] = word;
      }
  });
}

// The inverse of load_matrix, from sm_90 on.
template <int count, bool transposed = false, typename T>
inline void store_matrix(Shared<T> row, const u32 (&s)[count], int line = __builtin_LINE()) {
  static_assert(count == 1 || count == 2 || count == 4, "stmatrix stores 1, 2 or 4 matrices");
  using namespace emulator;
  struct Operands {
    u8* row;
    const u32* s;
  } mine{nullptr, s};
  if (current->lane < 8 * count) mine.row = row.writing(0, 16, line);
  count_warp(Counter::matrix_stores);
  collective("store_matrix", line, mine, [](Operands* const* warp) {
    for (int matrix = 0; matrix < count; ++matrix)
      for (int lane = 0; lane < lanes; ++lane) {
        const u32 word = warp[lane]->s[matrix];
        if constexpr (transposed) {
          const u16 halves[2] = {u16(word), u16(word >> 16)};
          for (int half = 0; half < 2; ++half)
            memcpy(warp[8 * matrix + 2 * (lane & 3) + half]->row + 2 * (lane >> 2), &halves[half],
                   2);
        } else {
          memcpy(warp[8 * matrix + (lane >> 2)]->row + 4 * (lane & 3), &word, 4);
        }
      }
  });
}

}  // namespace qcc
