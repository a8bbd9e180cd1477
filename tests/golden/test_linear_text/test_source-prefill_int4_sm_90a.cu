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

// y[tokens, n] = x[tokens, k] · w[n, k], w in int4
// A block: 128 channels x 128 tokens, K in steps of 128, 5 stages of 40960 bytes
// Its warp groups: 2 of 64 channels each, one that fetches
extern "C" __global__ void __launch_bounds__(384, 1)
prefill_int4(
    const __grid_constant__ TensorMap x,
    const u32* codes_pointer,
    const float* scale_pointer,
    u16* y_pointer,
    float* workspace_pointer,
    u32* arrivals_pointer,
    int tokens) {
  const Global<const u32> codes(codes_pointer, 256 * 64 * 128);
  const Global<const float> scale(scale_pointer, 1 * 4096);
  const Global<u16> y(y_pointer, s64(tokens) * 4096);
  const int thread = threadIdx.x, lane = thread % 32;
  const int warp = thread / 32;
  const int warp_n = warp % 8;
  const int channel = 16 * warp_n + lane / 4;  // of the first row that this lane accumulates
  const int n0 = 128 * blockIdx.y;
  const int m0 = 128 * blockIdx.x;
  constexpr int first = 0, last = 4096;
  float total[64] = {};
  // x_tile: 128 x 128 of f16, boxes8
  const auto x_tile = [](int stage) { return Shared<u16>(40960 * stage, 16384); };
  // codes_tile: 8 x 2 x 128 of ui32, rows
  const auto codes_tile = [](int stage) { return Shared<u32>(40960 * stage + 32768, 2048); };

  // Barriers of a stage: its bytes have arrived; all warps have read it
  const Shared<u64> full(204800, 5);
  const Shared<u64> empty(204840, 5);
  if (thread == 0) {
    #pragma unroll
    for (int stage = 0; stage < 5; ++stage) {
      mbarrier_init(full.at(stage), 1);
      mbarrier_init(empty.at(stage), 8);
    }
    fence_mbarrier_init();
  }
  sync_threads();

  // The producer: one thread of the last warp group
  if (thread >= 256) {
    decrease_registers<24>();
    if (thread == 256) {
      for (int k = first, stage = 0, phase = 0; k < last; k += 128) {
        mbarrier_wait(empty.at(stage), phase ^ 1);
        mbarrier_expect(full.at(stage), 40960);
        #pragma unroll
        for (int box = 0; box < 2; ++box) {
          load_tensor_2d(x_tile(stage).at(8192 * box), x, full.at(stage), k + 64 * box, m0);
        }
        #pragma unroll
        for (int strip = 0; strip < 8; ++strip) {
          copy_bulk(codes_tile(stage).at(256 * strip),
              codes.at(8192 * s64(n0 / 16 + strip) + 128 * (k / 64)), 1024, full.at(stage));
        }
        if (++stage == 5) stage = 0, phase ^= 1;
      }
    }
    return;
  }
  increase_registers<240>();

  // The consumers: 16 channels of each warp, all tokens
  for (int k = first, stage = 0, phase = 0; k < last; k += 128) {
    mbarrier_wait(full.at(stage), phase);
    // 2 packets of 64 columns
    #pragma unroll
    for (int packet = 0; packet < 2; ++packet) {
      u32 words[1][4];
      const auto codes_of_strip = codes_tile(stage).at(256 * warp_n + 128 * packet);
      const auto read_0 = codes_of_strip.load<16>(4 * lane);
      words[0][0] = read_0[0], words[0][1] = read_0[1], words[0][2] = read_0[2], words[0][3] =
          read_0[3];
      #pragma unroll
      for (int unit = 0; unit < 4; ++unit) {
        u32 weights[1][1][4];
        decode_affine4_f16(weights[0], words[0], unit);
        wgmma_fence();
        wgmma_m64k16_f16(total, weights[0][0],
            wgmma_operand<128>(x_tile(stage).at(8192 * packet + 16 * unit)));
        wgmma_commit();
      }
    }
    wgmma_wait<0>();
    sync_warp();  // all lanes have read the stage
    if (lane == 0) mbarrier_arrive(empty.at(stage));
    if (++stage == 5) stage = 0, phase ^= 1;
  }
  sync_named(1, 256);  // shared memory is free for the epilogue

  // Epilogue: 128 channels x 128 tokens, a row for each token
  const Shared<u16> staged(0, 17408);
  {
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = channel + 8 * half;
      const float scale_of_channel = n0 + i < 4096 ? scale.load(n0 + i) : float(0);
      #pragma unroll
      for (int token = 0; token < 16; ++token) {
        #pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const int j = 8 * token + lane % 4 * 2 + pair;
          const float e2 = total[4 * token + 2 * half + pair] * scale_of_channel;
          const u16 e3 = f16_from_f32(e2);
          staged.store(j * 136 + i, e3);
        }
      }
    }
  }
  sync_named(1, 256);
  for (int piece = thread; piece < 2048; piece += 256) {
    const int j = piece / 16, i = piece % 16 * 8;
    if (m0 + j < tokens && n0 + i < 4096) {
      y.store<16>(s64(m0 + j) * 4096 + n0 + i, staged.load<16>(j * 136 + i));
    }
  }
}
QCC_KERNEL(prefill_int4)

}  // namespace qcc
