// sm_100a: tensor memory with the checks of the emulator: allocations, descriptors, the order of
// products and of those who read their sums.
#pragma once

#include "tensor_products.h"

namespace qcc {

namespace emulator {

// The first of `columns` columns at an address, which must be allocated.
inline u32 tensor_place(u32 address, u32 columns, int line) {
  const Tensor_memory& tensor = current->machine->tensor;
  const u32 column = address & 0xffff;
  if (column + columns > tensor_columns)
    fail(Fault::out_of_bounds, line, "column %u of tensor memory, which has %u",
         column + columns - 1, tensor_columns);
  const u32 owner = tensor.owner[column / tensor_slice];
  for (u32 each = column; each < column + columns; ++each)
    if (!owner || tensor.owner[each / tensor_slice] != owner)
      fail(Fault::out_of_bounds, line, "column %u of tensor memory is not allocated with column %u",
           each, column);
  return column;
}

inline void check_tensor_fence(const char* what, int line) {
  if (current->tensor_behind)
    fail(Fault::race, line, "%s after waiting at a barrier, without tensor_fence_after", what);
}

// The current thread has the tensor unit write columns: nobody may be reading them.
inline void tensor_writes(u32 column, u32 columns, bool add, int line) {
  Machine& machine = *current->machine;
  const Moment flying = moment_of(current->number, in_flight);
  for (u32 each = column; each < column + columns; ++each)
    for (u32 lane = 0; lane < tensor_lanes; lane += 16) {
      Tensor_tag& tag = tensor_tag(machine, lane, each);
      if (!seen(tag.read))
        fail(Fault::race, line,
             "writes column %u of tensor memory, which thread %u reads (line %d) with no barrier "
             "between",
             each, thread_of(tag.read), tag.read_line);
      if (add && !tag.write)
        fail(Fault::uninitialised, line, "adds to column %u of tensor memory, never written", each);
      tag.write = flying;
      tag.write_line = line;
    }
}

inline void execute_tensor_copy(Machine& machine, const Tensor_work& work) {
  const u32 start = (work.a & 0x3fff) << 4, stride = (work.a >> 32 & 0x3fff) << 4;
  for (u32 lane = 0; lane < tensor_lanes; ++lane) {
    const u32 row = lane % lanes;
    memcpy(&machine.tensor.words[lane * tensor_columns + work.d],
           &machine.shared[start + row / 8 * stride + row % 8 * 16], 16);
  }
}

inline void issue_tensor_work(Tensor_work work) {
  Machine& machine = *current->machine;
  work.issued = now();
  if (machine.launch->eager && work.execute) work.execute(machine, work);
  machine.tensor.work.push_back(work);
}

template <Tensor_kind kind>
inline void tensor_product(const char* name, Tensor_work work) {
  using Traits = Tensor_traits<kind>;
  constexpr u32 K = 8 * Traits::Decoder::elements;
  check_tensor_fence(name, work.line);
  work.execute = execute_tensor_product<kind>;
  work.rows = work.columns = instruction_columns<kind>(work.instruction, work.line);
  work.d = tensor_place(work.d, work.columns, work.line);
  check_operand(work.a, tensor_lanes, true, work.line);
  check_operand(work.b, work.rows, true, work.line);
  if (Traits::scales) {
    work.a_scales = tensor_place(work.a_scales, 4, work.line);
    work.b_scales = tensor_place(work.b_scales, (work.rows + 31) / 32, work.line);
    for (u32 column = work.b_scales; column < work.b_scales + (work.rows + 31) / 32; ++column)
      if (!tensor_tag(*current->machine, 0, column).write)
        fail(Fault::uninitialised, work.line, "reads scales in column %u, never written", column);
    for (u32 column = work.a_scales; column < work.a_scales + 4; ++column)
      if (!tensor_tag(*current->machine, 0, column).write)
        fail(Fault::uninitialised, work.line, "reads scales in column %u, never written", column);
  }
  tensor_writes(work.d, work.columns, work.add, work.line);
  count(Counter::mma_tensor);
  count(Counter::multiply_adds, u64(tensor_lanes) * work.columns * K);
  issue_tensor_work(work);
}

template <int count, typename T>
inline void load_tensor_columns(T (&d)[count], u32 from, int line) {
  Warp& warp = *current->warp;
  Machine& machine = *current->machine;
  check_tensor_fence("tensor_load", line);
  const u32 first = from >> 16, column = tensor_place(from, 2 * count, line);
  if (first % 16 || first / lanes != warp.number % tensor_quarters)
    fail(Fault::out_of_bounds, line, "warp %u reads lanes %u … of tensor memory, not of its quarter",
         warp.number, first);
  const u32 lane = current->lane;
  for (u32 index = 0; index < u32(count); ++index) {
    const u32 row = first + lane / 4 + 8 * (index >> 1 & 1);
    const u32 at = column + index / 4 * 8 + lane % 4 * 2 + index % 2;
    Tensor_tag& tag = tensor_tag(machine, row, at);
    if (!tag.write)
      fail(Fault::uninitialised, line, "reads column %u of tensor memory, never written", at);
    if (time_of(tag.write) == in_flight || !seen(tag.write))
      fail(Fault::race, line,
           "reads column %u of tensor memory, whose product (line %d) was not waited for", at,
           tag.write_line);
    memcpy(&d[index], &machine.tensor.words[row * tensor_columns + at], 4);
    tag.read = now();
    tag.read_line = line;
  }
  current->tensor_ahead = true;
}

}  // namespace emulator

// ---- allocation, by a whole warp

inline void tensor_allocate(Shared<u32> address, u32 columns, int line = __builtin_LINE()) {
  using namespace emulator;
  if (current->lane == 0) address.store(0, 0, line);
  if (!gather("tensor_allocate", line, nullptr)) return;
  Machine& machine = *current->machine;
  Tensor_memory& tensor = machine.tensor;
  if (columns < tensor_slice || columns > tensor_columns || columns & (columns - 1))
    fail(Fault::misuse, line, "%u columns of tensor memory are no power of two from 32 to 512",
         columns);
  if (tensor.relinquished) fail(Fault::misuse, line, "allocates after tensor_relinquish");
  if (tensor.words.empty()) {
    tensor.words.assign(tensor_lanes * tensor_columns, 0xffffffff);
    tensor.tags.assign(tensor_lanes / 16 * tensor_columns, Tensor_tag{});
  }
  const u32 wanted = columns / tensor_slice;
  for (u32 first = 0; first + wanted <= tensor_columns / tensor_slice; first += wanted) {
    bool free = true;
    for (u32 slice = first; slice < first + wanted; ++slice) free &= !tensor.owner[slice];
    if (!free) continue;
    const u32 column = first * tensor_slice;
    for (u32 slice = first; slice < first + wanted; ++slice) tensor.owner[slice] = column + 1;
    const u32 place = address.checked("allocates to", 0, 4, true, line);
    memcpy(&machine.shared[place], &column, 4);
    return;
  }
  fail(Fault::resources, line, "no %u columns of tensor memory are free", columns);
}

inline void tensor_relinquish(int line = __builtin_LINE()) {
  if (emulator::gather("tensor_relinquish", line, nullptr))
    emulator::current->machine->tensor.relinquished = true;
}

inline void tensor_release(u32 address, u32 columns, int line = __builtin_LINE()) {
  using namespace emulator;
  check_tensor_fence("tensor_release", line);
  if (!gather("tensor_release", line, nullptr)) return;
  Tensor_memory& tensor = current->machine->tensor;
  const u32 column = tensor_place(address, columns, line);
  u32 owned = 0;
  for (u32 owner : tensor.owner) owned += tensor_slice * (owner == column + 1);
  if (owned != columns)
    fail(Fault::misuse, line, "releases %u columns at %u, where %u were allocated", columns, column,
         owned);
  for (u32 each = column; each < column + columns; ++each)
    for (u32 lane = 0; lane < tensor_lanes; lane += 16) {
      Tensor_tag& tag = tensor_tag(*current->machine, lane, each);
      if (!seen(tag.read) || !seen(tag.write) || time_of(tag.write) == in_flight)
        fail(Fault::race, line, "releases column %u of tensor memory, which is still in use", each);
      tag = Tensor_tag{};
    }
  for (u32& owner : tensor.owner)
    if (owner == column + 1) owner = 0;
}

// ---- order between threads

inline void tensor_fence_before() { emulator::current->tensor_ahead = false; }
inline void tensor_fence_after() { emulator::current->tensor_behind = false; }

// ---- by one thread: copies and products run in their order, on their own

inline void tensor_commit(Shared<u64> barrier, int line = __builtin_LINE()) {
  using namespace emulator;
  Tensor_work commit{};
  commit.line = line;
  commit.barrier = barrier.checked("signals", 0, 8, false, line);
  if (!known_mbarrier(commit.barrier, line).pending)
    fail(Fault::misuse, line, "more arrivals than the mbarrier at byte %u expects", commit.barrier);
  bring(commit.brought);
  issue_tensor_work(commit);
  if (current->machine->launch->eager) finish_tensor_work(*current->machine);
}

template <int swizzle, typename T>
inline u64 tensor_operand(Shared<T> view, int line = __builtin_LINE()) {
  static_assert(swizzle == 32 || swizzle == 64 || swizzle == 128, "rows of 32, 64 or 128 bytes");
  return device::tensor_descriptor(view.checked("reads", 0, 16, false, line), swizzle);
}

template <typename T>
inline void tensor_copy_scales(u32 to, Shared<T> from, int line = __builtin_LINE()) {
  using namespace emulator;
  check_tensor_fence("tensor_copy_scales", line);
  Tensor_work work{};
  work.execute = execute_tensor_copy;
  work.line = line;
  work.d = tensor_place(to, 4, line);
  work.columns = 4;
  work.a = device::tensor_descriptor(from.checked("reads", 0, 16, false, line), 0);
  check_operand(work.a, lanes, false, line);
  tensor_writes(work.d, work.columns, false, line);
  issue_tensor_work(work);
}

#define QCC_TENSOR_MMA(name)                                                              \
  inline void tensor_mma_##name(u32 d, u64 a, u64 b, u32 instruction, u32 add,            \
                                int line = __builtin_LINE()) {                            \
    emulator::tensor_product<Tensor_kind::name>(                                          \
        "tensor_mma_" #name, {nullptr, line, 0, 0, d, 0, instruction, 0, 0, add != 0, a, b, 0, {}}); \
  }
#define QCC_TENSOR_MMA_SCALED(name)                                                       \
  inline void tensor_mma_##name(u32 d, u64 a, u64 b, u32 instruction, u32 a_scales,       \
                                u32 b_scales, u32 add, int line = __builtin_LINE()) {     \
    emulator::tensor_product<Tensor_kind::name>(                                          \
        "tensor_mma_" #name,                                                              \
        {nullptr, line, 0, 0, d, 0, instruction, a_scales, b_scales, add != 0, a, b, 0, {}}); \
  }
QCC_TENSOR_MMA(f16)
QCC_TENSOR_MMA(bf16)
QCC_TENSOR_MMA(s8)
QCC_TENSOR_MMA(e4m3)
QCC_TENSOR_MMA_SCALED(mxf8)
QCC_TENSOR_MMA_SCALED(mxf4)
QCC_TENSOR_MMA_SCALED(nvf4)
#undef QCC_TENSOR_MMA
#undef QCC_TENSOR_MMA_SCALED

// ---- sums to registers, by a whole warp

template <int count, typename T>
inline void tensor_load(T (&d)[count], u32 from, int line = __builtin_LINE()) {
  static_assert((count & (count - 1)) == 0 && 4 <= count && count <= 128, "4, 8, 16, … 128");
  emulator::load_tensor_columns(d, from, line);
  emulator::gather("tensor_load", line, nullptr);
}

}  // namespace qcc
