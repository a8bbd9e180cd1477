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

// Units of work in shares of whole ones, as even as can be: a block has those from its first one to
// before the first one of the next block. Blocks are at most as many as units.
struct Shares {
  s64 units, blocks;

  QCC_DEVICE s64 first(s64 block) const { return block * units / blocks; }
  QCC_DEVICE int block_of(s64 unit) const { return int(((unit + 1) * blocks - 1) / units); }
};

}  // namespace qcc
