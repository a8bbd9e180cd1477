// The tensor unit: products and copies run in their order, on their own, until a commit is seen to
// have landed. Eagerly they run when issued, lazily when nobody else can go on.
#pragma once

#include "mbarriers.h"

namespace qcc::emulator {

inline Tensor_tag& tensor_tag(Machine& machine, u32 lane, u32 column) {
  return machine.tensor.tags[lane / 16 * tensor_columns + column];
}

// fn(byte address of 16 bytes) for the two halves of the 32 bytes that a product reads of a row.
template <typename Function>
inline void for_operand_chunks(u64 descriptor, u32 rows, Function fn) {
  const u32 start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
  const u32 mode = descriptor >> 61, span = mode == 2 ? 128 : mode == 4 ? 64 : mode == 6 ? 32 : 16;
  for (u32 row = 0; row < rows; ++row)
    for (u32 k = 0; k < (span == 16 ? 16u : 32u); k += 16) {
      const u32 linear = start + row / 8 * stride + row % 8 * span + k;
      fn(span == 16 ? linear : linear ^ ((linear >> 7 & (span / 16 - 1)) << 4));
    }
}

// Everything that was written and read counts as done when the work was issued: those who see the
// barrier see that.
inline void settle(Machine& machine, const Tensor_work& work) {
  const Moment flying = moment_of(thread_of(work.issued), in_flight);
  for (u32 column = work.d; column < work.d + work.columns; ++column)
    for (u32 lane = 0; lane < tensor_lanes; lane += 16) {
      Tensor_tag& tag = tensor_tag(machine, lane, column);
      if (tag.write == flying) tag.write = work.issued;
    }
  if (machine.tags.empty()) return;
  const auto release = [&](u32 address) {
    for (u32 byte = address; byte < address + 16; ++byte)
      if (machine.tags[byte].read == flying) machine.tags[byte].read = work.issued;
  };
  for_operand_chunks(work.a, work.rows ? tensor_lanes : 32, release);
  if (work.rows) for_operand_chunks(work.b, work.rows, release);
}

// The work up to the oldest commit is done, and its barrier knows. False where there is none.
inline bool finish_tensor_work(Machine& machine) {
  std::vector<Tensor_work>& queue = machine.tensor.work;
  size_t count = 0;
  while (count < queue.size() && queue[count].execute) ++count;
  if (count == queue.size()) return false;
  const Tensor_work commit = queue[count];
  for (size_t index = 0; index < count; ++index) {
    if (!machine.launch->eager) queue[index].execute(machine, queue[index]);
    settle(machine, queue[index]);
  }
  queue.erase(queue.begin(), queue.begin() + count + 1);
  Mbarrier* barrier = mbarrier_at(machine, commit.barrier);
  barrier->brought.join(commit.brought);
  --barrier->pending;
  finish_phase(machine, *barrier);
  return true;
}

// What a block must not leave behind.
inline void report_tensor_leaks(Machine& machine) {
  const Tensor_memory& tensor = machine.tensor;
  if (!tensor.work.empty())
    report(machine, nullptr, Fault::misuse, tensor.work[0].line,
           "the block ends while products are under way that no commit covers or nobody awaits");
  for (u32 slice = 0; slice < tensor_columns / tensor_slice; ++slice)
    if (tensor.owner[slice])
      return report(machine, nullptr, Fault::misuse, 0,
                    "the block ends without releasing columns %u … of tensor memory",
                    tensor.owner[slice] - 1);
}

}  // namespace qcc::emulator
