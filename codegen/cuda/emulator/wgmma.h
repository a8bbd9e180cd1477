// sm_90a: products of warp groups, which run on while the threads do other things.
#pragma once

#include "decoders.h"
#include "tensor_copies.h"

namespace qcc {

// ---- registers of a warp group

template <int registers>
inline void increase_registers(int line = __builtin_LINE()) {
  static_assert(registers % 8 == 0 && 24 <= registers && registers <= 256, "setmaxnreg");
  emulator::gather("increase_registers", line, nullptr);
}
template <int registers>
inline void decrease_registers(int line = __builtin_LINE()) {
  static_assert(registers % 8 == 0 && 24 <= registers && registers <= 256, "setmaxnreg");
  emulator::gather("decrease_registers", line, nullptr);
}

// ---- products of a warp group: 64 rows, 16 of each warp

// An operand in shared memory, rows of K: 128 bytes of a row lie together (64 or 32 with smaller
// swizzles), `stride` bytes from 8 rows to the next 8. K advances by adding to the view.
template <int swizzle, typename T>
inline u64 wgmma_operand(Shared<T> view, u32 stride = 8 * swizzle, int line = __builtin_LINE()) {
  static_assert(swizzle == 32 || swizzle == 64 || swizzle == 128, "rows of 32, 64 or 128 bytes");
  const u64 offset = view.checked("reads", 0, 16, false, line);
  const u64 mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : 3;
  return (offset & 0x3ffff) >> 4 | u64(1) << 16 | u64(stride >> 4) << 32 | mode << 62;
}

// The other way round: K goes from row to row of boxes, `leading` bytes from one box of 64 columns
// to the next.
template <typename T>
inline u64 wgmma_columns(Shared<T> view, u32 leading, int line = __builtin_LINE()) {
  const u64 offset = view.checked("reads", 0, 16, false, line);
  return (offset & 0x3ffff) >> 4 | u64(leading >> 4) << 16 | u64(1024 >> 4) << 32 | u64(1) << 62;
}

namespace emulator {

// Bytes k … k + 15 of row `row`; every byte is read in the async proxy.
inline const u8* operand_bytes(u64 descriptor, int row, int k, int line) {
  const u32 start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
  const u32 mode = descriptor >> 62, span = mode == 1 ? 128 : mode == 2 ? 64 : 32;
  const u32 address = swizzled(start + row / 8 * stride + row % 8 * span + k, span);
  read_by_product(address, line);
  return &current->machine->shared[address];
}

// One column of the 16 rows of a warp.
typedef float Column __attribute__((vector_size(64)));
typedef u32 Integer_column __attribute__((vector_size(64)));
template <typename Element>
struct Column_of {
  using type = Column;
};
template <>
struct Column_of<u32> {
  using type = Integer_column;
};

inline void operand_row(u32 (&words)[8], u64 descriptor, int row, int line) {
  for (int half = 0; half < 2; ++half)
    memcpy(words + 4 * half, operand_bytes(descriptor, row, 16 * half, line), 16);
}

template <typename A, int K, typename T>
inline void spread_a(const Product& product, bool in_registers, T (&columns)[K]) {
  constexpr int e = A::elements;
  typename A::Element values[e];
  for (int row = 0; row < 16; ++row) {
    u32 words[8];
    if (!in_registers)
      operand_row(words, product.a, 16 * (current->warp->number % 4) + row, product.line);
    for (int word = 0; word < 8; ++word) {
      const int lane = 4 * (row & 7) + word % 4, index = (row >> 3) + word / 4 * 2;
      A::decode(in_registers ? product.registers_a[lane][index] : words[word], values);
      for (int k = 0; k < e; ++k) columns[e * word + k][row] = values[k];
    }
  }
}

// A column of K: element n of K rows, 8 of them and 64 columns one behind the other.
template <typename B, int K, typename T>
inline void turned_row(T (&values)[K], u64 descriptor, int n, int line) {
  static_assert(B::elements == 2, "only operands of 16 bits are turned");
  const u32 start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4;
  const u32 stride = (descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1) fail(Fault::misuse, line, "columns of K are swizzled in 128 bytes");
  for (int k = 0; k < K; ++k) {
    const u32 chunk = start + n / 64 * leading + k / 8 * stride + k % 8 * 128 + n % 64 / 8 * 16;
    const u32 address = swizzled(chunk, 128);
    read_by_product(address, line);
    u16 half;
    memcpy(&half, &current->machine->shared[address + n % 8 * 2], 2);
    T pair[2];
    B::decode(half, pair);
    values[k] = pair[0];
  }
}

template <typename A, typename B, typename Element, int N, bool a_in_registers>
inline void execute_product(Product& product) {
  using Sums = typename Column_of<typename A::Element>::type;
  constexpr int e = A::elements, K = 8 * e;
  Sums columns[K];
  spread_a<A>(product, a_in_registers, columns);
  for (int n = 0; n < N; ++n) {
    u32 words[8];
    typename B::Element values[K];
    if constexpr (e == 2) {
      if (product.columns) turned_row<B>(values, product.b, n, product.line);
    }
    if (!product.columns) {
      operand_row(words, product.b, n, product.line);
      for (int word = 0; word < 8; ++word) B::decode(words[word], values + e * word);
    }
    Element* d[16];
    Sums sums;
    for (int row = 0; row < 16; ++row) {
      d[row] = static_cast<Element*>(product.d[4 * (row & 7) + n % 8 / 2]) + n / 8 * 4 +
               2 * (row >> 3) + n % 2;
      sums[row] = product.add ? *d[row] : Element(0);
    }
    for (int k = 0; k < K; ++k) sums += columns[k] * values[k];
    for (int row = 0; row < 16; ++row) *d[row] = sums[row];
  }
}

struct Product_operands {
  const u32* a;
  u64 descriptor_a, descriptor_b;
  void* d;
  bool add, columns;
};

template <typename A, typename B, typename Element, int N, bool a_in_registers>
inline void wgmma(const char* instruction, Product_operands mine, int line) {
  const u32 group = current->warp->number / 4;
  if (4 * int(group) + 4 > current->machine->warp_count)
    fail(Fault::misuse, line, "warps %u … are no whole group of four", 4 * group);
  count_warp(Counter::mma_warpgroup);
  count_warp(Counter::multiply_adds, 16 * N * 8 * A::elements);
  collective(instruction, line, mine, [line](Product_operands* const* warp) {
    Warp& here = *current->warp;
    Product product{};
    product.group = here.product_groups;
    product.line = line;
    product.execute = execute_product<A, B, Element, N, a_in_registers>;
    product.a = warp[0]->descriptor_a;
    product.b = warp[0]->descriptor_b;
    product.add = warp[0]->add;
    product.columns = warp[0]->columns;
    for (int lane = 0; lane < lanes; ++lane) {
      if (warp[lane]->descriptor_a != product.a || warp[lane]->descriptor_b != product.b ||
          warp[lane]->add != product.add)
        fail(Fault::divergence, line, "lanes 0 and %d name different operands", lane);
      if (a_in_registers) memcpy(product.registers_a[lane], warp[lane]->a, 16);
      product.d[lane] = warp[lane]->d;
    }
    if (current->machine->launch->eager)
      product.execute(product);
    else
      here.products.push_back(product);
  });
}

}  // namespace emulator

// Before the first product, and after registers of one were changed by other instructions.
inline void wgmma_fence(int line = __builtin_LINE()) {
  emulator::gather("wgmma_fence", line, nullptr);
}
inline void wgmma_commit(int line = __builtin_LINE()) {
  if (emulator::gather("wgmma_commit", line, nullptr)) ++emulator::current->warp->product_groups;
}
// Until at most `pending` committed groups of products are under way.
template <int pending>
inline void wgmma_wait(int line = __builtin_LINE()) {
  using namespace emulator;
  if (!gather("wgmma_wait", line, nullptr)) return;
  Warp& warp = *current->warp;
  size_t kept = 0;
  for (Product& product : warp.products) {
    if (product.group + pending >= warp.product_groups)
      warp.products[kept++] = product;
    else
      product.execute(product);
  }
  warp.products.resize(kept);
  warp.tick();  // all lanes have read what they multiplied
}

// d += a b: A of registers or in shared memory, B in shared memory as rows of K, or, of `_columns`,
// as wgmma_columns says; N is twice the number of accumulators. With add = 0 d is overwritten.
#define QCC_WGMMA(name, depth, A, B, Element, columns)                                       \
  template <int count>                                                                       \
  inline void wgmma_m64k##depth##_##name(Element(&d)[count], const u32(&a)[4], u64 b,        \
                                         u32 add = 1, int line = __builtin_LINE()) {         \
    emulator::wgmma<emulator::A, emulator::B, Element, 2 * count, true>(                     \
        "wgmma_" #name, {a, 0, b, d, add != 0, columns}, line);                              \
  }                                                                                          \
  template <int count>                                                                       \
  inline void wgmma_m64k##depth##_##name(Element(&d)[count], u64 a, u64 b,                   \
                                         u32 add = 1, int line = __builtin_LINE()) {         \
    emulator::wgmma<emulator::A, emulator::B, Element, 2 * count, false>(                    \
        "wgmma_" #name, {nullptr, a, b, d, add != 0, columns}, line);                        \
  }
QCC_WGMMA(f16, 16, F16_decoder, F16_decoder, float, false)
QCC_WGMMA(bf16, 16, BF16_decoder, BF16_decoder, float, false)
QCC_WGMMA(f16_columns, 16, F16_decoder, F16_decoder, float, true)
QCC_WGMMA(bf16_columns, 16, BF16_decoder, BF16_decoder, float, true)
QCC_WGMMA(e4m3, 32, E4M3_decoder, E4M3_decoder, float, false)
QCC_WGMMA(e5m2, 32, E5M2_decoder, E5M2_decoder, float, false)
QCC_WGMMA(s8, 32, S8_decoder, S8_decoder, s32, false)
QCC_WGMMA(u8s8, 32, U8_decoder, S8_decoder, s32, false)
#undef QCC_WGMMA

}  // namespace qcc
