/* Counts of 12-bit values in one table that all tasklets share, behind a mutex. */
#include <mutex.h>

#include "stream.h"

#define BINS 256u

MUTEX_INIT(table_lock)
__host uint32_t bins;
__host uint32_t result[BINS];
static __dma_aligned uint32_t blocks[NR_TASKLETS][BLOCK / 4];

static void count(uint32_t *table, const uint32_t *values, uint32_t bins_here) {
    for (uint32_t i = 0; i < BLOCK / 4; ++i) {
        uint32_t bin = values[i] * bins_here >> 12;
        mutex_lock(table_lock);
        table[bin] += 1;
        mutex_unlock(table_lock);
    }
}

int main(void) {
    uint32_t *block = blocks[me()];
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&input[at], block, BLOCK);
        count(result, block, bins);
    }
    return 0;
}
