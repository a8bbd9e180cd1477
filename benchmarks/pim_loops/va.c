/* Sums of two arrays of 32-bit numbers: two streams in, one out. */
#include "stream.h"

__mram_noinit uint8_t other[INPUT_BYTES];
static __dma_aligned int32_t left[NR_TASKLETS][BLOCK / 4], right[NR_TASKLETS][BLOCK / 4];

static void add(int32_t *sums, const int32_t *terms, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) sums[i] += terms[i];
}

int main(void) {
    int32_t *a = left[me()], *b = right[me()];
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&input[at], a, BLOCK);
        mram_read(&other[at], b, BLOCK);
        add(b, a, BLOCK / 4);
        mram_write(b, &other[at], BLOCK);
    }
    return 0;
}
