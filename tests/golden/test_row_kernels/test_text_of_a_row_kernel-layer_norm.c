/*
 * layer_norm: 4 tasklets of a DPU v1A, 6432 bytes of WRAM with stacks, 2336 of MRAM.
 * Built with -DNR_TASKLETS=4 -DSTACK_SIZE_DEFAULT=1024.
 */
#include <qcc_dpu.h>

/* Where arrays begin, in bytes behind MRAM's heap pointer: multiples of 8. */
__host uint32_t mram_offsets[4]; /* base, slope, inputs, results */

static __dma_aligned int16_t base[256];
static __dma_aligned int8_t slope[256];
static __dma_aligned uint32_t numbers_of[NR_TASKLETS][66];
static __dma_aligned int16_t found_of[NR_TASKLETS][64];

BARRIER_INIT(all_tasklets, NR_TASKLETS)

int main(void) {
    const uint32_t tasklet = me();
    __mram_ptr uint8_t *const heap = DPU_MRAM_HEAP_POINTER;
    __mram_ptr int16_t *const mram_base = (__mram_ptr int16_t *)(heap + mram_offsets[0]); /* 256 */
    __mram_ptr int8_t *const mram_slope = (__mram_ptr int8_t *)(heap + mram_offsets[1]); /* 256 */
    __mram_ptr uint32_t *const mram_inputs = (__mram_ptr uint32_t *)(heap +
        mram_offsets[2]); /* 4 x 66 */
    __mram_ptr int16_t *const mram_results = (__mram_ptr int16_t *)(heap +
        mram_offsets[3]); /* 4 x 64 */
    uint32_t *const numbers = numbers_of[tasklet];
    int16_t *const found = found_of[tasklet];
    for (uint32_t first = tasklet; first < 1; first += 4) {
        /* tables, once */
        mram_read(&mram_base[0], &base[0], 512);
        mram_read(&mram_slope[0], &slope[0], 256);
    }
    barrier_wait(&all_tasklets);
    for (uint32_t row = tasklet; row < 4; row += 4) {
        /* a row */
        mram_read(&mram_inputs[66 * row], &numbers[0], 264);
        const uint32_t row_exponent = numbers[64];
        uint32_t sum = 0;
        for (uint32_t i = 0; i < 64; i += 8) {
            sum += numbers[i];
            sum += numbers[i + 1];
            sum += numbers[i + 2];
            sum += numbers[i + 3];
            sum += numbers[i + 4];
            sum += numbers[i + 5];
            sum += numbers[i + 6];
            sum += numbers[i + 7];
        }
        const uint32_t sum_high = (sum >> 16) + (((sum & 65535) + 32) >> 16);
        const uint32_t mean_high = sum_high / 64;
        const uint32_t mean = 65536 * mean_high + ((65536 * sum_high + (((sum & 65535) +
            32) & 65535) - 4194304 * mean_high) / 64);
        uint32_t wide = 1;
        /* the bits of distances from the mean */
        for (uint32_t i_2 = 0; i_2 < 64; i_2 += 4) {
            const uint32_t far = numbers[i_2] - mean;
            wide = (wide | (far ^ (uint32_t)((int32_t)far >> 31)));
            const uint32_t far_2 = numbers[i_2 + 1] - mean;
            wide = (wide | (far_2 ^ (uint32_t)((int32_t)far_2 >> 31)));
            const uint32_t far_3 = numbers[i_2 + 2] - mean;
            wide = (wide | (far_3 ^ (uint32_t)((int32_t)far_3 >> 31)));
            const uint32_t far_4 = numbers[i_2 + 3] - mean;
            wide = (wide | (far_4 ^ (uint32_t)((int32_t)far_4 >> 31)));
        }
        const uint32_t zeros = qcc_leading_zeros(wide);
        const uint32_t bits = 32 - zeros;
        const uint32_t wanted = row_exponent + (bits > 14 ? bits : 14) - 14;
        const uint32_t place = wanted > 24 ? wanted : 24;
        const uint32_t shift = place - row_exponent;
        const uint32_t origin = mean - ((1u << shift) >> 1);
        uint32_t squares_high = 0;
        uint32_t squares_low = 0;
        /* the sum of squares, in two words */
        for (uint32_t group = 0; group < 64; group += 8) {
            uint32_t sum_2 = 0;
            const uint32_t value = (uint32_t)((int32_t)(numbers[group] - origin) >> shift);
            numbers[group] = value;
            sum_2 += 65536 * qcc_mul_hh(value + 128, value + 128) + 512 * qcc_mul_hl(value + 128,
                value) + qcc_mul_ll(value, value);
            const uint32_t value_2 = (uint32_t)((int32_t)(numbers[group + 1] - origin) >> shift);
            numbers[group + 1] = value_2;
            sum_2 += 65536 * qcc_mul_hh(value_2 + 128, value_2 + 128) + 512 * qcc_mul_hl(value_2 +
                128, value_2) + qcc_mul_ll(value_2, value_2);
            const uint32_t value_3 = (uint32_t)((int32_t)(numbers[group + 2] - origin) >> shift);
            numbers[group + 2] = value_3;
            sum_2 += 65536 * qcc_mul_hh(value_3 + 128, value_3 + 128) + 512 * qcc_mul_hl(value_3 +
                128, value_3) + qcc_mul_ll(value_3, value_3);
            const uint32_t value_4 = (uint32_t)((int32_t)(numbers[group + 3] - origin) >> shift);
            numbers[group + 3] = value_4;
            sum_2 += 65536 * qcc_mul_hh(value_4 + 128, value_4 + 128) + 512 * qcc_mul_hl(value_4 +
                128, value_4) + qcc_mul_ll(value_4, value_4);
            const uint32_t value_5 = (uint32_t)((int32_t)(numbers[group + 4] - origin) >> shift);
            numbers[group + 4] = value_5;
            sum_2 += 65536 * qcc_mul_hh(value_5 + 128, value_5 + 128) + 512 * qcc_mul_hl(value_5 +
                128, value_5) + qcc_mul_ll(value_5, value_5);
            const uint32_t value_6 = (uint32_t)((int32_t)(numbers[group + 5] - origin) >> shift);
            numbers[group + 5] = value_6;
            sum_2 += 65536 * qcc_mul_hh(value_6 + 128, value_6 + 128) + 512 * qcc_mul_hl(value_6 +
                128, value_6) + qcc_mul_ll(value_6, value_6);
            const uint32_t value_7 = (uint32_t)((int32_t)(numbers[group + 6] - origin) >> shift);
            numbers[group + 6] = value_7;
            sum_2 += 65536 * qcc_mul_hh(value_7 + 128, value_7 + 128) + 512 * qcc_mul_hl(value_7 +
                128, value_7) + qcc_mul_ll(value_7, value_7);
            const uint32_t value_8 = (uint32_t)((int32_t)(numbers[group + 7] - origin) >> shift);
            numbers[group + 7] = value_8;
            sum_2 += 65536 * qcc_mul_hh(value_8 + 128, value_8 + 128) + 512 * qcc_mul_hl(value_8 +
                128, value_8) + qcc_mul_ll(value_8, value_8);
            squares_high += (sum_2 >> 16);
            squares_low += (sum_2 & 65535);
        }
        const uint32_t down = 2 * place - 48;
        squares_high += (squares_low >> 16);
        squares_high += (171799 >> (down < 31 ? down : 31));
        const uint32_t total = 8192 * squares_high + ((squares_low & 65535) >> 3);
        const uint32_t positive = total > 1 ? total : 1;
        const uint32_t zeros_2 = qcc_leading_zeros(positive);
        const uint32_t index = 16384 * ((34 - zeros_2) & 1) +
            (((positive << zeros_2) >> 17) & 16383);
        const uint32_t index_high = index >> 7;
        const uint32_t factor = qcc_word(base[index_high]) +
            (uint32_t)((int32_t)qcc_mul_ll(qcc_word(slope[index_high]), (index & 127)) >> 7);
        const uint32_t root_shift = (34 - zeros_2) >> 1;
        const uint32_t half = (1u << root_shift) >> 1;
        /* numbers times the factor */
        for (uint32_t i_3 = 0; i_3 < 64; i_3 += 4) {
            const uint32_t value = numbers[i_3];
            found[i_3] = (int16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value + 128, factor +
                128) + 256 * qcc_mul_hl(value + 128, factor) + 256 * qcc_mul_lh(value, factor +
                128) + qcc_mul_ll(value, factor) + half) >> root_shift);
            const uint32_t value_2 = numbers[i_3 + 1];
            found[i_3 + 1] = (int16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value_2 + 128,
                factor + 128) + 256 * qcc_mul_hl(value_2 + 128, factor) + 256 * qcc_mul_lh(value_2,
                factor + 128) + qcc_mul_ll(value_2, factor) + half) >> root_shift);
            const uint32_t value_3 = numbers[i_3 + 2];
            found[i_3 + 2] = (int16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value_3 + 128,
                factor + 128) + 256 * qcc_mul_hl(value_3 + 128, factor) + 256 * qcc_mul_lh(value_3,
                factor + 128) + qcc_mul_ll(value_3, factor) + half) >> root_shift);
            const uint32_t value_4 = numbers[i_3 + 3];
            found[i_3 + 3] = (int16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value_4 + 128,
                factor + 128) + 256 * qcc_mul_hl(value_4 + 128, factor) + 256 * qcc_mul_lh(value_4,
                factor + 128) + qcc_mul_ll(value_4, factor) + half) >> root_shift);
        }
        mram_write(&found[0], &mram_results[64 * row], 128);
    }
    return 0;
}
