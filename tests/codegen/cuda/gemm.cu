// C[m, n] = sum over k of A[m, k] B[n, k] in fp16, by hand: blocks of 64 x 64 x 32, four warps of
// 32 x 32, two stages of asynchronous copies. The planted bugs are those of spec cuda.md §6.2.
#include "qcc_cuda.cuh"

namespace qcc {

enum class Bug { none, no_wait, no_barrier_before_reads, no_barrier_before_reuse };

constexpr int tile = 64, depth = 32, stages = 2, chunks = depth / 8;

// Where the 8 values from `8 chunk` of a row are: rows of 64 bytes, two of them to the 32 banks.
QCC_DEVICE int swizzled(int row, int chunk) {
  return row * depth + 8 * (chunk ^ ((row >> 1) & (chunks - 1)));
}

// Rows first_row … + 63, columns first_column … + 31 of a matrix, zeros beyond its edges.
QCC_DEVICE void copy_tile(Shared<u16> to, Global<const u16> from, int rows, int columns,
                          int first_row, int first_column) {
  for (int step = 0; step < 2; ++step) {
    const int row = step * 32 + threadIdx.x / chunks, chunk = threadIdx.x % chunks;
    const int column = first_column + 8 * chunk;
    const bool inside = first_row + row < rows && column < columns;
    copy_async<16>(to.at(swizzled(row, chunk)), from.at(s64(first_row + row) * columns + column),
                   inside ? 16 : 0);
  }
}

template <Bug bug>
QCC_DEVICE void gemm_block(const u16* a, const u16* b, float* c, int M, int N, int K) {
  const Global<const u16> left(a, s64(M) * K), right(b, s64(N) * K);
  const Global<float> result(c, s64(M) * N);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_row = blockIdx.y * tile, first_column = blockIdx.x * tile;
  const int warp_row = 32 * (warp / 2), warp_column = 32 * (warp % 2);
  float sum[2][4][4] = {};

  const auto stage_a = [](int stage) { return Shared<u16>(stage * 8192, tile * depth); };
  const auto stage_b = [](int stage) { return Shared<u16>(stage * 8192 + 4096, tile * depth); };
  const auto copy_stage = [&](int stage, int k) {
    copy_tile(stage_a(stage), left, M, K, first_row, k);
    copy_tile(stage_b(stage), right, N, K, first_column, k);
    commit_copies();
  };

  copy_stage(0, 0);
  const int steps = (K + depth - 1) / depth;
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps)
      copy_stage((step + 1) % stages, (step + 1) * depth);
    else
      commit_copies();
    if (bug != Bug::no_wait) wait_copies<1>();
    if (bug != Bug::no_barrier_before_reads) sync_threads();
    const Shared<u16> rows_a = stage_a(step % stages), rows_b = stage_b(step % stages);
    for (int k = 0; k < depth / 16; ++k) {
      u32 fragment_a[2][4], fragment_b[2][4];
      for (int i = 0; i < 2; ++i) {
        const int row = 16 * i + lane % 16, chunk = 2 * k + lane / 16;
        load_matrix<4>(fragment_a[i], rows_a.at(swizzled(warp_row + row, chunk)));
        const int column = 16 * i + lane % 8 + lane / 16 * 8, chunk_b = 2 * k + lane / 8 % 2;
        load_matrix<4>(fragment_b[i], rows_b.at(swizzled(warp_column + column, chunk_b)));
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
          const u32 pair[2] = {fragment_b[j / 2][j % 2 * 2], fragment_b[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16_f16(sum[i][j], fragment_a[i], pair);
        }
    }
    if (bug != Bug::no_barrier_before_reuse) sync_threads();
  }

  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int v = 0; v < 4; ++v) {
        const int row = first_row + warp_row + 16 * i + lane / 4 + 8 * (v / 2);
        const int column = first_column + warp_column + 8 * j + lane % 4 * 2 + v % 2;
        if (row < M && column < N) result.store(s64(row) * N + column, sum[i][j][v]);
      }
}

#define GEMM(name, bug)                                                 \
  extern "C" __global__ void __launch_bounds__(128)                     \
      name(const u16* a, const u16* b, float* c, int M, int N, int K) { \
    gemm_block<bug>(a, b, c, M, N, K);                                  \
  }                                                                     \
  QCC_KERNEL(name)

GEMM(gemm, Bug::none)
GEMM(gemm_no_wait, Bug::no_wait)
GEMM(gemm_no_barrier_before_reads, Bug::no_barrier_before_reads)
GEMM(gemm_no_barrier_before_reuse, Bug::no_barrier_before_reuse)

}  // namespace qcc
