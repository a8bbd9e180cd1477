// Products in tensor memory: their instructions and descriptors taken apart and checked, and made.
#pragma once

#include "../device/tensor_descriptors.cuh"
#include "mma.h"
#include "tensor_copies.h"
#include "tensor_unit.h"

namespace qcc::emulator {

constexpr u32 tensor_quarters = 4;  // of the lanes; each warp reads one, each holds all scales

inline u8 tensor_scale(const Machine& machine, u32 address, u32 row, u32 byte, int line) {
  u8 scale = 0;
  for (u32 quarter = 0; quarter < tensor_quarters; ++quarter) {
    const u32 lane = quarter * lanes + row % lanes;
    const u32 word = machine.tensor.words[lane * tensor_columns + address + row / lanes];
    if (quarter && scale != u8(word >> 8 * byte))
      report(const_cast<Machine&>(machine), nullptr, Fault::misuse, line,
             "quarters of tensor memory hold different scales of row %u", row);
    scale = word >> 8 * byte;
  }
  return scale;
}

// What a kind of product wants of the instruction's fields, and how its operands decode.
template <Tensor_kind kind>
struct Tensor_traits;
#define QCC_TENSOR_KIND(name, decoder, T, c, operand, format, Scale_type, count)              \
  template <>                                                                                 \
  struct Tensor_traits<Tensor_kind::name> {                                                   \
    using Decoder = decoder;                                                                  \
    using Element = T;                                                                        \
    using Scale = Scale_type;                                                                 \
    static constexpr u32 sums = c, type = operand, scale_type = format, scales = count;       \
  }
QCC_TENSOR_KIND(f16, F16_decoder, float, 1, 0, 0, E8M0_scale, 0);
QCC_TENSOR_KIND(bf16, BF16_decoder, float, 1, 1, 0, E8M0_scale, 0);
QCC_TENSOR_KIND(s8, S8_decoder, u32, 2, 1, 0, E8M0_scale, 0);
QCC_TENSOR_KIND(e4m3, E4M3_decoder, float, 1, 0, 0, E8M0_scale, 0);
QCC_TENSOR_KIND(mxf8, E4M3_decoder, float, 0, 0, 1, E8M0_scale, 1);
QCC_TENSOR_KIND(mxf4, E2M1_decoder, float, 0, 1, 1, E8M0_scale, 2);
QCC_TENSOR_KIND(nvf4, E2M1_decoder, float, 0, 1, 0, E4M3_scale, 4);
#undef QCC_TENSOR_KIND

inline u32 field(u32 word, int first, int bits) { return word >> first & ((1u << bits) - 1); }

// The columns of an instruction whose fields fit its kind.
template <Tensor_kind kind>
inline u32 instruction_columns(u32 word, int line) {
  using Traits = Tensor_traits<kind>;
  const u32 columns = 8 * field(word, 17, 6), first = field(word, 29, 2);
  if (field(word, 24, 5) != 8 || columns < 8 || columns > 256)
    fail(Fault::misuse, line, "a product of %u x %u is not 128 x 8, 16, … 256",
         16 * field(word, 24, 5), columns);
  const bool types = field(word, 7, 3) == Traits::type && field(word, 10, 3) == Traits::type;
  if (!types || field(word, 13, 4) || field(word, 0, 4) || word >> 31)
    fail(Fault::misuse, line, "the instruction %08x is not of this kind of product", word);
  if (!Traits::scales && (field(word, 4, 2) != Traits::sums || field(word, 23, 1) || first))
    fail(Fault::misuse, line, "the instruction %08x makes no sums of this kind", word);
  if (Traits::scales && (field(word, 23, 1) != Traits::scale_type || first != field(word, 4, 2) ||
                         first % Traits::scales))
    fail(Fault::misuse, line, "the instruction %08x takes other scales", word);
  return columns;
}

inline void check_operand(u64 descriptor, u32 rows, bool swizzled_rows, int line) {
  const u32 mode = descriptor >> 61, start = (descriptor & 0x3fff) << 4;
  if ((descriptor >> 46 & 3) != 1 || (descriptor >> 49 & 15) || (descriptor & 0xc000c000))
    fail(Fault::misuse, line, "%llx is no descriptor of an operand of the tensor unit", descriptor);
  if (swizzled_rows != (mode == 2 || mode == 4 || mode == 6))
    fail(Fault::misuse, line, "the descriptor %llx has the swizzle %u", descriptor, mode);
  const u32 atom = mode == 2 ? 1024 : mode == 4 ? 512 : mode == 6 ? 256 : 16;
  if (start % atom >= atom / 8 && swizzled_rows)
    fail(Fault::misaligned, line, "rows swizzled in %u bytes begin at byte %u", atom, start);
  Machine& machine = *current->machine;
  const Moment flying = moment_of(current->number, in_flight);
  for_operand_chunks(descriptor, rows, [&](u32 address) {
    read_by_product(address, line);
    for (u32 byte = address; byte < address + 16 && !machine.tags.empty(); ++byte)
      machine.tags[byte].read = flying;
  });
}

inline void decode_row(const Machine& machine, u64 descriptor, u32 row, u32 (&words)[8]) {
  const u32 stride = (descriptor >> 32 & 0x3fff) << 4, start = (descriptor & 0x3fff) << 4;
  const u32 mode = descriptor >> 61, span = mode == 2 ? 128 : mode == 4 ? 64 : 32;
  for (u32 half = 0; half < 2; ++half) {
    const u32 linear = start + row / 8 * stride + row % 8 * span + 16 * half;
    memcpy(words + 4 * half, &machine.shared[swizzled(linear, span)], 16);
  }
}

// d[128, columns] (+)= a b, each row of K times its scales.
template <Tensor_kind kind>
inline void execute_tensor_product(Machine& machine, const Tensor_work& work) {
  using Traits = Tensor_traits<kind>;
  using Element = typename Traits::Element;
  constexpr u32 e = Traits::Decoder::elements, K = 8 * e;
  machine.tensor.operand.resize(K * tensor_lanes + tensor_lanes);
  Element* a = reinterpret_cast<Element*>(machine.tensor.operand.data());
  Element* sums = a + K * tensor_lanes;
  const u32 first = field(work.instruction, 29, 2);
  Element values[K];
  const auto decode = [&](u64 descriptor, u32 scales, u32 row) {
    u32 words[8];
    decode_row(machine, descriptor, row, words);
    for (u32 word = 0; word < 8; ++word) Traits::Decoder::decode(words[word], values + e * word);
    if constexpr (Traits::scales > 0)
      for (u32 part = 0; part < Traits::scales; ++part) {
        const float scale =
            Traits::Scale::value(tensor_scale(machine, scales, row, first + part, work.line));
        for (u32 k = 0; k < K / Traits::scales; ++k) values[K / Traits::scales * part + k] *= scale;
      }
  };
  for (u32 row = 0; row < tensor_lanes; ++row) {
    decode(work.a, work.a_scales, row);
    for (u32 k = 0; k < K; ++k) a[k * tensor_lanes + row] = values[k];
  }
  for (u32 n = 0; n < work.columns; ++n) {
    u32* d = machine.tensor.words.data() + work.d + n;
    for (u32 row = 0; row < tensor_lanes; ++row) {
      Element before;
      memcpy(&before, d + row * tensor_columns, 4);
      sums[row] = work.add ? before : Element(0);
    }
    decode(work.b, work.b_scales, n);
    for (u32 k = 0; k < K; ++k)
      for (u32 row = 0; row < tensor_lanes; ++row) sums[row] += a[k * tensor_lanes + row] * values[k];
    for (u32 row = 0; row < tensor_lanes; ++row) memcpy(d + row * tensor_columns, sums + row, 4);
  }
}

}  // namespace qcc::emulator
