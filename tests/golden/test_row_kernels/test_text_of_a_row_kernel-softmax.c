/*
 * softmax: 4 tasklets of a DPU v1A, 6784 bytes of WRAM with stacks, 2688 of MRAM.
 * Built with -DNR_TASKLETS=4 -DSTACK_SIZE_DEFAULT=1024.
 */
#include <qcc_dpu.h>

/* Where arrays begin, in bytes behind MRAM's heap pointer: multiples of 8. */
__host uint32_t mram_offsets[4]; /* base, slope, inputs, results */

static __dma_aligned int16_t base[384];
static __dma_aligned int8_t slope[384];
static __dma_aligned uint32_t numbers_of[NR_TASKLETS][64];
static __dma_aligned uint16_t found_of[NR_TASKLETS][64];

BARRIER_INIT(all_tasklets, NR_TASKLETS)

int main(void) {
    const uint32_t tasklet = me();
    __mram_ptr uint8_t *const heap = DPU_MRAM_HEAP_POINTER;
    __mram_ptr int16_t *const mram_base = (__mram_ptr int16_t *)(heap + mram_offsets[0]); /* 384 */
    __mram_ptr int8_t *const mram_slope = (__mram_ptr int8_t *)(heap + mram_offsets[1]); /* 384 */
    __mram_ptr uint32_t *const mram_inputs = (__mram_ptr uint32_t *)(heap +
        mram_offsets[2]); /* 4 x 64 */
    __mram_ptr uint16_t *const mram_results = (__mram_ptr uint16_t *)(heap +
        mram_offsets[3]); /* 4 x 64 */
    uint32_t *const numbers = numbers_of[tasklet];
    uint16_t *const found = found_of[tasklet];
    for (uint32_t first = tasklet; first < 1; first += 4) {
        /* tables, once */
        mram_read(&mram_base[0], &base[0], 768);
        mram_read(&mram_slope[0], &slope[0], 384);
    }
    barrier_wait(&all_tasklets);
    for (uint32_t row = tasklet; row < 4; row += 4) {
        /* a row */
        mram_read(&mram_inputs[64 * row], &numbers[0], 256);
        uint32_t top = 0;
        /* the largest number */
        for (uint32_t i = 0; i < 64; i += 4) {
            const uint32_t number = numbers[i];
            top = (top > number ? top : number);
            const uint32_t number_2 = numbers[i + 1];
            top = (top > number_2 ? top : number_2);
            const uint32_t number_3 = numbers[i + 2];
            top = (top > number_3 ? top : number_3);
            const uint32_t number_4 = numbers[i + 3];
            top = (top > number_4 ? top : number_4);
        }
        uint32_t total = 0;
        /* powers of 2 by a table, and their sum */
        for (uint32_t i_2 = 0; i_2 < 64; i_2 += 4) {
            const uint32_t down = top - numbers[i_2];
            const uint32_t inside = down & 16383;
            const uint32_t inside_high = inside >> 7;
            const uint32_t places = down >> 14;
            const uint32_t power = (2048 * qcc_word(base[inside_high]) +
                2048 * (uint32_t)((int32_t)qcc_mul_ll(qcc_word(slope[inside_high]),
                (inside & 127)) >> 6)) >> (places < 31 ? places : 31);
            numbers[i_2] = power;
            total += power;
            const uint32_t down_2 = top - numbers[i_2 + 1];
            const uint32_t inside_2 = down_2 & 16383;
            const uint32_t inside_2_high = inside_2 >> 7;
            const uint32_t places_2 = down_2 >> 14;
            const uint32_t power_2 = (2048 * qcc_word(base[inside_2_high]) +
                2048 * (uint32_t)((int32_t)qcc_mul_ll(qcc_word(slope[inside_2_high]),
                (inside_2 & 127)) >> 6)) >> (places_2 < 31 ? places_2 : 31);
            numbers[i_2 + 1] = power_2;
            total += power_2;
            const uint32_t down_3 = top - numbers[i_2 + 2];
            const uint32_t inside_3 = down_3 & 16383;
            const uint32_t inside_3_high = inside_3 >> 7;
            const uint32_t places_3 = down_3 >> 14;
            const uint32_t power_3 = (2048 * qcc_word(base[inside_3_high]) +
                2048 * (uint32_t)((int32_t)qcc_mul_ll(qcc_word(slope[inside_3_high]),
                (inside_3 & 127)) >> 6)) >> (places_3 < 31 ? places_3 : 31);
            numbers[i_2 + 2] = power_3;
            total += power_3;
            const uint32_t down_4 = top - numbers[i_2 + 3];
            const uint32_t inside_4 = down_4 & 16383;
            const uint32_t inside_4_high = inside_4 >> 7;
            const uint32_t places_4 = down_4 >> 14;
            const uint32_t power_4 = (2048 * qcc_word(base[inside_4_high]) +
                2048 * (uint32_t)((int32_t)qcc_mul_ll(qcc_word(slope[inside_4_high]),
                (inside_4 & 127)) >> 6)) >> (places_4 < 31 ? places_4 : 31);
            numbers[i_2 + 3] = power_4;
            total += power_4;
        }
        const uint32_t zeros = qcc_leading_zeros(total);
        const uint32_t mantissa = ((total << zeros) >> 16) & 32767;
        const uint32_t mantissa_high = mantissa >> 7;
        const uint32_t factor = qcc_word(base[mantissa_high + 128]) +
            (uint32_t)((int32_t)qcc_mul_ll(qcc_word(slope[mantissa_high + 128]),
            (mantissa & 127)) >> 7);
        const uint32_t half = (1u << (20 - zeros)) >> 1;
        /* numbers times the factor */
        for (uint32_t i_3 = 0; i_3 < 64; i_3 += 4) {
            const uint32_t value = numbers[i_3] >> 11;
            found[i_3] = (uint16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value + 128, factor +
                128) + 256 * qcc_mul_hl(value + 128, factor) + 256 * qcc_mul_lh(value, factor +
                128) + qcc_mul_ll(value, factor) + half) >> (20 - zeros));
            const uint32_t value_2 = numbers[i_3 + 1] >> 11;
            found[i_3 + 1] = (uint16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value_2 + 128,
                factor + 128) + 256 * qcc_mul_hl(value_2 + 128, factor) + 256 * qcc_mul_lh(value_2,
                factor + 128) + qcc_mul_ll(value_2, factor) + half) >> (20 - zeros));
            const uint32_t value_3 = numbers[i_3 + 2] >> 11;
            found[i_3 + 2] = (uint16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value_3 + 128,
                factor + 128) + 256 * qcc_mul_hl(value_3 + 128, factor) + 256 * qcc_mul_lh(value_3,
                factor + 128) + qcc_mul_ll(value_3, factor) + half) >> (20 - zeros));
            const uint32_t value_4 = numbers[i_3 + 3] >> 11;
            found[i_3 + 3] = (uint16_t)(uint32_t)((int32_t)(65536 * qcc_mul_hh(value_4 + 128,
                factor + 128) + 256 * qcc_mul_hl(value_4 + 128, factor) + 256 * qcc_mul_lh(value_4,
                factor + 128) + qcc_mul_ll(value_4, factor) + half) >> (20 - zeros));
        }
        mram_write(&found[0], &mram_results[64 * row], 128);
    }
    return 0;
}
