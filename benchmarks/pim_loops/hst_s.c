/* Counts of 12-bit values in `bins` bins, in a table of each tasklet's own, added up at the end. */
#include "stream.h"

#define BINS 256u

BARRIER_INIT(all_counted, NR_TASKLETS)
__host uint32_t bins;
__host uint32_t result[BINS];
static uint32_t counts[NR_TASKLETS][BINS];
static __dma_aligned uint32_t blocks[NR_TASKLETS][BLOCK / 4];

static void count(uint32_t *table, const uint32_t *values, uint32_t bins_here) {
    for (uint32_t i = 0; i < BLOCK / 4; ++i) table[values[i] * bins_here >> 12] += 1;
}

int main(void) {
    uint32_t *table = counts[me()], *block = blocks[me()];
    for (uint32_t i = 0; i < BINS; ++i) table[i] = 0;
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&input[at], block, BLOCK);
        count(table, block, bins);
    }
    barrier_wait(&all_counted);
    for (uint32_t i = me(); i < bins; i += NR_TASKLETS) {
        uint32_t sum = 0;
        for (uint32_t t = 0; t < NR_TASKLETS; ++t) sum += counts[t][i];
        result[i] = sum;
    }
    return 0;
}
