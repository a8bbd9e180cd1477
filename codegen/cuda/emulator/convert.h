// Conversions between formats; to fewer bits they round to nearest, ties to even.
#pragma once

#include "arithmetic.h"

namespace qcc {

namespace emulator {

template <typename Format>
inline u32 rounded(double value) {
  count(Counter::conversions);
  return Format::round(value);
}
template <typename Format>
inline float valued(u32 code) {
  count(Counter::conversions);
  return static_cast<float>(Format::value(code));
}
// Two codes of `bits` bits each from two values, the first one low.
template <typename Format, int bits>
inline u32 rounded_pair(double low, double high) {
  count(Counter::conversions);
  return Format::round(low) | Format::round(high) << bits;
}
template <typename Format, int bits>
inline u32 f16x2_of_pair(u32 codes) {
  constexpr u32 mask = (1u << bits) - 1;
  count(Counter::conversions);
  const u32 high = F16::round(Format::value(codes >> bits & mask));
  return F16::round(Format::value(codes & mask)) | high << 16;
}

}  // namespace emulator

// ---- 16-bit floats

inline u16 f16_from_f32(float value) { return emulator::rounded<emulator::F16>(value); }
inline u16 bf16_from_f32(float value) { return emulator::rounded<emulator::BF16>(value); }
inline float f32_from_f16(u16 code) { return emulator::valued<emulator::F16>(code); }
inline float f32_from_bf16(u16 code) { return float_of(u32(code) << 16); }

inline u32 f16x2_from_f32(float low, float high) {
  return emulator::rounded_pair<emulator::F16, 16>(low, high);
}
inline u32 bf16x2_from_f32(float low, float high) {
  return emulator::rounded_pair<emulator::BF16, 16>(low, high);
}
inline float low_f16(u32 pair) { return f32_from_f16(u16(pair)); }
inline float high_f16(u32 pair) { return f32_from_f16(u16(pair >> 16)); }
inline float low_bf16(u32 pair) { return float_of(pair << 16); }
inline float high_bf16(u32 pair) { return float_of(pair & 0xffff0000); }

// ---- integers

inline s32 s32_from_f32(float value) {  // saturating; NaN becomes 0
  emulator::count(emulator::Counter::conversions);
  if (value != value) return 0;
  if (value >= 2147483648.0f) return 2147483647;
  if (value < -2147483648.0f) return -2147483647 - 1;
  return s32(__builtin_rintf(value));
}
inline float f32_from_s32(s32 value) { return float(value); }
inline s32 s8_from_f32(float value) { return minimum(maximum(s32_from_f32(value), -128), 127); }
// Four saturated bytes, the first one lowest.
inline u32 s8x4_from_s32(s32 a, s32 b, s32 c, s32 d) {
  const s32 values[4] = {a, b, c, d};
  u32 bytes = 0;
  emulator::count(emulator::Counter::conversions);
  for (int index = 0; index < 4; ++index)
    bytes |= u32(u8(minimum(maximum(values[index], -128), 127))) << 8 * index;
  return bytes;
}
inline u32 s8x4_from_f32(float a, float b, float c, float d) {
  return s8x4_from_s32(s32_from_f32(a), s32_from_f32(b), s32_from_f32(c), s32_from_f32(d));
}

// ---- 8-bit floats; what is too large becomes the largest number

inline u16 e4m3x2_from_f32(float low, float high) {
  return emulator::rounded_pair<emulator::E4M3, 8>(low, high);
}
inline u16 e5m2x2_from_f32(float low, float high) {
  return emulator::rounded_pair<emulator::E5M2, 8>(low, high);
}
inline u32 f16x2_from_e4m3x2(u16 codes) {
  return emulator::f16x2_of_pair<emulator::E4M3, 8>(codes);
}
inline u32 f16x2_from_e5m2x2(u16 codes) {
  return emulator::f16x2_of_pair<emulator::E5M2, 8>(codes);
}

// ---- 4-bit floats and scales

inline u32 e2m1x2_from_f32(float low, float high) {
  return emulator::rounded_pair<emulator::E2M1, 4>(low, high);
}
inline u32 f16x2_from_e2m1x2(u32 codes) {
  return emulator::f16x2_of_pair<emulator::E2M1, 4>(codes);
}
// 2^(code - 127); 255 is NaN.
inline float f32_from_e8m0(u32 code) {
  return float_of(code == 0 ? 0x00400000 : code == 255 ? 0x7fffffff : code << 23);
}

}  // namespace qcc
