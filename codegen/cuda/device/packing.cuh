// Exchanges between lanes: the four of a quad, which hold neighbouring columns of a matrix, and all.
#pragma once

namespace qcc {

// Byte i of the result of lane t of four is byte t of the word of lane i: a transposed 4 x 4.
QCC_DEVICE u32 transposed_bytes(u32 word, int lane) {
  const u32 beside = shuffle_xor(word, 1);
  word = permute_bytes(word, beside, lane & 1 ? 0x3715 : 0x6240);
  const u32 across = shuffle_xor(word, 2);
  return permute_bytes(word, across, lane & 2 ? 0x3276 : 0x5410);
}

// Matrices of 8 x 8, turned: lane 4 i + j, which has columns 2 j and 2 j + 1 of row i, gets rows 2 j and
// 2 j + 1 of column i. Of one matrix of 32 bits:
template <typename T>
QCC_DEVICE void turn(T (&pair)[2], int lane) {
  const int odd = lane / 4 % 2, from = lane % 4 * 8 + lane / 8;
  // Lanes of odd rows give and take the second number first, so each gives what one other lane takes.
  const T first = shuffle_from(pair[odd], from + 4 * odd);
  const T second = shuffle_from(pair[1 - odd], from + 4 - 4 * odd);
  pair[0] = odd ? second : first, pair[1] = odd ? first : second;
}
// Of one matrix of 16 bits, both columns in a word:
QCC_DEVICE u32 turned_halves(u32 word, int lane) {
  const int from = lane % 4 * 8 + lane / 8;
  const u32 first = shuffle_from(word, from), second = shuffle_from(word, from + 4);
  return permute_bytes(first, second, lane / 4 % 2 ? 0x7632 : 0x5410);
}
// Of two matrices of bytes, that of the lower half and that of the upper half of a word:
QCC_DEVICE u32 turned_bytes(u32 word, int lane) {
  const int from = lane % 4 * 8 + lane / 8;
  const u32 first = shuffle_from(word, from), second = shuffle_from(word, from + 4);
  return permute_bytes(first, second, lane / 4 % 2 ? 0x7351 : 0x6240);
}

}  // namespace qcc
