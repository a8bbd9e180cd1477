// Every function of one thread, applied to arrays of words; and each matrix instruction once.
#include "qcc_cuda.cuh"

namespace qcc {

// out[i] = expression of a, b, c
#define APPLY(name, expression)                                                               \
  extern "C" __global__ void __launch_bounds__(128)                                           \
      apply_##name(const u32* as, const u32* bs, const u32* cs, u32* results, int n) {        \
    const int i = blockIdx.x * blockDim.x + threadIdx.x;                                      \
    if (i >= n) return;                                                                       \
    const u32 a = Global<const u32>(as, n).load(i), b = Global<const u32>(bs, n).load(i),     \
              c = Global<const u32>(cs, n).load(i);                                           \
    (void)a, (void)b, (void)c;                                                                \
    Global<u32>(results, n).store(i, expression);                                             \
  }                                                                                           \
  QCC_KERNEL(apply_##name)

APPLY(lop3_ea, lop3<0xea>(a, b, c))
APPLY(lop3_96, lop3<0x96>(a, b, c))
APPLY(lop3_d8, lop3<0xd8>(a, b, c))
APPLY(permute_bytes, permute_bytes(a, b, c))
APPLY(funnel_shift_right, funnel_shift_right(a, b, c & 31))
APPLY(dot_s8, dot_s8(a, b, c))
APPLY(dot_u8s8, dot_u8s8(a, b, c))

APPLY(fma_f16x2, fma_f16x2(a, b, c))
APPLY(add_f16x2, add_f16x2(a, b))
APPLY(sub_f16x2, sub_f16x2(a, b))
APPLY(mul_f16x2, mul_f16x2(a, b))
APPLY(max_f16x2, max_f16x2(a, b))
APPLY(min_f16x2, min_f16x2(a, b))
APPLY(fma_bf16x2, fma_bf16x2(a, b, c))
APPLY(add_bf16x2, add_bf16x2(a, b))
APPLY(sub_bf16x2, sub_bf16x2(a, b))
APPLY(mul_bf16x2, mul_bf16x2(a, b))
APPLY(max_bf16x2, max_bf16x2(a, b))
APPLY(min_bf16x2, min_bf16x2(a, b))
APPLY(fma, bits_of(fma(float_of(a), float_of(b), float_of(c))))

APPLY(f32_from_f16, bits_of(f32_from_f16(u16(a))))
APPLY(f32_from_bf16, bits_of(f32_from_bf16(u16(a))))
APPLY(f16_from_f32, f16_from_f32(float_of(a)))
APPLY(bf16_from_f32, bf16_from_f32(float_of(a)))
APPLY(f16x2_from_f32, f16x2_from_f32(float_of(a), float_of(b)))
APPLY(bf16x2_from_f32, bf16x2_from_f32(float_of(a), float_of(b)))
APPLY(f16x2_from_e4m3x2, f16x2_from_e4m3x2(u16(a)))
APPLY(f16x2_from_e5m2x2, f16x2_from_e5m2x2(u16(a)))
APPLY(f16x2_from_e2m1x2, f16x2_from_e2m1x2(a))
APPLY(e4m3x2_from_f32, e4m3x2_from_f32(float_of(a), float_of(b)))
APPLY(e5m2x2_from_f32, e5m2x2_from_f32(float_of(a), float_of(b)))
APPLY(e2m1x2_from_f32, e2m1x2_from_f32(float_of(a), float_of(b)))
APPLY(f32_from_e8m0, bits_of(f32_from_e8m0(a)))
APPLY(s8_from_f32, u32(s8_from_f32(float_of(a))))
APPLY(s8x4_from_f32, s8x4_from_f32(float_of(a), float_of(b), float_of(c), 0.5f))

// What older targets compute where newer ones convert.
#ifndef __CUDACC__
}  // namespace qcc
#include "minifloats.cuh"
namespace qcc {
APPLY(plain_f16x2_from_e4m3x2, device::f16x2_from_e4m3x2(u16(a)))
APPLY(plain_f16x2_from_e5m2x2, device::f16x2_from_e5m2x2(u16(a)))
APPLY(plain_f16x2_from_e2m1x2, device::f16x2_from_e2m1x2(a))
APPLY(plain_e4m3x2_from_f32, device::e4m3x2_from_f32(float_of(a), float_of(b)))
APPLY(plain_e5m2x2_from_f32, device::e5m2x2_from_f32(float_of(a), float_of(b)))
APPLY(plain_e2m1x2_from_f32, device::e2m1x2_from_f32(float_of(a), float_of(b)))
#endif

// One warp: d += a b, the registers of each lane side by side.
#define MULTIPLY(name, T, registers_d, registers_a)                                           \
  extern "C" __global__ void __launch_bounds__(32)                                            \
      multiply_##name(const u32* as, const u32* bs, T* ds) {                                  \
    const Global<const u32> a_words(as, 32 * registers_a), b_words(bs, 16 * registers_a);     \
    const Global<T> d_words(ds, 32 * registers_d);                                            \
    const int lane = threadIdx.x;                                                             \
    u32 a[registers_a], b[registers_a / 2];                                                   \
    T d[registers_d];                                                                         \
    for (int i = 0; i < registers_a; ++i) a[i] = a_words.load(lane * registers_a + i);        \
    for (int i = 0; i < registers_a / 2; ++i)                                                 \
      b[i] = b_words.load(lane * (registers_a / 2) + i);                                      \
    for (int i = 0; i < registers_d; ++i) d[i] = d_words.load(lane * registers_d + i);        \
    mma_##name(d, a, b);                                                                      \
    for (int i = 0; i < registers_d; ++i) d_words.store(lane * registers_d + i, d[i]);        \
  }                                                                                           \
  QCC_KERNEL(multiply_##name)

MULTIPLY(m16n8k8_f16, float, 4, 2)
MULTIPLY(m16n8k16_f16, float, 4, 4)
MULTIPLY(m16n8k16_f16_f16, u32, 2, 4)
MULTIPLY(m16n8k8_bf16, float, 4, 2)
MULTIPLY(m16n8k16_bf16, float, 4, 4)
MULTIPLY(m16n8k8_tf32, float, 4, 4)
MULTIPLY(m16n8k16_s8, s32, 4, 2)
MULTIPLY(m16n8k32_s8, s32, 4, 4)
MULTIPLY(m16n8k32_u8, s32, 4, 4)
MULTIPLY(m16n8k32_u8s8, s32, 4, 4)
MULTIPLY(m16n8k32_s8u8, s32, 4, 4)
MULTIPLY(m16n8k32_s4, s32, 4, 2)
MULTIPLY(m16n8k64_s4, s32, 4, 4)
MULTIPLY(m16n8k64_u4, s32, 4, 4)
MULTIPLY(m16n8k64_u4s4, s32, 4, 4)
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
MULTIPLY(m16n8k32_e4m3, float, 4, 4)
MULTIPLY(m16n8k32_e5m2, float, 4, 4)
MULTIPLY(m16n8k32_e4m3e5m2, float, 4, 4)
MULTIPLY(m16n8k32_e5m2e4m3, float, 4, 4)
#endif

// The block-scaled ones; scales follow the operands, a word a lane.
#define MULTIPLY_SCALED(name)                                                                 \
  extern "C" __global__ void __launch_bounds__(32)                                            \
      multiply_##name(const u32* as, const u32* bs, const u32* scales, float* ds) {           \
    const Global<const u32> a_words(as, 128), b_words(bs, 64), scale_words(scales, 64);       \
    const Global<float> d_words(ds, 128);                                                     \
    const int lane = threadIdx.x;                                                             \
    u32 a[4], b[2];                                                                           \
    float d[4];                                                                               \
    for (int i = 0; i < 4; ++i) a[i] = a_words.load(lane * 4 + i);                            \
    for (int i = 0; i < 2; ++i) b[i] = b_words.load(lane * 2 + i);                            \
    for (int i = 0; i < 4; ++i) d[i] = d_words.load(lane * 4 + i);                            \
    mma_##name(d, a, b, scale_words.load(lane), scale_words.load(32 + lane));                 \
    for (int i = 0; i < 4; ++i) d_words.store(lane * 4 + i, d[i]);                            \
  }                                                                                           \
  QCC_KERNEL(multiply_##name)

#if !defined(__CUDACC__) || __CUDA_ARCH_SPECIFIC__ == 1200 || __CUDA_ARCH_FAMILY_SPECIFIC__ == 1200
MULTIPLY_SCALED(m16n8k32_mxf8)
MULTIPLY_SCALED(m16n8k64_mxf4)
MULTIPLY_SCALED(m16n8k64_nvf4)
#endif

// Rows of 16 bytes in, fragments out: eight words of each lane, and its words stored back.
extern "C" __global__ void __launch_bounds__(32) move_matrices(const u32* in, u32* fragments) {
  const Global<const u32> rows(in, 128);
  const Global<u32> out(fragments, 256);
  const Shared<u32> tile(0, 128);
  const int lane = threadIdx.x;
  tile.store<16>(4 * lane, rows.load<16>(4 * lane));
  sync_warp();
  u32 straight[4], transposed[4];
  load_matrix<4>(straight, tile.at(4 * lane));
  load_matrix<4, true>(transposed, tile.at(4 * lane));
  for (int i = 0; i < 4; ++i) out.store(8 * lane + i, straight[i]);
  for (int i = 0; i < 4; ++i) out.store(8 * lane + 4 + i, transposed[i]);
}
QCC_KERNEL(move_matrices)

// What a warp exchanges, a row of results for each function.
extern "C" __global__ void __launch_bounds__(32) exchange(const u32* in, u32* results) {
  const Global<const u32> values(in, 32);
  const Global<u32> out(results, 4 * 32);
  const int lane = threadIdx.x;
  const u32 value = values.load(lane);
  out.store(lane, shuffle_xor(value, 5));
  out.store(32 + lane, shuffle_down(value, 3));
  out.store(64 + lane, shuffle_from(value, int(value)));
  out.store(96 + lane, ballot(value & 1));
}
QCC_KERNEL(exchange)

// Blocks add up their numbers and take turns by a flag, as a split sum in a fixed order does.
extern "C" __global__ void __launch_bounds__(64) take_turns(float* sum, u32* flag, int* count) {
  const Global<float> total(sum, 2);
  const Global<u32> turn(flag, 1);
  if (threadIdx.x == 0) {
    while (load_acquire(turn, 0) != blockIdx.x) {
    }
    total.store(0, total.load(0) * 2 + float(blockIdx.x));
    store_release(turn, 0, blockIdx.x + 1);
  }
  sync_threads();
  atomic_add(total, 1, 1.0f);
  atomic_max(Global<int>(count, 1), 0, int(blockIdx.x));
}
QCC_KERNEL(take_turns)

// Pairs of f16 added up in memory.
extern "C" __global__ void __launch_bounds__(32) add_pairs(const u32* in, u32* sum) {
  atomic_add_f16x2(Global<u32>(sum, 1), 0, Global<const u32>(in, 32).load(threadIdx.x));
}
QCC_KERNEL(add_pairs)

}  // namespace qcc
