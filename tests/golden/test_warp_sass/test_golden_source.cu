#include "qcc_cuda.cuh"

namespace qcc {

// Attention, depth 128 and 128, keys in f16, values in f16, 8 query heads for a key head, causal
// 4 warps, 16 rows each; 64 keys a step, 2 stages
extern "C" __global__ void __launch_bounds__(128, 1)
prompt(
    const u16* query_pointer,
    const u16* key_pointer,
    const u16* value_pointer,
    u16* result_pointer,
    int planes,
    int queries,
    int keys,
    int past,
    int capacity) {
  const int thread = threadIdx.x, lane = thread % 32;
  const int warp = thread / 32;
  const int rows = queries * 8;
  const int row_blocks = (rows + 63) / 64;
  const int block = blockIdx.x;
  const int row_block = block % row_blocks;
  const int plane = block / row_blocks;
  const int block_row = row_block * 64;
  const int row = block_row + warp * 16;
  const int all_rows = planes * rows;
  const Global<const u16> query(query_pointer, s64(all_rows) * 128);
  const Global<const u16> key(key_pointer, s64(planes * capacity) * 128);
  const Global<const u16> value(value_pointer, s64(planes * capacity) * 128);
  const Global<u16> result(result_pointer, s64(all_rows) * 128);
  int limit[1][2];
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    limit[0][half] = minimum((lane / 4 + 8 * half + row) % queries + past + 1, keys);
  }
  const int last_token = block_row % queries + 63;
  const int seen_by_last = minimum(last_token, queries - 1) + past + 1;
  const int visible = minimum(seen_by_last, keys);
  const int least_token = (last_token > queries - 1) ? 0 : (block_row % queries);
  const int everywhere = minimum(least_token + past + 1, keys);
  u32 query_tile[1][8][4];
  #pragma unroll
  for (int step = 0; step < 8; ++step) {
    #pragma unroll
    for (int value = 0; value < 4; ++value) {
      const int at_row = plane * rows + row + lane / 4 + value % 2 * 8;
      const int at_column = 16 * step + lane % 4 * 2 + value / 2 * 8;
      query_tile[0][step][value] = at_row < plane * rows + rows && at_column < 128 ?
          query.load<4>(s64(at_row) * 128 + at_column) : 0;
    }
  }
  float top[1][2];
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    top[0][half] = -1e+30f;
  }
  float total[1][2] = {};
  float sums[1][16][4] = {};

  // key_tile: 64 x 128 of f16
  const auto key_tile = [](int stage) { return Shared<u16>(34816 * stage, 8704); };
  // value_tile: 64 x 128 of f16
  const auto value_tile = [](int stage) { return Shared<u16>(34816 * stage + 17408, 8704); };
  // Starts the copies of the step at k into a stage
  const auto fetch = [&](int stage, int k) {
    // key: rows of 128, 8 at once
    #pragma unroll
    for (int turn = 0; turn < 8; ++turn) {
      const int i = thread / 16 + 8 * turn;
      const int j = thread % 16 * 8;
      const bool inside = i < keys - k;
      copy_async<16>(key_tile(stage).at(136 * i + j),
          key.at(inside ? 128 * s64(plane * capacity + k + i) + j : 0), inside ? 16 : 0);
    }
    // value: rows of 128, 8 at once
    #pragma unroll
    for (int turn = 0; turn < 8; ++turn) {
      const int i = thread / 16 + 8 * turn;
      const int j = thread % 16 * 8;
      const bool inside = i < keys - k;
      copy_async<16>(value_tile(stage).at(136 * i + j),
          value.at(inside ? 128 * s64(plane * capacity + k + i) + j : 0), inside ? 16 : 0);
    }
  };

  #pragma unroll
  for (int stage = 0; stage < 1; ++stage) {
    if (64 * stage < visible) fetch(stage, 64 * stage);
    commit_copies();
  }
  #pragma unroll 1
  for (int k = 0, stage = 0; k < visible; k += 64) {
    wait_copies<0>();  // this thread's part of the stage has arrived
    sync_threads();  // everybody's has, and the stage before is free again
    if (k + 64 < visible) fetch(stage == 0 ? 1 : stage - 1, k + 64);
    commit_copies();

    // Scores: 16 rows of queries by 64 keys for each warp
    float scores[1][8][4] = {};
    const auto key_lane = key_tile(stage).at(136 * (lane % 16) + lane / 16 * 8);
    #pragma unroll
    for (int right_strip = 0; right_strip < 4; ++right_strip) {
      #pragma unroll
      for (int step = 0; step < 8; ++step) {
        u32 right[4];
        load_matrix<4>(right, key_lane.at(2176 * right_strip + 16 * step));
        mma_m16n8k16_f16(scores[0][2 * right_strip], query_tile[0][step], {right[0], right[2]});
        mma_m16n8k16_f16(scores[0][2 * right_strip + 1], query_tile[0][step], {right[1], right[3]});
      }
    }

    // Keys behind what a row sees weigh nothing
    if (k + 64 > everywhere) {
      #pragma unroll
      for (int tile = 0; tile < 8; ++tile) {
        #pragma unroll
        for (int value = 0; value < 4; ++value) {
          scores[0][tile][value] = (8 * tile + lane % 4 * 2 + value % 2 + k < limit[0][value / 2]) ?
              scores[0][tile][value] : float_of(0xff800000);
        }
      }
    }

    // Weights, relative to the highest score of their row so far
    float highest[1][2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      float reduced = top[0][half];
      #pragma unroll
      for (int tile = 0; tile < 8; ++tile) {
        #pragma unroll
        for (int side = 0; side < 2; ++side) {
          reduced = maximum(reduced, scores[0][tile][2 * half + side]);
        }
      }
      reduced = maximum(reduced, shuffle_xor(reduced, 1));
      reduced = maximum(reduced, shuffle_xor(reduced, 2));
      highest[0][half] = reduced;
    }
    float offset[1][2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      offset[0][half] = highest[0][half] * -0.12751743f;
    }
    float weights[1][8][4];
    #pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
      #pragma unroll
      for (int value = 0; value < 4; ++value) {
        weights[0][tile][value] =
            exp2_approx(fma(scores[0][tile][value], 0.12751743f, offset[0][value / 2]));
      }
    }

    // What was summed before weighs less by this
    float turn[1][2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      turn[0][half] = exp2_approx((top[0][half] - highest[0][half]) * 0.12751743f);
    }
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[0][half] = total[0][half] * turn[0][half];
    }
    float total_2[1][2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      float reduced = 0.0f;
      #pragma unroll
      for (int tile = 0; tile < 8; ++tile) {
        #pragma unroll
        for (int side = 0; side < 2; ++side) {
          reduced = reduced + weights[0][tile][2 * half + side];
        }
      }
      reduced = reduced + shuffle_xor(reduced, 1);
      reduced = reduced + shuffle_xor(reduced, 2);
      total_2[0][half] = total[0][half] + reduced;
    }

    // Values by weight
    #pragma unroll
    for (int tile = 0; tile < 16; ++tile) {
      #pragma unroll
      for (int value = 0; value < 4; ++value) {
        sums[0][tile][value] = sums[0][tile][value] * (turn[0][value / 2]);
      }
    }
    const auto value_lane =
        value_tile(stage).at(136 * (lane % 8 + lane / 16 * 8) + lane / 8 % 2 * 8);
    u32 left[1][4][4];
    #pragma unroll
    for (int step = 0; step < 4; ++step) {
      #pragma unroll
      for (int value = 0; value < 4; ++value) {
        const auto& of = weights[0][2 * step + value / 2];
        left[0][step][value] = f16x2_from_f32(of[value % 2 * 2], of[value % 2 * 2 + 1]);
      }
    }
    #pragma unroll
    for (int right_strip = 0; right_strip < 8; ++right_strip) {
      #pragma unroll
      for (int step = 0; step < 4; ++step) {
        u32 right[4];
        load_matrix<4, true>(right, value_lane.at(2176 * step + 16 * right_strip));
        mma_m16n8k16_f16(sums[0][2 * right_strip], left[0][step], {right[0], right[2]});
        mma_m16n8k16_f16(sums[0][2 * right_strip + 1], left[0][step], {right[1], right[3]});
      }
    }
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      top[0][half] = highest[0][half];
    }
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[0][half] = total_2[0][half];
    }
    stage = stage == 1 ? 0 : stage + 1;
  }
  wait_copies<0>();
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float element = total[0][half];
    total[0][half] = (element == 0.0f) ? 0.0f : reciprocal_approx(element);
  }
  u16 results[1][16][4];
  #pragma unroll
  for (int tile = 0; tile < 16; ++tile) {
    #pragma unroll
    for (int value = 0; value < 4; ++value) {
      results[0][tile][value] = f16_from_f32(sums[0][tile][value] * (total[0][value / 2]));
    }
  }

  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    #pragma unroll
    for (int tile = 0; tile < 16; ++tile) {
      const int at_row = plane * rows + row + lane / 4 + 8 * half;
      const int at_column = 8 * tile + lane % 4 * 2;
      if (at_row < plane * rows + rows && at_column < 128) result.store<4>(s64(at_row) * 128 +
          at_column, results[0][tile][2 * half + 0] | u32(results[0][tile][2 * half + 1]) << 16);
    }
  }
}
QCC_KERNEL(prompt)

}  // namespace qcc
