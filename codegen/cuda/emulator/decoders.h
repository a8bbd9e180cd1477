// Registers of a fragment decoded: e values, as floats, or as integers modulo 2^32.
#pragma once

#include "arithmetic.h"

namespace qcc::emulator {

template <typename Format, int code_bits, int shift = 0>
struct Table_decoder {
  static constexpr int elements = 32 / (code_bits < 8 && shift == 0 ? code_bits : 8);
  static constexpr int stride = 32 / elements;
  using Element = float;

  static const float* values() {
    struct Values {
      float value[1 << code_bits];
      Values() {
        for (u32 code = 0; code < 1u << code_bits; ++code) value[code] = float(Format::value(code));
      }
    };
    static const Values table;
    return table.value;
  }
  static void decode(u32 word, float* out) {
    const float* table = values();
    for (int index = 0; index < elements; ++index)
      out[index] = table[word >> (stride * index + shift) & ((1 << code_bits) - 1)];
  }
};

struct F16_decoder {
  static constexpr int elements = 2;
  using Element = float;
  static void decode(u32 word, float* out) {
#ifdef __F16C__
    _Float16 halves[2];
    memcpy(halves, &word, 4);
    out[0] = halves[0], out[1] = halves[1];
#else
    out[0] = float(F16::value(word & 0xffff)), out[1] = float(F16::value(word >> 16));
#endif
  }
};

struct BF16_decoder {
  static constexpr int elements = 2;
  using Element = float;
  static void decode(u32 word, float* out) {
    out[0] = float_of(word << 16), out[1] = float_of(word & 0xffff0000);
  }
};

// The device reads 19 bits of a register.
struct TF32_decoder {
  static constexpr int elements = 1;
  using Element = float;
  static void decode(u32 word, float* out) { out[0] = float_of(word & 0xffffe000); }
};

template <int bits, bool is_signed>
struct Integer_decoder {
  static constexpr int elements = 32 / bits;
  using Element = u32;
  static void decode(u32 word, u32* out) {
    for (int index = 0; index < elements; ++index) {
      const u32 top = word << (32 - bits * (index + 1));
      out[index] = is_signed ? u32(s32(top) >> (32 - bits)) : top >> (32 - bits);
    }
  }
};

using E4M3_decoder = Table_decoder<E4M3, 8>;
using E5M2_decoder = Table_decoder<E5M2, 8>;
using E2M1_decoder = Table_decoder<E2M1, 4>;
using S8_decoder = Integer_decoder<8, true>;
using U8_decoder = Integer_decoder<8, false>;
using S4_decoder = Integer_decoder<4, true>;
using U4_decoder = Integer_decoder<4, false>;

}  // namespace qcc::emulator
