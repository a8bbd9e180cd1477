// Conversions between formats; to fewer bits they round to nearest, ties to even.
#pragma once

#include "arithmetic.cuh"
#include "minifloats.cuh"

namespace qcc {

// ---- 16-bit floats

QCC_DEVICE u16 f16_from_f32(float value) {
  u16 code;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(code) : "f"(value));
  return code;
}
QCC_DEVICE u16 bf16_from_f32(float value) {
  u16 code;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(code) : "f"(value));
  return code;
}
QCC_DEVICE float f32_from_f16(u16 code) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(code));
  return value;
}
QCC_DEVICE float f32_from_bf16(u16 code) { return float_of(u32(code) << 16); }

QCC_DEVICE u32 f16x2_from_f32(float low, float high) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
QCC_DEVICE u32 bf16x2_from_f32(float low, float high) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
QCC_DEVICE float low_f16(u32 pair) { return f32_from_f16(u16(pair)); }
QCC_DEVICE float high_f16(u32 pair) { return f32_from_f16(u16(pair >> 16)); }
QCC_DEVICE float low_bf16(u32 pair) { return float_of(pair << 16); }
QCC_DEVICE float high_bf16(u32 pair) { return float_of(pair & 0xffff0000); }

// ---- integers

QCC_DEVICE s32 s32_from_f32(float value) { return __float2int_rn(value); }  // NaN becomes 0
QCC_DEVICE float f32_from_s32(s32 value) { return __int2float_rn(value); }
QCC_DEVICE s32 s8_from_f32(float value) { return minimum(maximum(s32_from_f32(value), -128), 127); }
// Four saturated bytes, the first one lowest.
QCC_DEVICE u32 s8x4_from_s32(s32 a, s32 b, s32 c, s32 d) {
  u32 high, bytes;
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(high) : "r"(d), "r"(c), "r"(0));
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(b), "r"(a), "r"(high));
  return bytes;
}
QCC_DEVICE u32 s8x4_from_f32(float a, float b, float c, float d) {
  return s8x4_from_s32(s32_from_f32(a), s32_from_f32(b), s32_from_f32(c), s32_from_f32(d));
}

// ---- 8-bit floats; what is too large becomes the largest number

#if __CUDA_ARCH__ >= 890

QCC_DEVICE u16 e4m3x2_from_f32(float low, float high) {
  u16 codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
QCC_DEVICE u16 e5m2x2_from_f32(float low, float high) {
  u16 codes;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
QCC_DEVICE u32 f16x2_from_e4m3x2(u16 codes) {
  u32 pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(codes));
  return pair;
}
QCC_DEVICE u32 f16x2_from_e5m2x2(u16 codes) {
  u32 pair;
  asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(pair) : "h"(codes));
  return pair;
}

#else
using device::e4m3x2_from_f32;
using device::e5m2x2_from_f32;
using device::f16x2_from_e4m3x2;
using device::f16x2_from_e5m2x2;
#endif

// ---- 4-bit floats and scales

#if __CUDA_ARCH_SPECIFIC__ >= 1000 || __CUDA_ARCH_FAMILY_SPECIFIC__ >= 1000

QCC_DEVICE u32 e2m1x2_from_f32(float low, float high) {
  u32 codes;
  asm("{ .reg .b8 byte; cvt.rn.satfinite.e2m1x2.f32 byte, %1, %2; cvt.u32.u8 %0, byte; }"
      : "=r"(codes)
      : "f"(high), "f"(low));
  return codes;
}
QCC_DEVICE u32 f16x2_from_e2m1x2(u32 codes) {
  u32 pair;
  asm("{ .reg .b8 byte; cvt.u8.u32 byte, %1; cvt.rn.f16x2.e2m1x2 %0, byte; }"
      : "=r"(pair)
      : "r"(codes));
  return pair;
}

#else
using device::e2m1x2_from_f32;
using device::f16x2_from_e2m1x2;
#endif

// 2^(code - 127); 255 is NaN.
QCC_DEVICE float f32_from_e8m0(u32 code) {
  return float_of(code == 0 ? 0x00400000 : code == 255 ? 0x7fffffff : code << 23);
}

}  // namespace qcc
