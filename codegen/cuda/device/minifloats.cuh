// Conversions of small floats in a few instructions, for targets that have none for them. Needs the
// functions of arithmetic.cuh, of either back end: the tests run these on a CPU over all codes.
#pragma once

#include "words.cuh"

namespace qcc::device {

// The nearest code, ties to even, sign on top; what is too large becomes `largest`.
template <int exponent_bits, int mantissa_bits, u32 largest, u32 nan>
QCC_DEVICE u32 minifloat_from_f32(float value) {
  constexpr int bias = (1 << (exponent_bits - 1)) - 1, dropped = 23 - mantissa_bits;
  const u32 bits = bits_of(value), magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return nan;
  u32 code;
  if (magnitude < u32(128 - bias) << 23) {
    // Adding 2^23 last places leaves the rounded number of them in the low bits.
    constexpr u32 places = u32(128 - bias + dropped) << 23;
    code = bits_of(float_of(magnitude) + float_of(places)) - places;
  } else {
    const u32 even = magnitude >> dropped & 1;
    const u32 rounded = (magnitude + (1u << (dropped - 1)) - 1 + even) >> dropped;
    code = rounded - (u32(127 - bias) << mantissa_bits);
  }
  const u32 sign = bits >> 31 << (exponent_bits + mantissa_bits);
  return sign | (code > largest ? largest : code);
}

QCC_DEVICE u16 e4m3x2_from_f32(float low, float high) {
  return u16(minifloat_from_f32<4, 3, 0x7e, 0x7f>(low) |
             minifloat_from_f32<4, 3, 0x7e, 0x7f>(high) << 8);
}
QCC_DEVICE u16 e5m2x2_from_f32(float low, float high) {
  return u16(minifloat_from_f32<5, 2, 0x7b, 0x7f>(low) |
             minifloat_from_f32<5, 2, 0x7b, 0x7f>(high) << 8);
}
// f16 keeps the subnormals of e4m3, so moving the fields and scaling by 2^8 is exact.
QCC_DEVICE u32 f16x2_from_e4m3x2(u16 codes) {
  const u32 spread = permute_bytes(codes, 0, 0x1404);
  const u32 pair = mul_f16x2((spread & 0x80008000) | (spread & 0x7f007f00) >> 1, 0x5c005c00);
  const u32 low = (spread & 0x7f00) == 0x7f00 ? 0x7fff : pair & 0xffff;
  const u32 high = (spread & 0x7f000000) == 0x7f000000 ? 0x7fff0000 : pair & 0xffff0000;
  return low | high;
}
// e5m2 is the upper byte of f16; adding -0 makes every NaN the canonical one.
QCC_DEVICE u32 f16x2_from_e5m2x2(u16 codes) {
  return add_f16x2(permute_bytes(codes, 0, 0x1404), 0x80008000);
}

QCC_DEVICE u32 e2m1x2_from_f32(float low, float high) {
  return minifloat_from_f32<2, 1, 7, 7>(low) | minifloat_from_f32<2, 1, 7, 7>(high) << 4;
}
// Both formats keep subnormals, so moving the fields and scaling by 2^14 is exact.
QCC_DEVICE u32 f16x2_from_e2m1x2(u32 codes) {
  const u32 spread = (codes & 0xf) | (codes & 0xf0) << 12;
  return mul_f16x2((spread & 0x00080008) << 12 | (spread & 0x00070007) << 9, 0x74007400);
}

}  // namespace qcc::device
