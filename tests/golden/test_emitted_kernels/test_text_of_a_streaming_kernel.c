/*
 * product: 16 tasklets of a DPU v1A, 31232 bytes of WRAM with stacks, 182528 of MRAM.
 * results[n, m] = sum over k of W(w[m, k]) A(a[n, k]), on each DPU of
 * 64 rows x 768 inputs x 16 tokens.
 * LoCaLUT, 6 codes a group: table[column of the sorted inputs][weights in
 * their order], reorder[permutation][weights as stored]; places are both numbers.
 * Built with -DNR_TASKLETS=16 -DSTACK_SIZE_DEFAULT=1024.
 */
#include <qcc_dpu.h>

/* Where arrays begin, in bytes behind MRAM's heap pointer: multiples of 8. */
__host uint32_t mram_offsets[5]; /* table, reorder, weights, places, results */

static __dma_aligned int8_t slices_of[NR_TASKLETS][256];
static __dma_aligned uint8_t orders_of[NR_TASKLETS][256];
static __dma_aligned uint32_t places_of[NR_TASKLETS][8];
static __dma_aligned uint8_t codes_of[NR_TASKLETS][256];
static __dma_aligned int16_t sums_of[NR_TASKLETS][64];

int main(void) {
    const uint32_t tasklet = me();
    __mram_ptr uint8_t *const heap = DPU_MRAM_HEAP_POINTER;
    __mram_ptr int8_t *const mram_table = (__mram_ptr int8_t *)(heap +
        mram_offsets[0]); /* 1716 x 64 */
    __mram_ptr uint8_t *const mram_reorder = heap + mram_offsets[1]; /* 720 x 64 */
    __mram_ptr uint8_t *const mram_weights = heap + mram_offsets[2]; /* 32 x 1 x 4 x 64 */
    __mram_ptr uint32_t *const mram_places = (__mram_ptr uint32_t *)(heap +
        mram_offsets[3]); /* 16 x 128 x 2 */
    __mram_ptr int16_t *const mram_results = (__mram_ptr int16_t *)(heap +
        mram_offsets[4]); /* 16 x 64 */
    int8_t *const slices = slices_of[tasklet];
    uint8_t *const orders = orders_of[tasklet];
    uint32_t *const places = places_of[tasklet];
    uint8_t *const codes = codes_of[tasklet];
    int16_t *const sums = sums_of[tasklet];
    /* tokens of this tasklet */
    for (uint32_t token = tasklet; token < 16; token += 16) {
        for (uint32_t i = 0; i < 64; i += 8) {
            sums[i] = 0;
            sums[i + 1] = 0;
            sums[i + 2] = 0;
            sums[i + 3] = 0;
            sums[i + 4] = 0;
            sums[i + 5] = 0;
            sums[i + 6] = 0;
            sums[i + 7] = 0;
        }
        for (uint32_t chunk = 0; chunk < 32; ++chunk) {
            /* columns of groups */
            mram_read(&mram_places[256 * token + 8 * chunk], &places[0], 32);
            mram_read(&mram_table[64 * places[0]], &slices[0], 64);
            mram_read(&mram_reorder[64 * places[1]], &orders[0], 64);
            mram_read(&mram_table[64 * places[2]], &slices[64], 64);
            mram_read(&mram_reorder[64 * places[3]], &orders[64], 64);
            mram_read(&mram_table[64 * places[4]], &slices[128], 64);
            mram_read(&mram_reorder[64 * places[5]], &orders[128], 64);
            mram_read(&mram_table[64 * places[6]], &slices[192], 64);
            mram_read(&mram_reorder[64 * places[7]], &orders[192], 64);
            /* codes of rows */
            mram_read(&mram_weights[256 * chunk], &codes[0], 256);
            for (uint32_t row = 0; row < 64; row += 4) {
                uint32_t sum = qcc_word(sums[row]);
                sum += qcc_word(slices[orders[codes[row]]]);
                sum += qcc_word(slices[orders[codes[row + 64] + 64] + 64]);
                sum += qcc_word(slices[orders[codes[row + 128] + 128] + 128]);
                sum += qcc_word(slices[orders[codes[row + 192] + 192] + 192]);
                qcc_in_order();
                sums[row] = (int16_t)sum;
                uint32_t sum_2 = qcc_word(sums[row + 1]);
                sum_2 += qcc_word(slices[orders[codes[row + 1]]]);
                sum_2 += qcc_word(slices[orders[codes[row + 65] + 64] + 64]);
                sum_2 += qcc_word(slices[orders[codes[row + 129] + 128] + 128]);
                sum_2 += qcc_word(slices[orders[codes[row + 193] + 192] + 192]);
                qcc_in_order();
                sums[row + 1] = (int16_t)sum_2;
                uint32_t sum_3 = qcc_word(sums[row + 2]);
                sum_3 += qcc_word(slices[orders[codes[row + 2]]]);
                sum_3 += qcc_word(slices[orders[codes[row + 66] + 64] + 64]);
                sum_3 += qcc_word(slices[orders[codes[row + 130] + 128] + 128]);
                sum_3 += qcc_word(slices[orders[codes[row + 194] + 192] + 192]);
                qcc_in_order();
                sums[row + 2] = (int16_t)sum_3;
                uint32_t sum_4 = qcc_word(sums[row + 3]);
                sum_4 += qcc_word(slices[orders[codes[row + 3]]]);
                sum_4 += qcc_word(slices[orders[codes[row + 67] + 64] + 64]);
                sum_4 += qcc_word(slices[orders[codes[row + 131] + 128] + 128]);
                sum_4 += qcc_word(slices[orders[codes[row + 195] + 192] + 192]);
                qcc_in_order();
                sums[row + 3] = (int16_t)sum_4;
            }
        }
        mram_write(&sums[0], &mram_results[64 * token], 128);
    }
    return 0;
}
