// Exchanges between the four lanes of a quad that hold neighbouring columns of a matrix.
#pragma once

namespace qcc {

// Byte i of the result of lane t of four is byte t of the word of lane i: a transposed 4 x 4.
QCC_DEVICE u32 transposed_bytes(u32 word, int lane) {
  const u32 beside = shuffle_xor(word, 1);
  word = permute_bytes(word, beside, lane & 1 ? 0x3715 : 0x6240);
  const u32 across = shuffle_xor(word, 2);
  return permute_bytes(word, across, lane & 2 ? 0x3276 : 0x5410);
}

}  // namespace qcc
