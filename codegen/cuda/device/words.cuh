// Integer types, vectors of registers and cache hints: what both back ends share.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define QCC_DEVICE __device__ __forceinline__
#else
#define QCC_DEVICE inline
#endif

namespace qcc {

using u8 = unsigned char;
using s8 = signed char;
using u16 = unsigned short;
using s16 = short;
using u32 = unsigned int;
using s32 = int;
using u64 = unsigned long long;
using s64 = long long;

// n registers that one access moves.
template <int n>
struct alignas(4 * n) Words {
  u32 word[n];

  QCC_DEVICE u32& operator[](int index) { return word[index]; }
  QCC_DEVICE const u32& operator[](int index) const { return word[index]; }
};

// What an access of so many bytes moves: u8, u16, u32, Words<2> or Words<4>.
template <int bytes>
struct Access {
  static_assert(bytes == 8 || bytes == 16, "an access has 1, 2, 4, 8 or 16 bytes");
  using type = Words<bytes / 4>;
};
template <>
struct Access<1> {
  using type = u8;
};
template <>
struct Access<2> {
  using type = u16;
};
template <>
struct Access<4> {
  using type = u32;
};
template <int bytes>
using Accessed = typename Access<bytes>::type;

// Of eight e2m1 codes those above zero, or below; zero in place of the others.
QCC_DEVICE u32 negative_e2m1x8(u32 codes) { return codes & (codes >> 3 & 0x11111111) * 15; }
QCC_DEVICE u32 positive_e2m1x8(u32 codes) { return codes & ~((codes >> 3 & 0x11111111) * 15); }

// What the caches should do with the line of an access.
enum class Cache {
  normal,
  evict_first,  // read once: weights
  evict_last,   // read by many blocks: activations
  no_allocate,  // not in L1
};

// The description of a tensor for TMA, made by the host; a __grid_constant__ argument.
struct alignas(64) TensorMap {
  u64 opaque[16];
};

template <typename T>
struct Remove_const {
  using type = T;
};
template <typename T>
struct Remove_const<const T> {
  using type = T;
};
template <typename T>
using Value = typename Remove_const<T>::type;

template <typename T>
constexpr bool is_const = false;
template <typename T>
constexpr bool is_const<const T> = true;

// Fragments of a strip as the list of their numbers.
template <typename T, int columns>
QCC_DEVICE T (&whole(T (&fragments)[columns][4]))[4 * columns] {
  return reinterpret_cast<T (&)[4 * columns]>(fragments);
}

}  // namespace qcc
