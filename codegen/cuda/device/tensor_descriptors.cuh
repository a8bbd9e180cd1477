// sm_100a: how operands, scales and instructions are described to tcgen05, as words. Both back ends
// build them here; the emulator takes them apart again.
#pragma once

#include "words.cuh"

namespace qcc {

// What products multiply; the last three with a scale for each block of a row.
enum class Tensor_kind { f16, bf16, s8, e4m3, mxf8, mxf4, nvf4 };

namespace device {

// An operand in shared memory at byte `address`: rows of K, `swizzle` bytes of each together, 8 rows
// one behind the other; or, with 0, rows of 16 bytes, which copies to tensor memory read.
QCC_DEVICE constexpr u64 tensor_descriptor(u32 address, u32 swizzle) {
  const u32 stride = 8 * (swizzle ? swizzle : 16);
  const u64 mode = swizzle == 128 ? 2 : swizzle == 64 ? 4 : swizzle == 32 ? 6 : 0;
  return u64((address & 0x3ffff) >> 4) | u64(swizzle > 0) << 16 | u64(stride >> 4) << 32 |
         u64(1) << 46 | mode << 61;
}

}  // namespace device

// 128 rows by `columns` (a multiple of 8, at most 256) of sums. Of scales, words hold four of a row;
// products that take fewer begin at byte `scale` of each.
template <Tensor_kind kind, int columns>
QCC_DEVICE constexpr u32 tensor_instruction(u32 scale = 0) {
  static_assert(columns % 8 == 0 && 8 <= columns && columns <= 256, "N is 8, 16, … 256");
  const u32 shape = u32(columns) >> 3 << 17 | u32(128) >> 4 << 24;
  switch (kind) {
    case Tensor_kind::f16: return shape | 1 << 4;
    case Tensor_kind::bf16: return shape | 1 << 4 | 1 << 7 | 1 << 10;
    case Tensor_kind::s8: return shape | 2 << 4 | 1 << 7 | 1 << 10;
    case Tensor_kind::e4m3: return shape | 1 << 4;
    case Tensor_kind::mxf8: return shape | scale << 4 | 1 << 23 | scale << 29;
    case Tensor_kind::mxf4: return shape | scale << 4 | 1 << 7 | 1 << 10 | 1 << 23 | scale << 29;
    case Tensor_kind::nvf4: return shape | 1 << 7 | 1 << 10;
  }
  return 0;
}

}  // namespace qcc
