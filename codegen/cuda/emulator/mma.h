// mma.sync: the fragments of a warp become matrices, are multiplied and return.
//
// The layouts of all types are one closed form in e, the elements of a 32-bit register; with
// g = lane >> 2 and t = lane & 3, element v of a lane is
//   A (16 x 8e)  row g + 8 (v/e & 1), column e t + v%e + 4e (v / 2e)
//   B (8e x 8)   row e t + v%e + 4e (v / e), column g
//   C (16 x 8)   row g + 8 (v >> 1), column 2t + (v & 1)
#pragma once

#include "collective.h"
#include "decoders.h"

namespace qcc {

namespace emulator {

typedef float Row __attribute__((vector_size(32)));  // the 8 columns of C
typedef u32 Integer_row __attribute__((vector_size(32)));

// ---- fragments

template <int registers_a, int registers_b, int registers_d>
struct Fragments {
  const u32* a;
  const u32* b;
  void* d;
  u32 scale_a, scale_b;
};

template <typename Element, int K>
struct Matrices {
  Element a[16][K];
  alignas(32) Element b[K][8];
};

template <typename A, typename B, int registers_a, typename Operands, typename Element, int K>
inline void spread(Operands* const* warp, Matrices<Element, K>& matrices) {
  constexpr int e = A::elements;
  static_assert(e == B::elements, "both operands have as many elements in a register");
  for (int lane = 0; lane < lanes; ++lane) {
    const int group = lane >> 2, first = e * (lane & 3);
    for (int index = 0; index < registers_a; ++index)
      A::decode(warp[lane]->a[index],
                &matrices.a[group + 8 * (index & 1)][first + 4 * e * (index >> 1)]);
    for (int index = 0; index < registers_a / 2; ++index) {
      Element column[e];
      B::decode(warp[lane]->b[index], column);
      for (int k = 0; k < e; ++k) matrices.b[first + 4 * e * index + k][group] = column[k];
    }
  }
}

// ---- products: D = A B + D

// The sum as hardware may do it: addends cut to `bits` bits below the largest, then fp32.
inline float truncated_sum(const float* a, const float* b, int stride, int K, float start,
                           int bits) {
  double largest = std::fabs(double(start)), sum = 0;
  for (int k = 0; k < K; ++k) largest = std::fmax(largest, std::fabs(double(a[k]) * b[k * stride]));
  if (!(largest > 0) || !std::isfinite(largest)) {
    sum = start;
    for (int k = 0; k < K; ++k) sum += double(a[k]) * b[k * stride];
    return float(sum);
  }
  const int unit = std::ilogb(largest) - bits;
  for (int k = -1; k < K; ++k) {
    const double addend = k < 0 ? start : double(a[k]) * b[k * stride];
    sum += std::ldexp(std::trunc(std::ldexp(addend, -unit)), unit);
  }
  float result = float(sum);
  if (std::fabs(double(result)) > std::fabs(sum)) result = std::nextafterf(result, 0.0f);
  return result;
}

template <int K>
inline void multiply(const Matrices<float, K>& matrices, Row (&d)[16]) {
  const int bits = current->machine->launch->accumulator_bits;
  if (bits) {
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column)
        d[row][column] =
            truncated_sum(matrices.a[row], &matrices.b[0][column], 8, K, d[row][column], bits);
    return;
  }
  for (int k = 0; k < K; ++k) {
    Row b;
    memcpy(&b, matrices.b[k], sizeof b);
    for (int row = 0; row < 16; ++row) d[row] += matrices.a[row][k] * b;
  }
}

template <int K>
inline void multiply(const Matrices<u32, K>& matrices, Integer_row (&d)[16]) {
  for (int k = 0; k < K; ++k) {
    Integer_row b;
    memcpy(&b, matrices.b[k], sizeof b);
    for (int row = 0; row < 16; ++row) d[row] += matrices.a[row][k] * b;
  }
}

// ---- whole instructions

template <typename Element>
struct Accumulator {  // fp32 or s32, four registers
  template <typename Operands, typename Rows>
  static void load(Operands* const* warp, Rows& rows) {
    for (int lane = 0; lane < lanes; ++lane)
      for (int v = 0; v < 4; ++v)
        rows[(lane >> 2) + 8 * (v >> 1)][2 * (lane & 3) + (v & 1)] =
            static_cast<const Element*>(warp[lane]->d)[v];
  }
  template <typename Operands, typename Rows>
  static void store(Operands* const* warp, const Rows& rows) {
    for (int lane = 0; lane < lanes; ++lane)
      for (int v = 0; v < 4; ++v)
        static_cast<Element*>(warp[lane]->d)[v] =
            rows[(lane >> 2) + 8 * (v >> 1)][2 * (lane & 3) + (v & 1)];
  }
};

struct F16_accumulator {  // pairs of f16, two registers; rounded once an instruction
  template <typename Operands>
  static void load(Operands* const* warp, Row (&rows)[16]) {
    for (int lane = 0; lane < lanes; ++lane)
      for (int index = 0; index < 2; ++index) {
        float pair[2];
        F16_decoder::decode(static_cast<const u32*>(warp[lane]->d)[index], pair);
        rows[(lane >> 2) + 8 * index][2 * (lane & 3)] = pair[0];
        rows[(lane >> 2) + 8 * index][2 * (lane & 3) + 1] = pair[1];
      }
  }
  template <typename Operands>
  static void store(Operands* const* warp, const Row (&rows)[16]) {
    for (int lane = 0; lane < lanes; ++lane)
      for (int index = 0; index < 2; ++index) {
        const Row& row = rows[(lane >> 2) + 8 * index];
        const int column = 2 * (lane & 3);
        static_cast<u32*>(warp[lane]->d)[index] =
            F16::round(row[column]) | F16::round(row[column + 1]) << 16;
      }
  }
};

template <typename Element>
struct Rows_of {
  using type = Row;
};
template <>
struct Rows_of<u32> {
  using type = Integer_row;
};

template <typename A, typename B, typename D, int registers_a, int registers_d, typename T>
inline void mma(const char* instruction, Counter counter, T (&d)[registers_d],
                const u32 (&a)[registers_a], const u32 (&b)[registers_a / 2], int line) {
  using Operands = Fragments<registers_a, registers_a / 2, registers_d>;
  using Element = typename A::Element;
  constexpr int K = 2 * registers_a * A::elements;
  Operands mine{a, b, d, 0, 0};
  count_warp(counter);
  count_warp(Counter::multiply_adds, 16 * 8 * K);
  collective(instruction, line, mine, [](Operands* const* warp) {
    Matrices<Element, K> matrices;
    typename Rows_of<Element>::type rows[16];
    spread<A, B, registers_a>(warp, matrices);
    D::load(warp, rows);
    multiply(matrices, rows);
    D::store(warp, rows);
  });
}

// Block-scaled: every `blocks`-th part of K has a scale, one byte of the register of a row of A
// (lane 4 (row & 7) + (row >> 3)) and of a column of B (lane 4 column); selectors are 0.
template <typename A, typename B, typename Scale, int blocks>
inline void mma_scaled(const char* instruction, float (&d)[4], const u32 (&a)[4], const u32 (&b)[2],
                       u32 scale_a, u32 scale_b, int line) {
  using Operands = Fragments<4, 2, 4>;
  constexpr int K = 8 * A::elements;
  Operands mine{a, b, d, scale_a, scale_b};
  count_warp(Counter::mma_minifloat);
  count_warp(Counter::multiply_adds, 16 * 8 * K);
  collective(instruction, line, mine, [](Operands* const* warp) {
    Matrices<float, K> matrices;
    Row rows[16];
    spread<A, B, 4>(warp, matrices);
    for (int k = 0; k < K; ++k) {
      const int byte = 8 * (k * blocks / K);
      for (int row = 0; row < 16; ++row)
        matrices.a[row][k] *= Scale::value(warp[4 * (row & 7) + (row >> 3)]->scale_a >> byte & 255);
      for (int column = 0; column < 8; ++column)
        matrices.b[k][column] *= Scale::value(warp[4 * column]->scale_b >> byte & 255);
    }
    Accumulator<float>::load(warp, rows);
    multiply(matrices, rows);
    Accumulator<float>::store(warp, rows);
  });
}

struct E8M0_scale {
  static float value(u32 code) {
    return float_of(code == 0 ? 0x00400000 : code == 255 ? 0x7fffffff : code << 23);
  }
};
struct E4M3_scale {  // unsigned: the sign bit is ignored
  static float value(u32 code) { return float(E4M3::value(code & 127)); }
};

}  // namespace emulator

// d += a b, for the operand types in the name.
#define QCC_MMA(name, counter, A, B, D, T, registers_d, registers_a)                               \
  inline void name(T(&d)[registers_d], const u32(&a)[registers_a], const u32(&b)[registers_a / 2], \
                   int line = __builtin_LINE()) {                                                  \
    emulator::mma<emulator::A, emulator::B, emulator::D>(#name, emulator::Counter::counter, d, a,  \
                                                         b, line);                                 \
  }
QCC_MMA(mma_m16n8k8_f16, mma_half, F16_decoder, F16_decoder, Accumulator<float>, float, 4, 2)
QCC_MMA(mma_m16n8k16_f16, mma_half, F16_decoder, F16_decoder, Accumulator<float>, float, 4, 4)
QCC_MMA(mma_m16n8k16_f16_f16, mma_half, F16_decoder, F16_decoder, F16_accumulator, u32, 2, 4)
QCC_MMA(mma_m16n8k8_bf16, mma_half, BF16_decoder, BF16_decoder, Accumulator<float>, float, 4, 2)
QCC_MMA(mma_m16n8k16_bf16, mma_half, BF16_decoder, BF16_decoder, Accumulator<float>, float, 4, 4)
QCC_MMA(mma_m16n8k8_tf32, mma_half, TF32_decoder, TF32_decoder, Accumulator<float>, float, 4, 4)
#define QCC_MMA_INTEGER(name, A, B, registers_a) \
  QCC_MMA(name, mma_integer, A, B, Accumulator<s32>, s32, 4, registers_a)
QCC_MMA_INTEGER(mma_m16n8k16_s8, S8_decoder, S8_decoder, 2)
QCC_MMA_INTEGER(mma_m16n8k32_s8, S8_decoder, S8_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k32_u8, U8_decoder, U8_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k32_u8s8, U8_decoder, S8_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k32_s8u8, S8_decoder, U8_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k32_s4, S4_decoder, S4_decoder, 2)
QCC_MMA_INTEGER(mma_m16n8k64_s4, S4_decoder, S4_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k64_u4, U4_decoder, U4_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k64_u4s4, U4_decoder, S4_decoder, 4)
QCC_MMA_INTEGER(mma_m16n8k64_s4u4, S4_decoder, U4_decoder, 4)
#define QCC_MMA_MINIFLOAT(name, A, B) \
  QCC_MMA(name, mma_minifloat, A, B, Accumulator<float>, float, 4, 4)
QCC_MMA_MINIFLOAT(mma_m16n8k32_e4m3, E4M3_decoder, E4M3_decoder)
QCC_MMA_MINIFLOAT(mma_m16n8k32_e5m2, E5M2_decoder, E5M2_decoder)
QCC_MMA_MINIFLOAT(mma_m16n8k32_e4m3e5m2, E4M3_decoder, E5M2_decoder)
QCC_MMA_MINIFLOAT(mma_m16n8k32_e5m2e4m3, E5M2_decoder, E4M3_decoder)
#undef QCC_MMA_MINIFLOAT
#undef QCC_MMA_INTEGER
#undef QCC_MMA

// Block-scaled forms of sm_120a: a scale for 32 elements of K (e8m0) or for 16 (e4m3).
#define QCC_MMA_SCALED(name, A, B, Scale, blocks)                                               \
  inline void name(float (&d)[4], const u32(&a)[4], const u32(&b)[2], u32 scale_a, u32 scale_b, \
                   int line = __builtin_LINE()) {                                               \
    emulator::mma_scaled<emulator::A, emulator::B, emulator::Scale, blocks>(                    \
        #name, d, a, b, scale_a, scale_b, line);                                                \
  }
QCC_MMA_SCALED(mma_m16n8k32_mxf8, E4M3_decoder, E4M3_decoder, E8M0_scale, 1)
QCC_MMA_SCALED(mma_m16n8k64_mxf4, E2M1_decoder, E2M1_decoder, E8M0_scale, 2)
QCC_MMA_SCALED(mma_m16n8k64_nvf4, E2M1_decoder, E2M1_decoder, E4M3_scale, 4)
#undef QCC_MMA_SCALED

}  // namespace qcc
