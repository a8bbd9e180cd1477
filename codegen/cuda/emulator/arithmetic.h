// Bits, pairs of 16-bit floats and approximations, a value of one thread at a time.
#pragma once

#include <cmath>

#include "formats.h"
#include "machine.h"

namespace qcc {

inline u32 bits_of(float value) {
  u32 bits;
  memcpy(&bits, &value, 4);
  return bits;
}
inline float float_of(u32 bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// ---- bits

// Any function of three bits: table = F(0xf0, 0xcc, 0xaa).
template <int table>
inline u32 lop3(u32 a, u32 b, u32 c) {
  static_assert(0 <= table && table < 256, "a truth table of three bits has 8 entries");
  emulator::count(emulator::Counter::bit_operations);
  return (table & 0x80 ? a & b & c : 0) | (table & 0x40 ? a & b & ~c : 0) |
         (table & 0x20 ? a & ~b & c : 0) | (table & 0x10 ? a & ~b & ~c : 0) |
         (table & 0x08 ? ~a & b & c : 0) | (table & 0x04 ? ~a & b & ~c : 0) |
         (table & 0x02 ? ~a & ~b & c : 0) | (table & 0x01 ? ~a & ~b & ~c : 0);
}

// Nibble i of the selector names byte i of the result among the 8 bytes of low and high; its top
// bit replicates the sign of that byte instead (prmt).
inline u32 permute_bytes(u32 low, u32 high, u32 selector) {
  emulator::count(emulator::Counter::bit_operations);
  const u64 bytes = low | u64(high) << 32;
  u32 result = 0;
  for (int index = 0; index < 4; ++index) {
    const u32 nibble = selector >> 4 * index & 15;
    const u32 byte = bytes >> 8 * (nibble & 7) & 255;
    const u32 chosen = nibble & 8 ? (byte & 128 ? 255 : 0) : byte;
    result |= chosen << 8 * index;
  }
  return result;
}

// Bits shift … shift + 31 of high:low, shift at most 31.
inline u32 funnel_shift_right(u32 low, u32 high, u32 shift) {
  emulator::count(emulator::Counter::bit_operations);
  return (u64(high) << 32 | low) >> (shift & 31);
}

// ---- dot products of four bytes: c + sum of a[i] * b[i]

namespace emulator {
template <typename A, typename B>
inline s32 dot(u32 a, u32 b, s32 c) {
  count(Counter::dot_products);
  u32 sum = c;
  for (int index = 0; index < 4; ++index)
    sum += u32(s32(A(a >> 8 * index)) * s32(B(b >> 8 * index)));
  return s32(sum);
}
}  // namespace emulator

inline s32 dot_s8(u32 a, u32 b, s32 c) { return emulator::dot<s8, s8>(a, b, c); }
inline s32 dot_u8s8(u32 a, u32 b, s32 c) { return emulator::dot<u8, s8>(a, b, c); }

// ---- fp32

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float maximum(float a, float b) { return __builtin_fmaxf(a, b); }  // NaN loses
inline float minimum(float a, float b) { return __builtin_fminf(a, b); }
inline s32 maximum(s32 a, s32 b) { return a > b ? a : b; }
inline s32 minimum(s32 a, s32 b) { return a < b ? a : b; }
inline float absolute(float a) { return __builtin_fabsf(a); }
inline float square_root(float a) { return __builtin_sqrtf(a); }
inline float round_even(float a) { return __builtin_rintf(a); }

// Approximations: exact here, within 2 ulp on the device (PTX ISA; tanh within 2^-11 relative).
namespace emulator {
inline float special(float value) {
  count(Counter::special_functions);
  return value;
}
}  // namespace emulator
inline float exp2_approx(float a) { return emulator::special(::exp2f(a)); }
inline float log2_approx(float a) { return emulator::special(::log2f(a)); }
inline float rsqrt_approx(float a) { return emulator::special(1 / ::sqrtf(a)); }
inline float reciprocal_approx(float a) { return emulator::special(1 / a); }
inline float tanh_approx(float a) { return emulator::special(::tanhf(a)); }
inline float sin_approx(float a) { return emulator::special(::sinf(a)); }
inline float cos_approx(float a) { return emulator::special(::cosf(a)); }

// ---- pairs of 16-bit floats, each operation rounded once

namespace emulator {
template <typename Format, typename Operation>
inline u32 on_pairs(u32 a, u32 b, u32 c, Operation operation) {
  count(Counter::half_arithmetic);
  const u32 low = Format::round(
      operation(Format::value(a & 0xffff), Format::value(b & 0xffff), Format::value(c & 0xffff)));
  const u32 high = Format::round(
      operation(Format::value(a >> 16), Format::value(b >> 16), Format::value(c >> 16)));
  return low | high << 16;
}

// A sum of doubles rounded to odd: rounding it once more, to far fewer bits, is correct.
inline double add_to_odd(double a, double b) {
  const double sum = a + b, part = sum - a, error = (a - (sum - part)) + (b - part);
  u64 bits;
  memcpy(&bits, &sum, 8);
  if (error != 0 && !(bits & 1) && std::isfinite(sum)) {
    bits += (error > 0) == (sum > 0) ? 1 : -1;
    double odd;
    memcpy(&odd, &bits, 8);
    return odd;
  }
  return sum;
}

template <typename Format>
inline u32 fma_pair(u32 a, u32 b, u32 c) {
  return on_pairs<Format>(a, b, c,
                          [](double x, double y, double z) { return add_to_odd(x * y, z); });
}
template <typename Format>
inline u32 add_pair(u32 a, u32 b) {
  return on_pairs<Format>(a, b, 0, [](double x, double y, double) { return add_to_odd(x, y); });
}
template <typename Format>
inline u32 multiply_pair(u32 a, u32 b) {
  return on_pairs<Format>(a, b, 0, [](double x, double y, double) { return x * y; });
}
template <typename Format>
inline u32 maximum_pair(u32 a, u32 b) {
  return on_pairs<Format>(a, b, 0, [](double x, double y, double) { return ::fmax(x, y); });
}
template <typename Format>
inline u32 minimum_pair(u32 a, u32 b) {
  return on_pairs<Format>(a, b, 0, [](double x, double y, double) { return ::fmin(x, y); });
}
constexpr u32 pair_signs = 0x80008000;
}  // namespace emulator

inline u32 fma_f16x2(u32 a, u32 b, u32 c) { return emulator::fma_pair<emulator::F16>(a, b, c); }
inline u32 add_f16x2(u32 a, u32 b) { return emulator::add_pair<emulator::F16>(a, b); }
inline u32 sub_f16x2(u32 a, u32 b) { return add_f16x2(a, b ^ emulator::pair_signs); }
inline u32 mul_f16x2(u32 a, u32 b) { return emulator::multiply_pair<emulator::F16>(a, b); }
inline u32 max_f16x2(u32 a, u32 b) { return emulator::maximum_pair<emulator::F16>(a, b); }
inline u32 min_f16x2(u32 a, u32 b) { return emulator::minimum_pair<emulator::F16>(a, b); }

inline u32 fma_bf16x2(u32 a, u32 b, u32 c) { return emulator::fma_pair<emulator::BF16>(a, b, c); }
inline u32 add_bf16x2(u32 a, u32 b) { return emulator::add_pair<emulator::BF16>(a, b); }
inline u32 sub_bf16x2(u32 a, u32 b) { return add_bf16x2(a, b ^ emulator::pair_signs); }
inline u32 mul_bf16x2(u32 a, u32 b) { return emulator::multiply_pair<emulator::BF16>(a, b); }
inline u32 max_bf16x2(u32 a, u32 b) { return emulator::maximum_pair<emulator::BF16>(a, b); }
inline u32 min_bf16x2(u32 a, u32 b) { return emulator::minimum_pair<emulator::BF16>(a, b); }

}  // namespace qcc
