/*
 * Prefix sums of 64-bit numbers. Two passes: sums of parts, then sums within blocks on top of what
 * lies before. SCAN_FIRST scans in the first pass and adds in the second (SSA); else the first
 * pass only sums and the second scans (RSS).
 */
#include <handshake.h>

#include "stream.h"

BARRIER_INIT(all_summed, NR_TASKLETS)
__mram_noinit uint8_t scanned[INPUT_BYTES];
__host uint64_t result;
__host uint64_t before_dpu;
__host uint32_t second_pass;
static uint64_t passed_on[NR_TASKLETS + 1];
static __dma_aligned uint64_t blocks[NR_TASKLETS][BLOCK / 8], results[NR_TASKLETS][BLOCK / 8];

static uint64_t scan_block(uint64_t *to, const uint64_t *from) {
    uint64_t sum = 0;
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < BLOCK / 8; ++i) to[i] = sum += from[i];
    return sum;
}

static uint64_t sum_block(const uint64_t *from) {
    uint64_t sum = 0;
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < BLOCK / 8; ++i) sum += from[i];
    return sum;
}

static void add_to_block(uint64_t *block, uint64_t term) {
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < BLOCK / 8; ++i) block[i] += term;
}

/* What the tasklets before this one summed up in this round, on top of `start` for the first. */
static uint64_t sums_before(uint64_t sum) {
    if (me() != 0) handshake_wait_for(me() - 1);
    uint64_t before = passed_on[me()];
    passed_on[me() + 1] = before + sum;
    if (me() < NR_TASKLETS - 1) handshake_notify();
    return before;
}

static void scan_all(void) {
    uint64_t *block = blocks[me()], *to = results[me()];
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&input[at], block, BLOCK);
        uint64_t sum = scan_block(to, block), before = sums_before(sum);
        add_to_block(to, before);
        mram_write(to, &scanned[at], BLOCK);
        barrier_wait(&all_summed);
        if (me() == 0) passed_on[0] = passed_on[NR_TASKLETS];
        barrier_wait(&all_summed);
    }
    if (me() == 0) result = passed_on[0];
}

#ifdef SCAN_FIRST
static void first(void) { scan_all(); }

static void second(void) {
    uint64_t *block = blocks[me()];
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&scanned[at], block, BLOCK);
        add_to_block(block, before_dpu);
        mram_write(block, &scanned[at], BLOCK);
    }
}
#else
static void first(void) {
    uint64_t sum = 0, *block = blocks[me()];
    for (uint32_t at = FIRST_BLOCK; at < bytes; at += STEP) {
        mram_read(&input[at], block, BLOCK);
        sum += sum_block(block);
    }
    passed_on[me() + 1] = sum;
    barrier_wait(&all_summed);
    if (me() != 0) return;
    for (uint32_t t = 0; t < NR_TASKLETS; ++t) result += passed_on[t + 1];
}

static void second(void) { scan_all(); }
#endif

int main(void) {
    if (me() == 0) passed_on[0] = before_dpu;
    barrier_wait(&all_summed);
    if (second_pass) second();
    else first();
    return 0;
}
