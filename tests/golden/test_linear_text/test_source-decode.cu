#include "qcc_cuda.cuh"

namespace qcc {

// Codes of 4 bits to f16, integers by a magic number; exact.
// `unit` counts the 4 pieces of a packet.
QCC_DEVICE void decode_affine4_f16(u32 (&a)[1][4], const u32 (&words)[4], int unit) {
  const u32 w0 = words[unit];
  const u32 t0 = lop3<0x6a>(w0, 0x000f000f, 0x64086408);
  const u32 t1 = add_f16x2(t0, 0xe408e408);
  const u32 t2 = lop3<0x6a>(w0, 0x00f000f0, 0x64806480);
  const u32 t3 = fma_f16x2(t2, 0x2c002c00, 0xd480d480);
  const u32 t4 = w0 >> 8;
  const u32 t5 = lop3<0x6a>(t4, 0x000f000f, 0x64086408);
  const u32 t6 = add_f16x2(t5, 0xe408e408);
  const u32 t7 = lop3<0x6a>(t4, 0x00f000f0, 0x64806480);
  const u32 t8 = fma_f16x2(t7, 0x2c002c00, 0xd480d480);
  a[0][0] = t1;
  a[0][2] = t3;
  a[0][1] = t6;
  a[0][3] = t8;
}

// y[tokens, n] = x[tokens, k] · w[n, k], w in int4<group=128>
// A block: 64 channels x 1 tokens, K in steps of 512, 1 packets ahead of each warp
// Its warps: 1 along channels, 1 along tokens, 8 along K; 3 blocks share K
extern "C" __global__ void __launch_bounds__(256, 2)
decode(
    const u16* x_pointer,
    const u32* codes_pointer,
    const float* scale_pointer,
    const u16* bias_pointer,
    u16* y_pointer,
    float* workspace_pointer,
    u32* arrivals_pointer,
    int tokens) {
  const Global<const u16> x(x_pointer, s64(tokens) * 4096);
  const Global<const u32> codes(codes_pointer, 256 * 64 * 128);
  const Global<const float> scale(scale_pointer, 32 * 4096);
  const Global<const u16> bias(bias_pointer, 4096);
  const Global<u16> y(y_pointer, s64(tokens) * 4096);
  const Global<float> workspace(workspace_pointer, s64(gridDim.x * gridDim.y) * 1536);
  const Global<u32> arrivals(arrivals_pointer, gridDim.x * gridDim.y);
  const int thread = threadIdx.x, lane = thread % 32;
  const int warp = thread / 32;
  const int warp_k = warp;
  const int channel = lane / 4;  // of the first row that this lane accumulates
  const int n0 = 64 * blockIdx.y;
  const int m0 = 1 * blockIdx.x;
  // This block's share of K: of 8 steps of 512 columns
  const int first = 512 * int(8 * blockIdx.z / 3);
  const int last = minimum(4096, 512 * int(8 * (blockIdx.z + 1) / 3));
  float total[4][1][4] = {};

  // x_tile: 1 x 1536 of f16, swizzle8
  const Shared<u16> x_tile(0, 1536);
  const int x_row = 0, x_column = thread * 8;
  const auto x_from = x.at(4096 * s64(m0 + x_row) + first + x_column);
  const int x_to = 1536 * x_row + (x_column ^ (x_row & 7) * 8);
  // x: rows of 1536, 8 at once
  if (thread < 192) copy_async<16>(x_tile.at(x_to), x_from.at(0), m0 + x_row < tokens && first +
      x_column < 4096 ? 16 : 0);

  // scale_tile: 12 x 64 of f32, rows
  const Shared<float> scale_tile(3072, 768);
  const int scale_row = thread / 16, scale_column = thread % 16 * 4;
  const auto scale_from = scale.at(4096 * s64(first / 128 + scale_row) + n0 + scale_column);
  const int scale_to = 64 * scale_row + scale_column;
  // scale: rows of 64, 4 at once
  if (thread < 192) copy_async<16>(scale_tile.at(scale_to), scale_from.at(0), first / 128 +
      scale_row < 32 && n0 + scale_column < 4096 ? 16 : 0);
  commit_copies();

  // Where this lane points ldmatrix: its row, and its vector in the first matrices
  const int x_row_of_lane = 0;
  const int x_lane = (lane >> 3 & 1) * 8;

  // Reads this lane's words of the packets at `column`, strip by strip
  const auto fetch = [&](u32 (&words)[4][4], int column) {
    #pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      const auto packet = codes.at(8192 * s64(n0 / 16 + strip) + 128 * (column / 64));
      const auto read_0 = packet.load<16, Cache::evict_first>(4 * lane);
      words[strip][0] = read_0[0], words[strip][1] = read_0[1], words[strip][2] = read_0[2],
          words[strip][3] = read_0[3];
    }
  };
  // 1 packets of each strip are under way for this warp
  u32 ahead[1][4][4];
  if (first + 64 * warp_k < last) fetch(ahead[0], first + 64 * warp_k);
  wait_copies<0>();
  sync_threads();  // everybody's part of the activations has arrived
  for (int base = first; base < last; base += 512) {
    const int k = base;
    if (k + 64 * warp_k < last) {
      u32 words[4][4];
      #pragma unroll
      for (int strip = 0; strip < 4; ++strip) {
        #pragma unroll
        for (int word = 0; word < 4; ++word) {
          words[strip][word] = ahead[0][strip][word];
        }
      }
      if (k + 64 * warp_k + 512 < last) fetch(ahead[0], k + 64 * warp_k + 512);
      // 8 packets of 64 columns, of which this warp takes every 8th
      #pragma unroll
      for (int packet = warp_k; packet < 8; packet += 8) {
        float part[4][1][4] = {};
        #pragma unroll
        for (int unit = 0; unit < 4; ++unit) {
          u32 weights[4][1][4];
          #pragma unroll
          for (int strip = 0; strip < 4; ++strip) {
            decode_affine4_f16(weights[strip], words[strip], unit);
          }
          u32 columns[2];
          load_matrix<2>(columns,
              x_tile.at(x_row_of_lane + (x_lane ^ (16 * unit)) + k - first + 64 * packet));
          #pragma unroll
          for (int strip = 0; strip < 4; ++strip) {
            mma_m16n8k16_f16(part[strip][0], weights[strip][0], {columns[0], columns[1]});
          }
        }
        // What the chunk adds, times the scale of its group
        #pragma unroll
        for (int strip = 0; strip < 4; ++strip) {
          #pragma unroll
          for (int half = 0; half < 2; ++half) {
            const float factor =
                scale_tile.load(64 * ((k - first + 64 * packet) / 128) + channel + 16 * strip +
                8 * half);
            total[strip][0][2 * half] =
                fma(part[strip][0][2 * half], factor, total[strip][0][2 * half]);
            total[strip][0][2 * half + 1] =
                fma(part[strip][0][2 * half + 1], factor, total[strip][0][2 * half + 1]);
          }
        }
      }
    }
  }
  sync_threads();  // shared memory is free for the epilogue

  // Sums of the 8 warps along K, in their order
  const Shared<float> sums(0, 3584);
  if (warp_k > 0) {
    #pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      #pragma unroll
      for (int value = 0; value < 4; ++value) {
        sums.store(512 * (warp_k - 1) + 32 * (4 * strip + value) + thread % 32,
            total[strip][0][value]);
      }
    }
  }
  sync_threads();
  if (warp_k == 0) {
    #pragma unroll
    for (int other = 0; other < 7; ++other) {
      #pragma unroll
      for (int strip = 0; strip < 4; ++strip) {
        #pragma unroll
        for (int value = 0; value < 4; ++value) {
          total[strip][0][value] += sums.load(512 * other + 32 * (4 * strip + value) + thread);
        }
      }
    }
  }
  sync_threads();

  // Sums of the 3 blocks that share K: the last to come adds them in order
  const int tile = blockIdx.y * gridDim.x + blockIdx.x;
  if (warp_k == 0) {
    const auto mine = workspace.at((s64(3 * tile) + blockIdx.z) * 512 + thread);
    #pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      #pragma unroll
      for (int value = 0; value < 4; ++value) {
        if (lane % 4 * 2 + value % 2 < 1) mine.store(32 * (4 * strip + value),
            total[strip][0][value]);
      }
    }
  }
  fence();
  sync_threads();
  const Shared<u32> arrived(0, 1);
  if (thread == 0) arrived.store(0, atomic_add(arrivals, tile, 1));
  sync_threads();
  if (arrived.load(0) != 2) return;
  fence();
  sync_threads();
  if (warp_k == 0) {
    #pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      #pragma unroll
      for (int value = 0; value < 4; ++value) {
        if (lane % 4 * 2 + value % 2 < 1) {
          float shares[3];
          #pragma unroll
          for (int split = 0; split < 3; ++split) {
            shares[split] =
                workspace.at((s64(3 * tile) + split) * 512 + thread).load(32 * (4 * strip + value));
          }
          total[strip][0][value] = shares[0];
          #pragma unroll
          for (int split = 1; split < 3; ++split) {
            total[strip][0][value] += shares[split];
          }
        }
      }
    }
  }
  if (thread == 0) arrivals.store(tile, 0);  // for the next launch

  // Epilogue: 64 channels x 1 tokens, a row for each token
  const Shared<u16> staged(0, 576);
  if (warp_k == 0) {
    #pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      #pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = channel + 16 * strip + 8 * half;
        const u16 bias_of_channel = n0 + i < 4096 ? bias.load(n0 + i) : u16(0);
        #pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const int j = lane % 4 * 2 + pair;
          const float e2 = f32_from_f16(bias_of_channel);
          const float e3 = total[strip][0][2 * half + pair] + e2;
          const u16 e4 = f16_from_f32(e3);
          staged.store(j * 72 + i, e4);
        }
      }
    }
  }
  sync_threads();
  for (int piece = thread; piece < 8; piece += 256) {
    const int j = piece / 8, i = piece % 8 * 8;
    if (m0 + j < tokens && n0 + i < 4096) {
      y.store<16>(s64(m0 + j) * 4096 + n0 + i, staged.load<16>(j * 72 + i));
    }
  }
}
QCC_KERNEL(decode)

}  // namespace qcc
