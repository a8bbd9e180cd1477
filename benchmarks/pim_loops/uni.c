/* An array of 64-bit numbers without repetitions of the number before. */
#include "chain.h"

BARRIER_INIT(all_counted, NR_TASKLETS)
__mram_noinit uint8_t unique[INPUT_BYTES];
__host uint32_t result;
static uint64_t ends[NR_TASKLETS + 1];
static __dma_aligned uint64_t read_blocks[NR_TASKLETS][BLOCK / 8], kept_blocks[NR_TASKLETS][BLOCK / 8];

static uint32_t keep_changes(uint64_t *kept, const uint64_t *values) {
    uint32_t count = 1;
    uint64_t last = kept[0] = values[0];
#pragma clang loop unroll(disable)
    for (uint32_t i = 1; i < BLOCK / 8; ++i) {
        if (values[i] == last) continue;
        last = kept[count] = values[i];
        ++count;
    }
    return count;
}

int main(void) {
    uint64_t *block = read_blocks[me()], *kept = kept_blocks[me()];
    uint32_t found = 0, turn = 0;
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP, turn ^= 1) {
        mram_read(&input[at], block, BLOCK);
        uint32_t count = keep_changes(kept, block), repeats = 0;
        uint64_t last = kept[count - 1];
        /* Its first number may end the block before, which another tasklet has. */
        if (me() != 0) handshake_wait_for(me() - 1);
        uint32_t before = found_before[me()];
        if ((found + before) && ends[me()] == kept[0]) repeats = 1;
        if (me() < NR_TASKLETS - 1) {
            ends[me() + 1] = last;
            found_before[me() + 1] = before + count - repeats;
            handshake_notify();
        }
        if (repeats) for (uint32_t i = 1; i < count; ++i) kept[i - 1] = kept[i];
        count -= repeats;
        if (me() == NR_TASKLETS - 1) {
            ends[0] = last;
            found_in_round[turn] = before + count;
        }
        barrier_wait(&all_counted);
        if (count) mram_write(kept, &unique[8 * (found + before)], 8 * count);
        found += found_in_round[turn];
    }
    if (me() == 0) result = found;
    return 0;
}
