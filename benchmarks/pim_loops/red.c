/* The sum of an array of 64-bit numbers: one stream in, partial sums by tasklet. */
#include "stream.h"

BARRIER_INIT(all_summed, NR_TASKLETS)
__host uint64_t result;
static uint64_t sums[NR_TASKLETS];
static __dma_aligned uint64_t blocks[NR_TASKLETS][BLOCK / 8];

static uint64_t sum_of(const uint64_t *block) {
    uint64_t sum = 0;
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < BLOCK / 8; ++i) sum += block[i];
    return sum;
}

int main(void) {
    uint64_t sum = 0, *block = blocks[me()];
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&input[at], block, BLOCK);
        sum += sum_of(block);
    }
    sums[me()] = sum;
    barrier_wait(&all_summed);
    if (me() == 0) {
        uint64_t total = 0;
        for (uint32_t t = 0; t < NR_TASKLETS; ++t) total += sums[t];
        result = total;
    }
    return 0;
}
