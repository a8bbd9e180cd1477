// Which tiles of a result, and which steps of K, a block makes (dialects/tile/block_work.py).
#pragma once

namespace qcc {

// A tile of tokens, and one of channels.
struct TilePlace {
  int column, strip;
};

// Tiles are counted by tokens, `together` tiles of them, then by channels, then by further tokens.
QCC_DEVICE TilePlace tile_place(int tile, int columns, int strips, int together) {
  const int group = tile / (together * strips), within = tile % (together * strips);
  const int first = together * group;
  const int width = minimum(together, columns - first);
  return {first + within % width, within / width};
}

// Units of work in shares that differ by one at most: a block has those from its first one to before
// the first one of the next block. Each has `each`, the first `longer` blocks one more.
struct Shares {
  int each, longer;

  QCC_DEVICE int first(int block) const { return block * each + minimum(block, longer); }
  QCC_DEVICE int block_of(int unit) const {
    const int of_longer = longer * (each + 1);
    return unit < of_longer ? unit / (each + 1) : longer + (unit - of_longer) / each;
  }
};

}  // namespace qcc
