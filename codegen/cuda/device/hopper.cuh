// sm_90a: mbarriers, bulk and tensor copies, products of warp groups.
#pragma once

#include "memory.cuh"
#include "register_lists.cuh"

namespace qcc {

// ---- mbarriers

QCC_DEVICE void mbarrier_init(Shared<u64> barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier.address()), "r"(arrivals)
               : "memory");
}
// Initialised barriers are seen by copies; other threads need a barrier of the block besides.
QCC_DEVICE void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
QCC_DEVICE void mbarrier_arrive(Shared<u64> barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier.address()) : "memory");
}
// Arrive, and let the phase wait for so many bytes of copies.
QCC_DEVICE void mbarrier_expect(Shared<u64> barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier.address()),
               "r"(bytes)
               : "memory");
}
// Until the phase of this parity (0 for the first) has completed.
QCC_DEVICE void mbarrier_wait(Shared<u64> barrier, u32 parity) {
  const u32 address = barrier.address();
  u32 done;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, "
        "p; }"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
  } while (!done);
}
// What this thread wrote to shared memory is seen by copies and products of the async proxy.
QCC_DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- copies by the hardware, of one thread

// `bytes` bytes, a multiple of 16; the barrier receives them.
template <typename T, typename S>
QCC_DEVICE void copy_bulk(Shared<T> to, Global<S> from, u32 bytes, Shared<u64> barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to.address()),
      "l"(from.address()), "r"(bytes), "r"(barrier.address())
      : "memory");
}

#define QCC_TENSOR_COPY "cp.async.bulk.tensor."
#define QCC_TENSOR_ENDS ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "

// The box of `map` whose first element is (x, y, …), x along the innermost dimension; zeros beyond
// the edges of the tensor.
template <typename T>
QCC_DEVICE void load_tensor_2d(Shared<T> to, const TensorMap& map, Shared<u64> barrier, s32 x,
                               s32 y) {
  asm volatile(QCC_TENSOR_COPY "2d" QCC_TENSOR_ENDS "{%3, %4}], [%2];" ::"r"(to.address()),
               "l"(&map), "r"(barrier.address()), "r"(x), "r"(y)
               : "memory");
}
template <typename T>
QCC_DEVICE void load_tensor_3d(Shared<T> to, const TensorMap& map, Shared<u64> barrier, s32 x,
                               s32 y, s32 z) {
  asm volatile(QCC_TENSOR_COPY "3d" QCC_TENSOR_ENDS "{%3, %4, %5}], [%2];" ::"r"(to.address()),
               "l"(&map), "r"(barrier.address()), "r"(x), "r"(y), "r"(z)
               : "memory");
}
template <typename T>
QCC_DEVICE void load_tensor_4d(Shared<T> to, const TensorMap& map, Shared<u64> barrier, s32 x,
                               s32 y, s32 z, s32 w) {
  asm volatile(QCC_TENSOR_COPY "4d" QCC_TENSOR_ENDS "{%3, %4, %5, %6}], [%2];" ::"r"(to.address()),
               "l"(&map), "r"(barrier.address()), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
}
#undef QCC_TENSOR_COPY
#undef QCC_TENSOR_ENDS

QCC_DEVICE void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// ---- registers of a warp group; ptxas obeys only in a kernel with __launch_bounds__(threads, 1)

template <int registers>
QCC_DEVICE void increase_registers() {
  static_assert(registers % 8 == 0 && 24 <= registers && registers <= 256, "setmaxnreg");
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
QCC_DEVICE void decrease_registers() {
  static_assert(registers % 8 == 0 && 24 <= registers && registers <= 256, "setmaxnreg");
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

// ---- products of a warp group: 64 rows, 16 of each warp

// An operand in shared memory, rows of K: 128 bytes of a row lie together (64 or 32 with smaller
// swizzles), `stride` bytes from 8 rows to the next 8. K advances by adding to the view.
template <int swizzle, typename T>
QCC_DEVICE u64 wgmma_operand(Shared<T> view, u32 stride = 8 * swizzle) {
  static_assert(swizzle == 32 || swizzle == 64 || swizzle == 128, "rows of 32, 64 or 128 bytes");
  constexpr u64 mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : 3;
  return u64((view.address() & 0x3ffff) >> 4) | u64(1) << 16 | u64(stride >> 4) << 32 | mode << 62;
}

// The other way round: K goes from row to row of boxes, `leading` bytes from one box of 64 columns
// to the next.
template <typename T>
QCC_DEVICE u64 wgmma_columns(Shared<T> view, u32 leading) {
  return u64((view.address() & 0x3ffff) >> 4) | u64(leading >> 4) << 16 | u64(1024 >> 4) << 32 |
         u64(1) << 62;
}

// Before the first product, and after registers of one were changed by other instructions.
QCC_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
QCC_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `pending` committed groups of products are under way.
template <int pending>
QCC_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// One instruction for `count` accumulators; `n` is its width, the rest are names of operands.
#define QCC_FROM_REGISTERS(count, n, operands, b, flag, types, c, ends)                                 \
  if constexpr (accumulators == count)                                                            \
    asm volatile("{ .reg .pred p; setp.ne.u32 p, " flag ", 0; wgmma.mma_async.sync.aligned.m64n" n types \
                 " {" QCC_##count "}, " operands ", " b ", p" ends "; }"                          \
                 : QCC_D##count(c, 0)                                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_rows), "r"(add)              \
                 : "memory");
#define QCC_FROM_SHARED(count, n, operands, flag, types, c, ends)                                       \
  if constexpr (accumulators == count)                                                            \
    asm volatile("{ .reg .pred p; setp.ne.u32 p, " flag ", 0; wgmma.mma_async.sync.aligned.m64n" n types \
                 " {" QCC_##count "}, " operands ", p" ends "; }"                                 \
                 : QCC_D##count(c, 0)                                                             \
                 : "l"(a_rows), "l"(b_rows), "r"(add)                                             \
                 : "memory");

// d += a b: A of registers or in shared memory, B in shared memory as rows of K, or, of `_columns`,
// as wgmma_columns says; N is twice the number of accumulators. With add = 0 d is overwritten.
#define QCC_WGMMA(name, depth, types, T, c, register_ends, shared_ends)                           \
  template <int accumulators>                                                                     \
  QCC_DEVICE void wgmma_m64k##depth##_##name(T(&d)[accumulators], const u32(&a)[4], u64 b_rows, u32 add = 1) { \
    static_assert(                                                                                \
        (accumulators & (accumulators - 1)) == 0 && accumulators >= 4 && accumulators <= 128,     \
        "N is 8, 16, 32, 64, 128 or 256");                                                        \
    QCC_FROM_REGISTERS(4, "8", "{%4, %5, %6, %7}", "%8", "%9", types, c, register_ends)                 \
    QCC_FROM_REGISTERS(8, "16", "{%8, %9, %10, %11}", "%12", "%13", types, c, register_ends)             \
    QCC_FROM_REGISTERS(16, "32", "{%16, %17, %18, %19}", "%20", "%21", types, c, register_ends)          \
    QCC_FROM_REGISTERS(32, "64", "{%32, %33, %34, %35}", "%36", "%37", types, c, register_ends)          \
    QCC_FROM_REGISTERS(64, "128", "{%64, %65, %66, %67}", "%68", "%69", types, c, register_ends)         \
    QCC_FROM_REGISTERS(128, "256", "{%128, %129, %130, %131}", "%132", "%133", types, c, register_ends)   \
  }                                                                                               \
  template <int accumulators>                                                                     \
  QCC_DEVICE void wgmma_m64k##depth##_##name(T(&d)[accumulators], u64 a_rows, u64 b_rows, u32 add = 1) {       \
    static_assert(                                                                                \
        (accumulators & (accumulators - 1)) == 0 && accumulators >= 4 && accumulators <= 128,     \
        "N is 8, 16, 32, 64, 128 or 256");                                                        \
    QCC_FROM_SHARED(4, "8", "%4, %5", "%6", types, c, shared_ends)                                      \
    QCC_FROM_SHARED(8, "16", "%8, %9", "%10", types, c, shared_ends)                                     \
    QCC_FROM_SHARED(16, "32", "%16, %17", "%18", types, c, shared_ends)                                  \
    QCC_FROM_SHARED(32, "64", "%32, %33", "%34", types, c, shared_ends)                                  \
    QCC_FROM_SHARED(64, "128", "%64, %65", "%66", types, c, shared_ends)                                 \
    QCC_FROM_SHARED(128, "256", "%128, %129", "%130", types, c, shared_ends)                              \
  }
QCC_WGMMA(f16, 16, "k16.f32.f16.f16", float, "+f", ", 1, 1, 0", ", 1, 1, 0, 0")
QCC_WGMMA(bf16, 16, "k16.f32.bf16.bf16", float, "+f", ", 1, 1, 0", ", 1, 1, 0, 0")
QCC_WGMMA(f16_columns, 16, "k16.f32.f16.f16", float, "+f", ", 1, 1, 1", ", 1, 1, 0, 1")
QCC_WGMMA(bf16_columns, 16, "k16.f32.bf16.bf16", float, "+f", ", 1, 1, 1", ", 1, 1, 0, 1")
QCC_WGMMA(e4m3, 32, "k32.f32.e4m3.e4m3", float, "+f", ", 1, 1", ", 1, 1")
QCC_WGMMA(e5m2, 32, "k32.f32.e5m2.e5m2", float, "+f", ", 1, 1", ", 1, 1")
QCC_WGMMA(s8, 32, "k32.s32.s8.s8", s32, "+r", "", "")
QCC_WGMMA(u8s8, 32, "k32.s32.u8.s8", s32, "+r", "", "")
#undef QCC_WGMMA
#undef QCC_FROM_SHARED
#undef QCC_FROM_REGISTERS

}  // namespace qcc
