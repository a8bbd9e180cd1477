// Bits, pairs of 16-bit floats and approximations, a value of one thread at a time.
#pragma once

#include "words.cuh"

namespace qcc {

QCC_DEVICE u32 bits_of(float value) { return __float_as_uint(value); }
QCC_DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }

// ---- bits

// Any function of three bits: table = F(0xf0, 0xcc, 0xaa).
template <int table>
QCC_DEVICE u32 lop3(u32 a, u32 b, u32 c) {
  static_assert(0 <= table && table < 256, "a truth table of three bits has 8 entries");
  u32 result;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(table));
  return result;
}
// Nibble i of the selector names byte i of the result among the 8 bytes of low and high; its top
// bit replicates the sign of that byte instead (prmt).
QCC_DEVICE u32 permute_bytes(u32 low, u32 high, u32 selector) {
  u32 result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}
// Bits shift … shift + 31 of high:low, shift at most 31.
QCC_DEVICE u32 funnel_shift_right(u32 low, u32 high, u32 shift) {
  return __funnelshift_r(low, high, shift);
}

// ---- dot products of four bytes: c + sum of a[i] * b[i]

QCC_DEVICE s32 dot_s8(u32 a, u32 b, s32 c) {
  s32 result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}
QCC_DEVICE s32 dot_u8s8(u32 a, u32 b, s32 c) {
  s32 result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

// ---- fp32

QCC_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
QCC_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }  // NaN loses
QCC_DEVICE float minimum(float a, float b) { return fminf(a, b); }
QCC_DEVICE s32 maximum(s32 a, s32 b) { return a > b ? a : b; }
QCC_DEVICE s32 minimum(s32 a, s32 b) { return a < b ? a : b; }
QCC_DEVICE float absolute(float a) { return fabsf(a); }
QCC_DEVICE float square_root(float a) { return __fsqrt_rn(a); }
QCC_DEVICE float round_even(float a) { return rintf(a); }

// Approximations: within 2 ulp (PTX ISA; tanh within 2^-11 relative, sine and cosine 2^-20
// absolute on [-pi, pi]).
#define QCC_APPROXIMATION(name, instruction)                 \
  QCC_DEVICE float name(float a) {                           \
    float result;                                            \
    asm(instruction ".f32 %0, %1;" : "=f"(result) : "f"(a)); \
    return result;                                           \
  }
QCC_APPROXIMATION(exp2_approx, "ex2.approx")
QCC_APPROXIMATION(log2_approx, "lg2.approx")
QCC_APPROXIMATION(rsqrt_approx, "rsqrt.approx")
QCC_APPROXIMATION(reciprocal_approx, "rcp.approx")
QCC_APPROXIMATION(tanh_approx, "tanh.approx")
QCC_APPROXIMATION(sin_approx, "sin.approx")
QCC_APPROXIMATION(cos_approx, "cos.approx")
#undef QCC_APPROXIMATION

// ---- pairs of 16-bit floats, each operation rounded once

#define QCC_PAIR_OPERATION(name, instruction)                        \
  QCC_DEVICE u32 name(u32 a, u32 b) {                                \
    u32 result;                                                      \
    asm(instruction " %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b)); \
    return result;                                                   \
  }
#define QCC_PAIR_FMA(name, instruction)                                          \
  QCC_DEVICE u32 name(u32 a, u32 b, u32 c) {                                     \
    u32 result;                                                                  \
    asm(instruction " %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c)); \
    return result;                                                               \
  }
QCC_PAIR_FMA(fma_f16x2, "fma.rn.f16x2")
QCC_PAIR_OPERATION(add_f16x2, "add.rn.f16x2")
QCC_PAIR_OPERATION(sub_f16x2, "sub.rn.f16x2")
QCC_PAIR_OPERATION(mul_f16x2, "mul.rn.f16x2")
QCC_PAIR_OPERATION(max_f16x2, "max.f16x2")
QCC_PAIR_OPERATION(min_f16x2, "min.f16x2")
QCC_PAIR_FMA(fma_bf16x2, "fma.rn.bf16x2")
QCC_PAIR_OPERATION(max_bf16x2, "max.bf16x2")
QCC_PAIR_OPERATION(min_bf16x2, "min.bf16x2")
#undef QCC_PAIR_FMA
#undef QCC_PAIR_OPERATION

// sm_80 has no sum and no product of bf16, but both are fused multiply-adds.
QCC_DEVICE u32 add_bf16x2(u32 a, u32 b) { return fma_bf16x2(a, 0x3f803f80, b); }
QCC_DEVICE u32 sub_bf16x2(u32 a, u32 b) { return fma_bf16x2(b, 0xbf80bf80, a); }
QCC_DEVICE u32 mul_bf16x2(u32 a, u32 b) { return fma_bf16x2(a, b, 0x80008000); }

}  // namespace qcc
