// sm_90: mbarriers, bulk and tensor copies.
#pragma once

#include "mbarriers.h"
#include "views.h"

namespace qcc {

// ---- mbarriers

inline void mbarrier_init(Shared<u64> barrier, u32 arrivals, int line = __builtin_LINE()) {
  using namespace emulator;
  barrier.store(0, 0, line);
  const u32 offset = barrier.checked("initialises", 0, 8, true, line);
  Machine& machine = *current->machine;
  if (!arrivals) fail(Fault::misuse, line, "an mbarrier for no arrivals");
  Mbarrier fresh{};
  fresh.offset = offset;
  fresh.expected = fresh.pending = arrivals;
  if (Mbarrier* old = mbarrier_at(machine, offset))
    *old = fresh;
  else
    machine.mbarriers.push_back(fresh);
}

// Initialised barriers are seen by copies; other threads need a barrier of the block besides.
inline void fence_mbarrier_init() {}

inline void mbarrier_arrive(Shared<u64> barrier, int line = __builtin_LINE()) {
  using namespace emulator;
  arrive_at(known_mbarrier(barrier.checked("arrives at", 0, 8, false, line), line), 0, line);
}

// Arrive, and let the phase wait for so many bytes of copies.
inline void mbarrier_expect(Shared<u64> barrier, u32 bytes, int line = __builtin_LINE()) {
  using namespace emulator;
  arrive_at(known_mbarrier(barrier.checked("arrives at", 0, 8, false, line), line), bytes, line);
}

// Until the phase of this parity (0 for the first) has completed.
inline void mbarrier_wait(Shared<u64> barrier, u32 parity, int line = __builtin_LINE()) {
  emulator::wait_at(barrier.checked("waits at", 0, 8, false, line), parity, line);
}

// What this thread wrote to shared memory is seen by copies and products of the async proxy.
inline void fence_async_proxy() { emulator::current->fenced = emulator::current->warp->time(); }

// ---- copies by the hardware, of one thread

// `bytes` bytes, a multiple of 16; the barrier receives them.
template <typename T, typename S>
inline void copy_bulk(Shared<T> to, Global<S> from, u32 bytes, Shared<u64> barrier,
                      int line = __builtin_LINE()) {
  using namespace emulator;
  if (bytes % 16)
    fail(Fault::misaligned, line, "a bulk copy of %u bytes, no multiple of 16", bytes);
  Transfer transfer{};
  const u8* source = reinterpret_cast<const u8*>(from.copied(16, bytes, line));
  transfer.to = to.checked("copies to", 0, 16, true, line);
  if (bytes > 16) to.at((bytes - 16) / sizeof(T)).checked("copies to", 0, 16, true, line);
  transfer.barrier = barrier.checked("signals", 0, 8, false, line);
  transfer.data.assign(source, source + bytes);
  for (u32 place = 0; place < bytes; place += 16) transfer.places.push_back(place);
  issue(transfer, line);
}

namespace emulator {

// How launch.py lays out a TensorMap: dimension 0 is the innermost.
struct Tensor {
  u64 address;
  u32 dimensions, element_bytes;
  u32 sizes[5], box[5];
  u64 strides[4];  // in bytes, of dimensions 1 …
  u32 swizzle;     // bytes of a row: 0, 32, 64, 128
};
static_assert(sizeof(Tensor) <= sizeof(TensorMap), "a tensor map has 128 bytes");

// Chunks of 16 bytes are exchanged by exclusive or with the number of their 128 bytes.
inline u32 swizzled(u32 address, u32 span) {
  return span ? address ^ ((address >> 7 & (span / 16 - 1)) << 4) : address;
}

// A product of the async proxy reads the 16 bytes at `address`.
inline void read_by_product(u32 address, int line) {
  Machine& machine = *current->machine;
  if (address + 16 > machine.shared.size())
    fail(Fault::out_of_bounds, line, "a product reads byte %u of shared memory, which has %zu",
         address, machine.shared.size());
  tag_read(address, 16, line);
  for (u32 byte = address; byte < address + 16 && !machine.tags.empty(); ++byte) {
    const Tag& tag = machine.tags[byte];
    const Thread& writer = machine.threads[thread_of(tag.write)];
    if (!tag.async && time_of(tag.write) > writer.fenced)
      fail(Fault::race, line,
           "a product reads byte %u of shared memory, which thread %u wrote (line %u) without "
           "fence_async_proxy",
           byte, writer.number, tag.write_line);
  }
}

inline Transfer tensor_transfer(const Tensor& tensor, u32 to, const s32 (&at)[5], int line) {
  Transfer transfer{};
  transfer.to = 0;
  u32 inner = tensor.box[0] * tensor.element_bytes, rows = 1;
  for (u32 axis = 1; axis < tensor.dimensions; ++axis) rows *= tensor.box[axis];
  if (inner % 16) fail(Fault::misuse, line, "a box of %u bytes, no multiple of 16", inner);
  if (tensor.swizzle && inner > tensor.swizzle)
    fail(Fault::misuse, line, "a box of %u bytes, swizzled by %u", inner, tensor.swizzle);
  if (to % (tensor.swizzle ? 8 * tensor.swizzle : 128))
    fail(Fault::misaligned, line, "a tensor copy to byte %u, swizzled by %u", to, tensor.swizzle);
  transfer.data.assign(size_t(inner) * rows, 0);
  for (u32 row = 0; row < rows; ++row) {
    u64 address = tensor.address;
    bool inside = true;
    for (u32 axis = 1, rest = row; axis < tensor.dimensions; ++axis) {
      const s64 index = at[axis] + s64(rest % tensor.box[axis]);
      inside &= index >= 0 && index < tensor.sizes[axis];
      address += index * tensor.strides[axis - 1];
      rest /= tensor.box[axis];
    }
    for (u32 column = 0; inside && column < tensor.box[0]; ++column) {
      const s64 index = at[0] + s64(column);
      if (index < 0 || index >= tensor.sizes[0]) continue;
      memcpy(&transfer.data[row * inner + column * tensor.element_bytes],
             reinterpret_cast<const u8*>(address) + index * tensor.element_bytes,
             tensor.element_bytes);
    }
    for (u32 byte = 0; byte < inner; byte += 16)
      transfer.places.push_back(swizzled(to + row * inner + byte, tensor.swizzle));
  }
  count(Counter::global_bytes_read, transfer.data.size());
  return transfer;
}

template <typename T>
inline void load_tensor(Shared<T> to, const TensorMap& map, Shared<u64> barrier, const s32 (&at)[5],
                        u32 dimensions, int line) {
  Tensor tensor;
  memcpy(&tensor, &map, sizeof tensor);
  if (tensor.dimensions != dimensions)
    fail(Fault::misuse, line, "a tensor of %u dimensions is copied as one of %u", tensor.dimensions,
         dimensions);
  u32 bytes = tensor.element_bytes;
  for (u32 axis = 0; axis < dimensions; ++axis) bytes *= tensor.box[axis];
  const u32 offset = to.checked("copies to", 0, 16, true, line);
  to.at((bytes - 16) / sizeof(T)).checked("copies to", 0, 16, true, line);
  Transfer transfer = tensor_transfer(tensor, offset, at, line);
  transfer.barrier = barrier.checked("signals", 0, 8, false, line);
  issue(transfer, line);
}

}  // namespace emulator

// The box of `map` whose first element is (x, y, …), x along the innermost dimension; zeros beyond
// the edges of the tensor.
template <typename T>
inline void load_tensor_2d(Shared<T> to, const TensorMap& map, Shared<u64> barrier, s32 x, s32 y,
                           int line = __builtin_LINE()) {
  emulator::load_tensor(to, map, barrier, {x, y, 0, 0, 0}, 2, line);
}
template <typename T>
inline void load_tensor_3d(Shared<T> to, const TensorMap& map, Shared<u64> barrier, s32 x, s32 y,
                           s32 z, int line = __builtin_LINE()) {
  emulator::load_tensor(to, map, barrier, {x, y, z, 0, 0}, 3, line);
}
template <typename T>
inline void load_tensor_4d(Shared<T> to, const TensorMap& map, Shared<u64> barrier, s32 x, s32 y,
                           s32 z, s32 w, int line = __builtin_LINE()) {
  emulator::load_tensor(to, map, barrier, {x, y, z, w, 0}, 4, line);
}
inline void prefetch_tensor_map(const TensorMap&) {}

}  // namespace qcc
