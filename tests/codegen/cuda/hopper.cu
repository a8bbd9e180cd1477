// Y^T = W X^T on sm_90a by hand: one warp group multiplies, a warp of its own fetches X by tensor
// copies into a ring of stages; W comes from registers, or by tensor copies too.
#include "qcc_cuda.cuh"

namespace qcc {

enum class Bug { none, no_wait, no_expect, released_too_early, not_awaited };

constexpr int rows = 64, tokens = 32, row_bytes = 128, stages = 2;
constexpr u32 x_bytes = tokens * row_bytes, w_bytes = rows * row_bytes;
constexpr u32 stage_bytes = x_bytes + w_bytes, barriers_at = stages * stage_bytes;

QCC_DEVICE Shared<u64> full(int stage) { return Shared<u64>(barriers_at, 2 * stages).at(stage); }
QCC_DEVICE Shared<u64> empty(int stage) {
  return Shared<u64>(barriers_at, 2 * stages).at(stages + stage);
}
QCC_DEVICE Shared<u8> x_tile(int stage) { return Shared<u8>(stage * stage_bytes, x_bytes); }
QCC_DEVICE Shared<u8> w_tile(int stage) {
  return Shared<u8>(stage * stage_bytes + x_bytes, w_bytes);
}

// Steps of 128 bytes of K. `elements` of them are one word of a fragment.
template <Bug bug, bool w_in_shared>
QCC_DEVICE void fetch(const TensorMap& x, const TensorMap& w, int steps, int elements) {
  for (int step = 0; step < steps; ++step) {
    const int stage = step % stages;
    if (step >= stages) mbarrier_wait(empty(stage), (step / stages - 1) & 1);
    if (bug != Bug::no_expect)
      mbarrier_expect(full(stage), w_in_shared ? stage_bytes : x_bytes);
    else
      mbarrier_arrive(full(stage));
    load_tensor_2d(x_tile(stage), x, full(stage), step * 32 * elements, 0);
    if (w_in_shared)
      load_tensor_2d(w_tile(stage), w, full(stage), step * 32 * elements, blockIdx.x * rows);
  }
}

// d[tokens / 2] of each lane += products over K; `multiply` is one instruction, 32 bytes of K.
template <Bug bug, bool w_in_shared, typename T, typename Multiply>
QCC_DEVICE void product(const TensorMap& x, const TensorMap& w, const u32* w_words, T* y, int K,
                        int elements, Multiply multiply) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, steps = K / (32 * elements);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < stages; ++stage) {
      mbarrier_init(full(stage), 1);
      mbarrier_init(empty(stage), 4);
    }
    fence_mbarrier_init();
  }
  sync_threads();
  if (warp >= 4) {
    if (threadIdx.x == 128) fetch<bug, w_in_shared>(x, w, steps, elements);
    return;
  }
  T d[tokens / 2] = {};
  const int row = blockIdx.x * rows + 16 * warp + lane / 4, row_words = K / elements;
  const Global<const u32> weights(w_words, s64(gridDim.x) * rows * row_words);
  for (int step = 0; step < steps; ++step) {
    const int stage = step % stages;
    if (bug != Bug::no_wait) mbarrier_wait(full(stage), step / stages & 1);
    u32 a[4][4];
    for (int k = 0; k < 4 && !w_in_shared; ++k)
      for (int v = 0; v < 4; ++v)
        a[k][v] = weights.load(s64(row + 8 * (v & 1)) * row_words + 32 * step + 8 * k +
                               4 * (v >> 1) + lane % 4);
    wgmma_fence();
    for (int k = 0; k < 4; ++k)
      multiply(d, a[k], w_in_shared ? wgmma_operand<128>(w_tile(stage).at(32 * k)) : 0,
               wgmma_operand<128>(x_tile(stage).at(32 * k)));
    wgmma_commit();
    if (bug == Bug::released_too_early) {
      sync_warp();
      if (lane == 0) mbarrier_arrive(empty(stage));
    }
    if (bug != Bug::not_awaited) wgmma_wait<0>();
    if (bug != Bug::released_too_early && lane == 0) mbarrier_arrive(empty(stage));
  }
  const Global<T> result(y, s64(gridDim.x) * rows * tokens);
  for (int v = 0; v < tokens / 2; ++v)
    result.store(s64(row + 8 * (v >> 1 & 1)) * tokens + v / 4 * 8 + lane % 4 * 2 + v % 2, d[v]);
}

#define PRODUCT(kernel, name, bug, w_in_shared, T, elements, a_or_rows)                         \
  extern "C" __global__ void __launch_bounds__(160)                                             \
      kernel(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w,          \
             const u32* w_words, T* y, int K) {                                                 \
    product<bug, w_in_shared>(x, w, w_words, y, K, elements,                                    \
                              [](T(&d)[tokens / 2], const u32(&a)[4], u64 w_rows, u64 x_rows) { \
                                (void)a, (void)w_rows;                                          \
                                wgmma_##name(d, a_or_rows, x_rows);                             \
                              });                                                               \
  }                                                                                             \
  QCC_KERNEL(kernel)

PRODUCT(f16_registers, m64k16_f16, Bug::none, false, float, 2, a)
PRODUCT(f16_shared, m64k16_f16, Bug::none, true, float, 2, w_rows)
PRODUCT(bf16_registers, m64k16_bf16, Bug::none, false, float, 2, a)
PRODUCT(e4m3_registers, m64k32_e4m3, Bug::none, false, float, 4, a)
PRODUCT(e4m3_shared, m64k32_e4m3, Bug::none, true, float, 4, w_rows)
PRODUCT(e5m2_registers, m64k32_e5m2, Bug::none, false, float, 4, a)
PRODUCT(s8_registers, m64k32_s8, Bug::none, false, s32, 4, a)
PRODUCT(s8_shared, m64k32_s8, Bug::none, true, s32, 4, w_rows)
PRODUCT(u8s8_registers, m64k32_u8s8, Bug::none, false, s32, 4, a)
PRODUCT(bug_no_wait, m64k16_f16, Bug::no_wait, true, float, 2, w_rows)
PRODUCT(bug_no_expect, m64k16_f16, Bug::no_expect, true, float, 2, w_rows)
PRODUCT(bug_released_too_early, m64k16_f16, Bug::released_too_early, true, float, 2, w_rows)
PRODUCT(bug_not_awaited, m64k16_f16, Bug::not_awaited, true, float, 2, w_rows)

// X is written by the threads themselves, all ones: products read it by another path of hardware.
template <bool fenced>
QCC_DEVICE void product_of_ones(float* y) {
  x_tile(0).store<16>(32 * threadIdx.x, {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00});
  x_tile(0).store<16>(32 * threadIdx.x + 16, {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00});
  if (fenced) fence_async_proxy();
  sync_threads();
  const u32 ones[4] = {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00};
  float d[tokens / 2] = {};
  wgmma_fence();
  wgmma_m64k16_f16(d, ones, wgmma_operand<128>(x_tile(0)));
  wgmma_commit();
  wgmma_wait<0>();
  Global<float>(y, 128).store(threadIdx.x, d[5]);
}

extern "C" __global__ void __launch_bounds__(128) ones_fenced(float* y) {
  product_of_ones<true>(y);
}
QCC_KERNEL(ones_fenced)
extern "C" __global__ void __launch_bounds__(128) ones_not_fenced(float* y) {
  product_of_ones<false>(y);
}
QCC_KERNEL(ones_not_fenced)

// Everything that moves data and is in no product: a bulk copy, boxes of three and four
// dimensions, matrices stored, registers handed over. Thread 0 asks, all threads look.
extern "C" __global__ void __launch_bounds__(128, 1)
    move_boxes(const u32* words, const __grid_constant__ TensorMap cube,
               const __grid_constant__ TensorMap tesseract, u32* results) {
  const Global<const u32> source(words, 64);
  const Global<u32> out(results, 4 * 64);
  const Shared<u32> bulk(0, 64), box3(256, 64), box4(512, 64), matrix(768, 64);
  const Shared<u64> ready(1024, 1);
  const int i = threadIdx.x;
  if (i == 0) {
    mbarrier_init(ready, 1);
    fence_mbarrier_init();
    prefetch_tensor_map(cube);
    mbarrier_expect(ready, 3 * 256);
    copy_bulk(bulk, source, 256, ready);
    load_tensor_3d(box3, cube, ready, 4, 1, 2);
    load_tensor_4d(box4, tesseract, ready, 0, -1, 0, 1);
  }
  sync_threads();
  decrease_registers<40>();
  mbarrier_wait(ready, 0);
  if (i < 64) {
    out.store(i, bulk.load(i));
    out.store(64 + i, box3.load(i));
    out.store(128 + i, box4.load(i));
  }
  if (i < 32) {
    const u32 fragment[2] = {bulk.load(i), bulk.load(32 + i)};
    store_matrix<2>(matrix.at(4 * (i & 15)), fragment);
    sync_warp();
    out.store(192 + i, matrix.load(i));
    out.store(224 + i, matrix.load(32 + i));
  }
}
QCC_KERNEL(move_boxes)

}  // namespace qcc
