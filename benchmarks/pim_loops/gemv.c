/*
 * Rows of 32-bit numbers times a vector, the widths of a row and of a block apart: a row's end is
 * looked for, the sum is in memory, and products are calls whose cost is that of their operands.
 */
#include "stream.h"

#define BLOCK_NUMBERS (BLOCK / 4)

__host uint32_t rows, columns; /* a tasklet takes two rows at a time */
__mram_noinit uint8_t vector[VECTOR_BYTES], products[PRODUCT_BYTES];
static __dma_aligned uint32_t matrix_blocks[NR_TASKLETS][BLOCK_NUMBERS], vector_blocks[NR_TASKLETS][BLOCK_NUMBERS];
static __dma_aligned uint32_t sums[NR_TASKLETS][2];

static void multiply_block(volatile uint32_t *sum, const uint32_t *a, const uint32_t *x) {
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < BLOCK_NUMBERS; ++i) *sum += a[i] * x[i];
}

static void multiply_rest(volatile uint32_t *sum, const uint32_t *a, const uint32_t *x, int32_t rest) {
#pragma clang loop unroll(disable)
    for (int32_t i = 0; i < rest; ++i) {
        if (i >= (int32_t)BLOCK_NUMBERS) break;
        *sum += a[i] * x[i];
    }
}

static void multiply_row(uint32_t row, volatile uint32_t *sum) {
    uint32_t *a = matrix_blocks[me()], *x = vector_blocks[me()];
    int32_t column = 0;
    *sum = 0;
    for (; column < (int32_t)(columns - BLOCK_NUMBERS); column += (int32_t)BLOCK_NUMBERS) {
        mram_read(&input[4 * (row * columns + (uint32_t)column)], a, BLOCK);
        mram_read(&vector[4 * (uint32_t)column], x, BLOCK);
        multiply_block(sum, a, x);
    }
    mram_read(&input[4 * (row * columns + (uint32_t)column)], a, BLOCK);
    mram_read(&vector[4 * (uint32_t)column], x, BLOCK);
    multiply_rest(sum, a, x, (int32_t)columns - column);
}

int main(void) {
    uint32_t *sum = sums[me()];
    for (uint32_t row = 2 * me(); row < rows; row += 2 * NR_TASKLETS) {
        multiply_row(row, &sum[0]);
        multiply_row(row + 1, &sum[1]);
        mram_write(sum, &products[4 * row], 8);
    }
    return 0;
}
