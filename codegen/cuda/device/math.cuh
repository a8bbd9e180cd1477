// Functions of fp32 and fp64 for fused kernels, the same text for both back ends: CUDA's own
// implementations on the device, the C library's on a CPU.
//
// Largest errors on the device for fp32, in units of the last place, over all inputs (CUDA C++
// Programming Guide, "Mathematical Functions", without -use_fast_math): exp, expm1, log, log1p,
// log2, cbrt 1; exp2, log10, sin, cos, tanh, atan, asin, acos, erf, rsqrt, cosh 2; sinh, asinh,
// atanh, atan2 3; tan, acosh, pow 4; sqrt, division, floor, ceil, trunc and both roundings are
// exact or correctly rounded. fp64: 2, but acosh, asinh and atanh 3.
#pragma once

#include "words.cuh"

namespace qcc {

namespace math {

#define QCC_FUNCTION(name)                                  \
  QCC_DEVICE float name(float a) { return ::name##f(a); }   \
  QCC_DEVICE double name(double a) { return ::name(a); }
QCC_FUNCTION(exp)
QCC_FUNCTION(exp2)
QCC_FUNCTION(expm1)
QCC_FUNCTION(log)
QCC_FUNCTION(log2)
QCC_FUNCTION(log10)
QCC_FUNCTION(log1p)
QCC_FUNCTION(sin)
QCC_FUNCTION(cos)
QCC_FUNCTION(tan)
QCC_FUNCTION(asin)
QCC_FUNCTION(acos)
QCC_FUNCTION(atan)
QCC_FUNCTION(sinh)
QCC_FUNCTION(cosh)
QCC_FUNCTION(tanh)
QCC_FUNCTION(asinh)
QCC_FUNCTION(acosh)
QCC_FUNCTION(atanh)
QCC_FUNCTION(erf)
QCC_FUNCTION(sqrt)
QCC_FUNCTION(cbrt)
QCC_FUNCTION(floor)
QCC_FUNCTION(ceil)
QCC_FUNCTION(trunc)
QCC_FUNCTION(round)  // half away from zero
QCC_FUNCTION(rint)   // half to even
QCC_FUNCTION(fabs)
#undef QCC_FUNCTION

#define QCC_FUNCTION(name)                                                    \
  QCC_DEVICE float name(float a, float b) { return ::name##f(a, b); }         \
  QCC_DEVICE double name(double a, double b) { return ::name(a, b); }
QCC_FUNCTION(pow)
QCC_FUNCTION(atan2)
QCC_FUNCTION(fmod)
QCC_FUNCTION(copysign)
QCC_FUNCTION(fmax)  // NaN loses
QCC_FUNCTION(fmin)
#undef QCC_FUNCTION

QCC_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
QCC_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }
QCC_DEVICE float rsqrt(float a) { return 1 / ::sqrtf(a); }
QCC_DEVICE double rsqrt(double a) { return 1 / ::sqrt(a); }

// ---- NaN wins

template <typename T>
QCC_DEVICE T maximum_or_nan(T a, T b) {
  return a > b || a != a ? a : b;
}
template <typename T>
QCC_DEVICE T minimum_or_nan(T a, T b) {
  return a < b || a != a ? a : b;
}

// ---- integers; division by zero gives 0, as no fault may end a kernel

template <typename T>
QCC_DEVICE T quotient(T a, T b) {
  return b == 0 ? T(0) : b == T(-1) ? T(0) - a : a / b;
}
template <typename T>
QCC_DEVICE T remainder(T a, T b) {
  return b == 0 || b == T(-1) ? T(0) : a % b;
}
template <typename T>
QCC_DEVICE T floor_quotient(T a, T b) {
  const T whole = quotient(a, b);
  return remainder(a, b) != 0 && (a < 0) != (b < 0) ? whole - 1 : whole;
}
template <typename T>
QCC_DEVICE T ceil_quotient(T a, T b) {
  const T whole = quotient(a, b);
  return remainder(a, b) != 0 && (a < 0) == (b < 0) ? whole + 1 : whole;
}
template <typename T>
QCC_DEVICE T power(T base, T exponent) {
  T result = 1;
  if (exponent < 0) return base == 1 ? T(1) : base == T(-1) ? (exponent & 1 ? T(-1) : T(1)) : T(0);
  for (; exponent; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}
template <typename T>
QCC_DEVICE T power(T base, s64 exponent, int) {  // of a float, by squaring
  T result = 1;
  for (u64 left = exponent < 0 ? -exponent : exponent; left; left >>= 1, base *= base)
    if (left & 1) result *= base;
  return exponent < 0 ? 1 / result : result;
}

// ---- to integers, toward zero; saturating, NaN becomes 0

template <typename T, typename F>
QCC_DEVICE T truncated(F value, F below, T least, T most) {
  return value != value ? T(0) : value >= -below ? most : value < below ? least : T(value);
}
template <typename F>
QCC_DEVICE s32 truncated_s32(F value) {
  return truncated<s32, F>(value, F(-2147483648.0), -2147483647 - 1, 2147483647);
}
template <typename F>
QCC_DEVICE s64 truncated_s64(F value) {
  return truncated<s64, F>(value, F(-9223372036854775808.0), -9223372036854775807LL - 1,
                           9223372036854775807LL);
}

}  // namespace math

// ---- the nearest value of a narrower type, ties to even

QCC_DEVICE float rounded_f16(float value) { return f32_from_f16(f16_from_f32(value)); }
QCC_DEVICE float rounded_bf16(float value) { return f32_from_bf16(bf16_from_f32(value)); }

// ---- elements of what one access moves

template <typename T>
struct Elements;
template <>
struct Elements<u8> {
  QCC_DEVICE static u8 get(u32 word, int index) { return u8(word >> 8 * index); }
  QCC_DEVICE static u32 put(u32 word, int index, u8 value) { return word | u32(value) << 8 * index; }
  static constexpr int per_word = 4;
};
template <>
struct Elements<s8> {
  QCC_DEVICE static s8 get(u32 word, int index) { return s8(word >> 8 * index); }
  QCC_DEVICE static u32 put(u32 word, int index, s8 value) {
    return word | u32(u8(value)) << 8 * index;
  }
  static constexpr int per_word = 4;
};
template <>
struct Elements<u16> {
  QCC_DEVICE static u16 get(u32 word, int index) { return u16(word >> 16 * index); }
  QCC_DEVICE static u32 put(u32 word, int index, u16 value) {
    return word | u32(value) << 16 * index;
  }
  static constexpr int per_word = 2;
};
template <>
struct Elements<u32> {
  QCC_DEVICE static u32 get(u32 word, int) { return word; }
  QCC_DEVICE static u32 put(u32, int, u32 value) { return value; }
  static constexpr int per_word = 1;
};
template <>
struct Elements<s32> {
  QCC_DEVICE static s32 get(u32 word, int) { return s32(word); }
  QCC_DEVICE static u32 put(u32, int, s32 value) { return u32(value); }
  static constexpr int per_word = 1;
};
template <>
struct Elements<float> {
  QCC_DEVICE static float get(u32 word, int) { return float_of(word); }
  QCC_DEVICE static u32 put(u32, int, float value) { return bits_of(value); }
  static constexpr int per_word = 1;
};

// Element `index` of the words of one access; the index is known after unrolling.
template <typename T>
QCC_DEVICE T element(u32 word, int index) {
  return Elements<T>::get(word, index);
}
template <typename T, int n>
QCC_DEVICE T element(const Words<n>& words, int index) {
  return Elements<T>::get(words[index / Elements<T>::per_word], index % Elements<T>::per_word);
}
// Sets an element of words that were zero.
template <typename T, typename Word>
QCC_DEVICE void set_element(Word& word, int index, T value) {
  word = Word(Elements<T>::put(word, index, value));
}
template <typename T, int n>
QCC_DEVICE void set_element(Words<n>& words, int index, T value) {
  u32& word = words[index / Elements<T>::per_word];
  word = Elements<T>::put(word, index % Elements<T>::per_word, value);
}

}  // namespace qcc
