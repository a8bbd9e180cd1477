// sm_100a: tensor memory (128 lanes by 512 columns of 32 bits) and the products that add up in it.
// An address is lane << 16 | column.
#pragma once

#include "memory.cuh"
#include "register_lists.cuh"
#include "tensor_descriptors.cuh"

namespace qcc {

// ---- allocation, by a whole warp

// `columns`, a power of two from 32 on, as soon as there are so many; their address is stored to
// shared memory.
QCC_DEVICE void tensor_allocate(Shared<u32> address, u32 columns) {
  asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], %1;" ::"r"(
                   address.address()),
               "r"(columns)
               : "memory");
}
// This block allocates no more, so that others may.
QCC_DEVICE void tensor_relinquish() {
  asm volatile("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;");
}
QCC_DEVICE void tensor_release(u32 address, u32 columns) {
  asm volatile("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, %1;" ::"r"(address), "r"(columns));
}

// ---- order between threads: what was done in tensor memory before a barrier, what is done after

QCC_DEVICE void tensor_fence_before() {
  asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
}
QCC_DEVICE void tensor_fence_after() {
  asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
}

// ---- by one thread: copies and products run in their order, on their own

// The barrier receives an arrival when all copies and products of this thread are done.
QCC_DEVICE void tensor_commit(Shared<u64> barrier) {
  asm volatile(
      "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(
          barrier.address())
      : "memory");
}

// Rows of K in boxes of `swizzle` bytes; K advances by adding to the view.
template <int swizzle, typename T>
QCC_DEVICE u64 tensor_operand(Shared<T> view) {
  static_assert(swizzle == 32 || swizzle == 64 || swizzle == 128, "rows of 32, 64 or 128 bytes");
  return device::tensor_descriptor(view.address(), swizzle);
}

// Scales of 128 rows, a word of four for each: word i / 32 of the 16 bytes i % 32 is that of row i.
// They fill 4 columns, in all four quarters of the lanes.
template <typename T>
QCC_DEVICE void tensor_copy_scales(u32 to, Shared<T> from) {
  asm volatile("tcgen05.cp.cta_group::1.32x128b.warpx4 [%0], %1;" ::"r"(to),
               "l"(device::tensor_descriptor(from.address(), 0))
               : "memory");
}

// d += a b, or d = a b where `add` is 0; `instruction` is a tensor_instruction.
#define QCC_TENSOR_MMA(name, kind)                                                            \
  QCC_DEVICE void tensor_mma_##name(u32 d, u64 a, u64 b, u32 instruction, u32 add) {          \
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %4, 0; tcgen05.mma.cta_group::1.kind::" kind \
                 " [%0], %1, %2, %3, p; }" ::"r"(d),                                          \
                 "l"(a), "l"(b), "r"(instruction), "r"(add)                                   \
                 : "memory");                                                                 \
  }
#define QCC_TENSOR_MMA_SCALED(name, kind)                                                     \
  QCC_DEVICE void tensor_mma_##name(u32 d, u64 a, u64 b, u32 instruction, u32 a_scales,       \
                                    u32 b_scales, u32 add) {                                  \
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %6, 0; tcgen05.mma.cta_group::1.kind::" kind \
                 " [%0], %1, %2, %3, [%4], [%5], p; }" ::"r"(d),                              \
                 "l"(a), "l"(b), "r"(instruction), "r"(a_scales), "r"(b_scales), "r"(add)     \
                 : "memory");                                                                 \
  }
QCC_TENSOR_MMA(f16, "f16")
QCC_TENSOR_MMA(bf16, "f16")
QCC_TENSOR_MMA(s8, "i8")
QCC_TENSOR_MMA(e4m3, "f8f6f4")
QCC_TENSOR_MMA_SCALED(mxf8, "mxf8f6f4.block_scale.scale_vec::1X")
QCC_TENSOR_MMA_SCALED(mxf4, "mxf4.block_scale.scale_vec::2X")
QCC_TENSOR_MMA_SCALED(nvf4, "mxf4nvf4.block_scale.scale_vec::4X")
#undef QCC_TENSOR_MMA
#undef QCC_TENSOR_MMA_SCALED

// ---- sums to registers, by a whole warp

#define QCC_TENSOR_LOAD(registers, times, c)                                                     \
  if constexpr (count == registers)                                                              \
    asm volatile("tcgen05.ld.sync.aligned.16x256b.x" times ".b32 {" QCC_##registers              \
                 "}, [%" #registers "]; tcgen05.wait::ld.sync.aligned;"                          \
                 : QCC_D##registers(c, 0)                                                        \
                 : "r"(from)                                                                     \
                 : "memory");
#define QCC_TENSOR_LOADS(T, c)                                                                   \
  template <int count>                                                                           \
  QCC_DEVICE void tensor_load(T(&d)[count], u32 from) {                                          \
    static_assert((count & (count - 1)) == 0 && 4 <= count && count <= 128, "4, 8, 16, … 128");  \
    QCC_TENSOR_LOAD(4, "1", c)                                                                   \
    QCC_TENSOR_LOAD(8, "2", c)                                                                   \
    QCC_TENSOR_LOAD(16, "4", c)                                                                  \
    QCC_TENSOR_LOAD(32, "8", c)                                                                  \
    QCC_TENSOR_LOAD(64, "16", c)                                                                 \
    QCC_TENSOR_LOAD(128, "32", c)                                                                \
  }
// 16 lanes, of the 32 that warp number modulo 4 may read, by 2 count columns, in the layout of the
// accumulators of mma: d[4 i …] are columns 8 i + 2 (lane & 3) and the next, of rows lane >> 2 and
// 8 below it.
QCC_TENSOR_LOADS(float, "=f")
QCC_TENSOR_LOADS(s32, "=r")
#undef QCC_TENSOR_LOADS
#undef QCC_TENSOR_LOAD

}  // namespace qcc
