#include "qcc_cuda.cuh"

namespace qcc {

// Codes of 4 bits to i8, a table of values; exact; a value is 0.5 times what it gives.
// `unit` counts the 2 pieces of a packet.
QCC_DEVICE void decode_table4_i8(u32 (&a)[1][4], const u32 (&words)[4], int unit,
    const u32 (&offsets)[1][2]) {
  const u32 w0 = words[2 * unit];
  const u32 w1 = words[2 * unit + 1];
  const u32 t0 = w0 & 0x77777777;
  const u32 t1 = w0 >> 1;
  const u32 t2 = lop3<0xea>(t1, 0x44444444, 0x32103210);
  const u32 t3 = permute_bytes(0x86848280, 0x8e8c8a88, t0);
  const u32 t4 = permute_bytes(0x96949290, 0x7f819a98, t0);
  const u32 t5 = permute_bytes(t3, t4, t2);
  const u32 t6 = t0 >> 16;
  const u32 t7 = permute_bytes(0x86848280, 0x8e8c8a88, t6);
  const u32 t8 = permute_bytes(0x96949290, 0x7f819a98, t6);
  const u32 t9 = t2 >> 16;
  const u32 t10 = permute_bytes(t7, t8, t9);
  const u32 t11 = w1 & 0x77777777;
  const u32 t12 = w1 >> 1;
  const u32 t13 = lop3<0xea>(t12, 0x44444444, 0x32103210);
  const u32 t14 = permute_bytes(0x86848280, 0x8e8c8a88, t11);
  const u32 t15 = permute_bytes(0x96949290, 0x7f819a98, t11);
  const u32 t16 = permute_bytes(t14, t15, t13);
  const u32 t17 = t11 >> 16;
  const u32 t18 = permute_bytes(0x86848280, 0x8e8c8a88, t17);
  const u32 t19 = permute_bytes(0x96949290, 0x7f819a98, t17);
  const u32 t20 = t13 >> 16;
  const u32 t21 = permute_bytes(t18, t19, t20);
  const u32 t22 = permute_bytes(0xffffffff, 0xffff, t0);
  const u32 t23 = permute_bytes(0xffffffff, t22, t2);
  const u32 t24 = permute_bytes(0xffffffff, 0xffff, t6);
  const u32 t25 = permute_bytes(0xffffffff, t24, t9);
  const u32 t26 = permute_bytes(0xffffffff, 0xffff, t11);
  const u32 t27 = permute_bytes(0xffffffff, t26, t13);
  const u32 t28 = permute_bytes(0xffffffff, 0xffff, t17);
  const u32 t29 = permute_bytes(0xffffffff, t28, t20);
  const u32 t30 = t23 & offsets[0][0];
  const u32 t31 = t5 - t30;
  const u32 t32 = t31 ^ 0x80808080;
  const u32 t33 = t25 & offsets[0][0];
  const u32 t34 = t10 - t33;
  const u32 t35 = t34 ^ 0x80808080;
  const u32 t36 = t27 & offsets[0][1];
  const u32 t37 = t16 - t36;
  const u32 t38 = t37 ^ 0x80808080;
  const u32 t39 = t29 & offsets[0][1];
  const u32 t40 = t21 - t39;
  const u32 t41 = t40 ^ 0x80808080;
  a[0][0] = t32;
  a[0][2] = t35;
  a[0][1] = t38;
  a[0][3] = t41;
}

// y[tokens, n] = x[tokens, k] · w[n, k], w in dint4
// A block: 128 channels x 128 tokens, K in steps of 128, 4 stages of 24704 bytes
// Blocks are as many as run at once, and loop over tiles; they share the steps of all tiles evenly
// Its warps: 4 along channels, 2 along tokens, 1 along K
extern "C" __global__ void __launch_bounds__(256, 1)
prefill_i8(
    const u8* x_pointer,
    const u32* codes_pointer,
    const float* scale_pointer,
    const u8* zero_point_pointer,
    const float* x_scale_pointer,
    u16* y_pointer,
    s32* workspace_pointer,
    u32* arrivals_pointer,
    int tokens) {
  const Global<const u8> x(x_pointer, s64(tokens) * 4096);
  const Global<const u32> codes(codes_pointer, 256 * 64 * 128);
  const Global<const float> scale(scale_pointer, 1 * 4096);
  const Global<const u8> zero_point(zero_point_pointer, 1 * 4096);
  const Global<const float> x_scale(x_scale_pointer, s64(tokens));
  const Global<u16> y(y_pointer, s64(tokens) * 4096);
  const Global<s32> workspace(workspace_pointer, s64(gridDim.x) * 32768);
  const Global<u32> arrivals(arrivals_pointer, ((s64(tokens) + 127) / 128) * 32);
  const int thread = threadIdx.x, lane = thread % 32;
  const int warp = thread / 32;
  const int warp_n = warp % 4;
  const int warp_m = warp / 4 % 2;
  const int channel = 32 * warp_n + lane / 4;  // of the first row that this lane accumulates
  // Tiles of the result, each 32 steps of K
  const int token_tiles = (tokens + 127) / 128;
  const int tiles = 32 * token_tiles;
  // This block's share of the steps of all tiles, one tile after the other
  const int units = 32 * tiles, blocks = gridDim.x;
  const Shares shares = {units / blocks, units % blocks};
  const int begin = shares.first(blockIdx.x), end = shares.first(blockIdx.x + 1);
  for (int tile = begin / 32; tile < (end + 31) / 32; ++tile) {
    const TilePlace place = {tile % token_tiles, tile / token_tiles};
    sync_threads();  // everybody is done with the tile before
    const int n0 = 128 * place.strip;
    const int m0 = 128 * place.column;
    // Of the tile's 32 steps of 128 columns those of this block's share
    const int first_unit = 32 * tile;
    const int first = begin > first_unit ? 128 * (begin - first_unit) : 0;
    const int last = end < first_unit + 32 ? 128 * (end - first_unit) : 4096;
    s32 total[2][8][4] = {};
    // x_tile: 128 x 128 of i8, swizzle8
    const auto x_tile = [](int stage) { return Shared<u8>(24704 * stage, 16384); };
    const int x_row = thread / 8, x_column = thread % 8 * 16;
    const auto x_from = x.at(4096 * s64(m0 + x_row) + x_column);
    const int x_to = 128 * x_row + (x_column ^ (x_row & 7) * 16);
    // codes_tile: 8 x 2 x 128 of ui32, rows
    const auto codes_tile = [](int stage) { return Shared<u32>(24704 * stage + 16384, 2048); };
    const int codes_row = thread / 64, codes_column = thread % 64 * 4;
    const auto codes_from = codes.at(8192 * s64(n0 / 16 + codes_row) + codes_column);
    const int codes_to = 256 * codes_row + codes_column;
    // zero_point_tile: 1 x 128 of ui8, rows
    const auto zero_point_tile = [](int stage) { return Shared<u8>(24704 * stage + 24576, 128); };
    const int zero_point_row = 0, zero_point_column = thread * 16;
    const auto zero_point_from = zero_point.at(4096 * s64(zero_point_row) + n0 + zero_point_column);
    const int zero_point_to = 128 * zero_point_row + zero_point_column;

    // Starts the copies of the step at k into a stage
    const auto fetch = [&](int stage, int k) {
      // x: rows of 128, 16 at once
      #pragma unroll
      for (int turn = 0; turn < 4; ++turn) {
        copy_async<16>(x_tile(stage).at(x_to + 4096 * turn), x_from.at(k + 131072 * turn), m0 +
            x_row + 32 * turn < tokens ? 16 : 0);
      }
      // codes: rows of 256, 4 at once
      #pragma unroll
      for (int turn = 0; turn < 2; ++turn) {
        copy_async<16, Cache::evict_first>(codes_tile(stage).at(codes_to + 1024 * turn),
            codes_from.at(128 * (k / 64) + 32768 * turn));
      }
      // zero_point: rows of 128, 16 at once
      if (thread < 8) copy_async<16>(zero_point_tile(stage).at(zero_point_to),
          zero_point_from.at(0));
    };

    // Where this lane points ldmatrix: its row and its vector in the first matrices
    const int x_lane = (lane >> 3 & 1) << 4 ^ (lane & 7) << 4 ^ (lane >> 4 & 1) << 10 ^
        (lane & 7) << 7;

    #pragma unroll
    for (int stage = 0; stage < 3; ++stage) {
      if (first + 128 * stage < last) fetch(stage, first + 128 * stage);
      commit_copies();
    }
    for (int k = first, stage = 0; k < last; k += 128) {
      wait_copies<2>();  // this thread's part of the stage has arrived
      sync_threads();  // everybody's has, and the stage before is free again
      if (k + 384 < last) fetch(stage == 0 ? 3 : stage - 1, k + 384);
      commit_copies();
      // 2 packets of 64 columns
      #pragma unroll
      for (int packet = 0; packet < 2; ++packet) {
        u32 words[2][4];
        #pragma unroll
        for (int strip = 0; strip < 2; ++strip) {
          const auto codes_of_strip =
              codes_tile(stage).at(512 * warp_n + 256 * strip + 128 * packet);
          const auto read_0 = codes_of_strip.load<16>(4 * lane);
          words[strip][0] = read_0[0], words[strip][1] = read_0[1], words[strip][2] = read_0[2],
              words[strip][3] = read_0[3];
        }
        #pragma unroll
        for (int unit = 0; unit < 2; ++unit) {
          u32 weights[2][1][4];
          #pragma unroll
          for (int strip = 0; strip < 2; ++strip) {
            u32 offsets[1][2];
            #pragma unroll
            for (int half = 0; half < 2; ++half) {
              const s32 zero = zero_point_tile(stage).load(channel + 16 * strip + 8 * half);
              offsets[0][half] = u32(2 * zero) * 0x01010101;
            }
            decode_table4_i8(weights[strip], words[strip], unit, offsets);
          }
          #pragma unroll
          for (int token = 0; token < 8; token += 2) {
            u32 columns[4];
            load_matrix<4>(columns,
                x_tile(stage).at((x_lane ^ (64 * packet + 32 * unit)) + 8192 * warp_m +
                1024 * token));
            #pragma unroll
            for (int strip = 0; strip < 2; ++strip) {
              mma_m16n8k32_s8(total[strip][token], weights[strip][0], {columns[0], columns[1]});
              mma_m16n8k32_s8(total[strip][token + 1], weights[strip][0], {columns[2], columns[3]});
            }
          }
        }
      }
      stage = stage == 3 ? 0 : stage + 1;
    }
    wait_copies<0>();
    sync_threads();  // shared memory is free for the epilogue

    // Where blocks share the steps of the tile, the last to come adds their sums in order
    const int from = shares.block_of(first_unit);
    const int to = shares.block_of(first_unit + 31);
    if (from != to) {
      // A block's second place is for its last tile, of which it has the first steps
      const int block = blockIdx.x;
      {
        const auto mine = workspace.at((2 * s64(block) + (block == from)) * 16384 + thread);
        #pragma unroll
        for (int strip = 0; strip < 2; ++strip) {
          #pragma unroll
          for (int token = 0; token < 8; ++token) {
            #pragma unroll
            for (int value = 0; value < 4; ++value) {
              mine.store(256 * (32 * strip + 4 * token + value), total[strip][token][value]);
            }
          }
        }
      }
      fence();
      sync_threads();
      const Shared<u32> arrived(0, 1);
      if (thread == 0) arrived.store(0, atomic_add(arrivals, tile, 1));
      sync_threads();
      if (arrived.load(0) != to - from) continue;
      fence();
      sync_threads();
      {
        #pragma unroll
        for (int strip = 0; strip < 2; ++strip) {
          #pragma unroll
          for (int token = 0; token < 8; ++token) {
            #pragma unroll
            for (int value = 0; value < 4; ++value) {
              total[strip][token][value] = 0;
            }
          }
        }
        #pragma unroll 1
        for (int other = from; other < to + 1; ++other) {
          const auto share = workspace.at((2 * s64(other) + (other == from)) * 16384 + thread);
          #pragma unroll
          for (int strip = 0; strip < 2; ++strip) {
            #pragma unroll
            for (int token = 0; token < 8; ++token) {
              #pragma unroll
              for (int value = 0; value < 4; ++value) {
                total[strip][token][value] += share.load(256 * (32 * strip + 4 * token + value));
              }
            }
          }
        }
      }
      if (thread == 0) arrivals.store(tile, 0);  // for the next launch
    }

    // Epilogue: 128 channels x 128 tokens, a row for each token
    const Shared<u16> staged(0, 17408);
    {
      #pragma unroll
      for (int strip = 0; strip < 2; ++strip) {
        #pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = channel + 16 * strip + 8 * half;
          const float scale_of_channel = n0 + i < 4096 ? scale.load(n0 + i) : float(0);
          #pragma unroll
          for (int token = 0; token < 8; ++token) {
            #pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
              const int j = 64 * warp_m + 8 * token + lane % 4 * 2 + pair;
              const float e2 = f32_from_s32(total[strip][token][2 * half + pair]);
              const float e4 = e2 * 0.5f;
              const float e5 = e4 * scale_of_channel;
              const float e6 = m0 + j < tokens ? x_scale.load(m0 + j) : float(0);
              const float e7 = e5 * e6;
              const u16 e8 = f16_from_f32(e7);
              staged.store(j * 136 + i, e8);
            }
          }
        }
      }
    }
    sync_threads();
    for (int piece = thread; piece < 2048; piece += 256) {
      const int j = piece / 16, i = piece % 16 * 8;
      if (m0 + j < tokens && n0 + i < 4096) {
        y.store<16>(s64(m0 + j) * 4096 + n0 + i, staged.load<16>(j * 136 + i));
      }
    }
  }
}
QCC_KERNEL(prefill_i8)

}  // namespace qcc
