// The floating-point formats of registers: value of a code, nearest code of a value.
#pragma once

#include <cstring>

#include "../device/words.cuh"

namespace qcc::emulator {

// What the codes with all exponent bits set mean: infinity and NaN, but one NaN, or numbers.
enum class Specials { ieee, nan_only, none };

// The nearest code, ties to even, of a double; overflow saturates or becomes infinity.
template <int exponent_bits, int mantissa_bits, Specials specials, bool saturate>
struct Minifloat {
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr u32 sign = 1u << (exponent_bits + mantissa_bits);
  static constexpr u32 infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  static constexpr u32 nan =
      specials == Specials::nan_only ? sign - 1 : infinity | ((1u << mantissa_bits) - 1);
  static constexpr u32 largest = specials == Specials::ieee       ? infinity - 1
                                 : specials == Specials::nan_only ? sign - 2
                                                                  : sign - 1;

  static double value(u32 code) {
    const u32 magnitude = code & (sign - 1), exponent = magnitude >> mantissa_bits;
    const bool special = (specials == Specials::ieee && magnitude > infinity) ||
                         (specials == Specials::nan_only && magnitude == nan);
    u64 bits;
    if (special) {
      bits = 0x7ff8ull << 48;
    } else if (specials == Specials::ieee && magnitude == infinity) {
      bits = 0x7ffull << 52;
    } else if (exponent) {
      bits = (u64(magnitude) << (52 - mantissa_bits)) + (u64(1023 - bias) << 52);
    } else {
      const double subnormal = double(magnitude) * power(1 - bias - mantissa_bits);
      memcpy(&bits, &subnormal, 8);
    }
    if (code & sign) bits |= 1ull << 63;
    double value;
    memcpy(&value, &bits, 8);
    return value;
  }

  static u32 round(double value) {
    u64 bits;
    memcpy(&bits, &value, 8);
    const u32 negative = bits >> 63 ? sign : 0;
    bits &= ~(1ull << 63);
    if (bits > 0x7ffull << 52) return specials == Specials::none ? largest : nan;
    if (bits == 0x7ffull << 52 && !saturate) return negative | infinity;
    const int exponent = int(bits >> 52) - 1023;
    // Below the normal numbers the last place stays where it is.
    const int dropped = 52 - mantissa_bits + (exponent < 1 - bias ? 1 - bias - exponent : 0);
    u64 code = 0;
    if (dropped <= 53) {
      const u64 significand = (bits & ((1ull << 52) - 1)) | (exponent > -1023 ? 1ull << 52 : 0);
      const u64 half = 1ull << (dropped - 1), kept = significand >> dropped;
      const u64 rest = significand & ((half << 1) - 1);
      code = kept + (rest > half || (rest == half && kept & 1));
      if (exponent >= 1 - bias) code += u64(exponent + bias - 1) << mantissa_bits;
    }
    if (code > largest) code = saturate ? largest : specials == Specials::ieee ? infinity : nan;
    return negative | u32(code);
  }

 private:
  static double power(int exponent) {
    const u64 bits = u64(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, 8);
    return value;
  }
};

using F16 = Minifloat<5, 10, Specials::ieee, false>;
using BF16 = Minifloat<8, 7, Specials::ieee, false>;
using E4M3 = Minifloat<4, 3, Specials::nan_only, true>;
using E5M2 = Minifloat<5, 2, Specials::ieee, true>;
using E3M2 = Minifloat<3, 2, Specials::none, true>;
using E2M3 = Minifloat<2, 3, Specials::none, true>;
using E2M1 = Minifloat<2, 1, Specials::none, true>;

}  // namespace qcc::emulator
