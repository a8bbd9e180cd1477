/*
 * product: 16 tasklets of a DPU v1A, 20352 bytes of WRAM with stacks, 69632 of MRAM.
 * results[n, m] = sum over k of W(w[m, k]) A(a[n, k]), on each DPU of
 * 256 rows x 768 inputs x 16 tokens.
 * A table for each group of 4 inputs, made here: entry r is the sum of the
 * inputs, each times one of the 4 weights of 1 bits that are packed in r.
 * A word holds two tokens, a_0 + 2^16 a_1, so that a sum of words is both sums.
 * Built with -DNR_TASKLETS=16 -DSTACK_SIZE_DEFAULT=1024.
 */
#include <qcc_dpu.h>

/* Where arrays begin, in bytes behind MRAM's heap pointer: multiples of 8. */
__host uint32_t mram_offsets[3]; /* weights, inputs, results */

static __dma_aligned uint32_t table[128];
static __dma_aligned int8_t inputs_of[NR_TASKLETS][16];
static __dma_aligned uint8_t codes_of[NR_TASKLETS][64];
static __dma_aligned uint32_t sums_of[NR_TASKLETS][32];

BARRIER_INIT(all_tasklets, NR_TASKLETS)

int main(void) {
    const uint32_t tasklet = me();
    __mram_ptr uint8_t *const heap = DPU_MRAM_HEAP_POINTER;
    __mram_ptr uint8_t *const mram_weights = heap + mram_offsets[0]; /* 48 x 256 x 4 */
    __mram_ptr int8_t *const mram_inputs = (__mram_ptr int8_t *)(heap +
        mram_offsets[1]); /* 4 x 192 x 16 */
    __mram_ptr uint32_t *const mram_results = (__mram_ptr uint32_t *)(heap +
        mram_offsets[2]); /* 4 x 256 x 2 */
    int8_t *const inputs = inputs_of[tasklet];
    uint8_t *const codes = codes_of[tasklet];
    uint32_t *const sums = sums_of[tasklet];
    /* tiles of 4 tokens, of all tasklets */
    for (uint32_t tile = 0; tile < 4; ++tile) {
        for (uint32_t i = 0; i < 32; i += 8) {
            sums[i] = 0;
            sums[i + 1] = 0;
            sums[i + 2] = 0;
            sums[i + 3] = 0;
            sums[i + 4] = 0;
            sums[i + 5] = 0;
            sums[i + 6] = 0;
            sums[i + 7] = 0;
        }
        for (uint32_t chunk = 0; chunk < 48; ++chunk) {
            /* tables of 4 groups, a tasklet for each */
            for (uint32_t item = tasklet; item < 4; item += 16) {
                /* a group of inputs */
                mram_read(&mram_inputs[3072 * tile + 64 * chunk + 16 * item], &inputs[0], 16);
                for (uint32_t word = 0; word < 2; ++word) {
                    const uint32_t value = 65536 * qcc_word(inputs[2 * word + 1]) +
                        qcc_word(inputs[2 * word]);
                    const uint32_t value_2 = 65536 * qcc_word(inputs[2 * word + 5]) +
                        qcc_word(inputs[2 * word + 4]);
                    const uint32_t value_3 = 65536 * qcc_word(inputs[2 * word + 9]) +
                        qcc_word(inputs[2 * word + 8]);
                    const uint32_t value_4 = 65536 * qcc_word(inputs[2 * word + 13]) +
                        qcc_word(inputs[2 * word + 12]);
                    const uint32_t value_5 = 0 - value - value_2 - value_3 - value_4;
                    const uint32_t value_6 = 32 * item + word;
                    table[value_6] = value_5;
                    const uint32_t value_7 = value_5 + 2 * value;
                    table[value_6 + 2] = value_7;
                    const uint32_t value_8 = value_7 + 2 * value_2;
                    table[value_6 + 6] = value_8;
                    const uint32_t value_9 = value_8 - 2 * value;
                    table[value_6 + 4] = value_9;
                    const uint32_t value_10 = value_9 + 2 * value_3;
                    table[value_6 + 12] = value_10;
                    const uint32_t value_11 = value_10 + 2 * value;
                    table[value_6 + 14] = value_11;
                    const uint32_t value_12 = value_11 - 2 * value_2;
                    table[value_6 + 10] = value_12;
                    const uint32_t value_13 = value_12 - 2 * value;
                    table[value_6 + 8] = value_13;
                    const uint32_t value_14 = value_13 + 2 * value_4;
                    table[value_6 + 24] = value_14;
                    const uint32_t value_15 = value_14 + 2 * value;
                    table[value_6 + 26] = value_15;
                    const uint32_t value_16 = value_15 + 2 * value_2;
                    table[value_6 + 30] = value_16;
                    const uint32_t value_17 = value_16 - 2 * value;
                    table[value_6 + 28] = value_17;
                    const uint32_t value_18 = value_17 - 2 * value_3;
                    table[value_6 + 20] = value_18;
                    const uint32_t value_19 = value_18 + 2 * value;
                    table[value_6 + 22] = value_19;
                    const uint32_t value_20 = value_19 - 2 * value_2;
                    table[value_6 + 18] = value_20;
                    table[value_6 + 16] = value_20 - 2 * value;
                }
            }
            barrier_wait(&all_tasklets);
            /* codes of rows */
            mram_read(&mram_weights[1024 * chunk + 64 * tasklet], &codes[0], 64);
            for (uint32_t row = 0; row < 16; row += 2) {
                uint32_t sum = sums[2 * row];
                uint32_t sum_2 = sums[2 * row + 1];
                const uint32_t code = codes[4 * row];
                sum += table[2 * code];
                sum_2 += table[2 * code + 1];
                qcc_in_order();
                const uint32_t code_2 = codes[4 * row + 1];
                sum += table[2 * code_2 + 32];
                sum_2 += table[2 * code_2 + 33];
                qcc_in_order();
                const uint32_t code_3 = codes[4 * row + 2];
                sum += table[2 * code_3 + 64];
                sum_2 += table[2 * code_3 + 65];
                qcc_in_order();
                const uint32_t code_4 = codes[4 * row + 3];
                sum += table[2 * code_4 + 96];
                sum_2 += table[2 * code_4 + 97];
                qcc_in_order();
                sums[2 * row] = sum;
                sums[2 * row + 1] = sum_2;
                uint32_t sum_3 = sums[2 * row + 2];
                uint32_t sum_4 = sums[2 * row + 3];
                const uint32_t code_5 = codes[4 * row + 4];
                sum_3 += table[2 * code_5];
                sum_4 += table[2 * code_5 + 1];
                qcc_in_order();
                const uint32_t code_6 = codes[4 * row + 5];
                sum_3 += table[2 * code_6 + 32];
                sum_4 += table[2 * code_6 + 33];
                qcc_in_order();
                const uint32_t code_7 = codes[4 * row + 6];
                sum_3 += table[2 * code_7 + 64];
                sum_4 += table[2 * code_7 + 65];
                qcc_in_order();
                const uint32_t code_8 = codes[4 * row + 7];
                sum_3 += table[2 * code_8 + 96];
                sum_4 += table[2 * code_8 + 97];
                qcc_in_order();
                sums[2 * row + 2] = sum_3;
                sums[2 * row + 3] = sum_4;
            }
            barrier_wait(&all_tasklets);
        }
        mram_write(&sums[0], &mram_results[512 * tile + 32 * tasklet], 128);
    }
    return 0;
}
