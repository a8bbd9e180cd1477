/* The odd ones of an array of 64-bit numbers, in their order: tasklets learn where to write by a chain. */
#include "chain.h"

BARRIER_INIT(all_counted, NR_TASKLETS)
__mram_noinit uint8_t selected[INPUT_BYTES];
__host uint32_t result;
static __dma_aligned uint64_t read_blocks[NR_TASKLETS][BLOCK / 8], kept_blocks[NR_TASKLETS][BLOCK / 8];

static uint32_t select(uint64_t *kept, const uint64_t *values) {
    uint32_t count = 0;
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < BLOCK / 8; ++i) {
        if (values[i] % 2 == 0) continue;
        kept[count] = values[i];
        ++count;
    }
    return count;
}

int main(void) {
    uint64_t *block = read_blocks[me()], *kept = kept_blocks[me()];
    uint32_t found = 0, turn = 0;
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP, turn ^= 1) {
        mram_read(&input[at], block, BLOCK);
        uint32_t count = select(kept, block), before = counted_before(count);
        if (me() == NR_TASKLETS - 1) found_in_round[turn] = before + count;
        barrier_wait(&all_counted);
        if (count) mram_write(kept, &selected[8 * (found + before)], 8 * count);
        found += found_in_round[turn];
    }
    if (me() == 0) result = found;
    return 0;
}
