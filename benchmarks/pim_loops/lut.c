/*
 * A tile of a layer by table lookup: each row has CB indices, an index chooses F entries of 8 bits
 * in the table of its place, and F sums of 32 bits take them. The table is in WRAM.
 */
#include <qcc_dpu.h>

#define CHOICES 16u
#define INDEX_BYTES ((2u * CB + 7u) / 8u * 8u)
#define SUM_BYTES (4u * F)
#define SUMS_TRAVEL (SUM_BYTES % 8 == 0) /* else they stay where they are: DMA has no such size */

__host uint32_t rows;
__host int8_t table[CB * CHOICES * F];
__mram_noinit uint8_t indices[ROWS * INDEX_BYTES], sums[ROWS * (SUM_BYTES + 8)];
static __dma_aligned uint16_t row_indices[NR_TASKLETS][INDEX_BYTES / 2];
static __dma_aligned int32_t row_sums[NR_TASKLETS][(F + 1) / 2 * 2];

static void accumulate(int32_t *restrict to, const uint16_t *restrict index) {
    int32_t sum[F];
    for (uint32_t f = 0; f < F; ++f) sum[f] = to[f];
    for (uint32_t c = 0; c < CB; ++c) {
        const int8_t *entries = &table[(c * CHOICES + index[c]) * F];
        for (uint32_t f = 0; f < F; ++f) sum[f] += entries[f];
    }
    for (uint32_t f = 0; f < F; ++f) to[f] = sum[f];
}

/* Too many sums for registers: they stay in memory, and nothing is unrolled. */
static void accumulate_in_memory(int32_t *to, const uint16_t *index) {
    for (uint32_t c = 0; c < CB; ++c) {
        const int8_t *entries = &table[(c * CHOICES + index[c]) * F];
#pragma clang loop unroll(disable)
        for (uint32_t f = 0; f < F; ++f) to[f] += entries[f];
    }
}

int main(void) {
    uint16_t *index = row_indices[me()];
    int32_t *to = row_sums[me()];
    for (uint32_t row = me(); row < rows; row += NR_TASKLETS) {
        mram_read(&indices[row * INDEX_BYTES], index, INDEX_BYTES);
        if (SUMS_TRAVEL) mram_read(&sums[row * SUM_BYTES], to, SUM_BYTES);
        if (F < 64) accumulate(to, index);
        else accumulate_in_memory(to, index);
        if (SUMS_TRAVEL) mram_write(to, &sums[row * SUM_BYTES], SUM_BYTES);
    }
    return 0;
}
