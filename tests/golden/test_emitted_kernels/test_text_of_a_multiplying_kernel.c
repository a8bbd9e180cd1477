/*
 * product: 16 tasklets of a DPU v1A, 38912 bytes of WRAM with stacks, 65536 of MRAM.
 * results[n, m] = sum over k of W(w[m, k]) A(a[n, k]), on each DPU of
 * 64 rows x 768 inputs x 16 tokens.
 * Four codes a word, a product of bytes a slot.
 * Built with -DNR_TASKLETS=16 -DSTACK_SIZE_DEFAULT=1024.
 */
#include <qcc_dpu.h>

/* Where arrays begin, in bytes behind MRAM's heap pointer: multiples of 8. */
__host uint32_t mram_offsets[3]; /* weights, inputs, results */

static __dma_aligned uint32_t inputs_of[NR_TASKLETS][96];
static __dma_aligned uint32_t codes_of[NR_TASKLETS][192];
static __dma_aligned int32_t sums_of[NR_TASKLETS][64];

int main(void) {
    const uint32_t tasklet = me();
    __mram_ptr uint8_t *const heap = DPU_MRAM_HEAP_POINTER;
    __mram_ptr uint32_t *const mram_weights = (__mram_ptr uint32_t *)(heap +
        mram_offsets[0]); /* 2 x 64 x 96 */
    __mram_ptr uint32_t *const mram_inputs = (__mram_ptr uint32_t *)(heap +
        mram_offsets[1]); /* 16 x 192 */
    __mram_ptr int32_t *const mram_results = (__mram_ptr int32_t *)(heap +
        mram_offsets[2]); /* 16 x 64 */
    uint32_t *const inputs = inputs_of[tasklet];
    uint32_t *const codes = codes_of[tasklet];
    int32_t *const sums = sums_of[tasklet];
    /* a token of this tasklet */
    for (uint32_t tile = tasklet; tile < 16; tile += 16) {
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
        for (uint32_t chunk = 0; chunk < 2; ++chunk) {
            /* inputs of a token */
            mram_read(&mram_inputs[192 * tile + 96 * chunk], &inputs[0], 384);
            for (uint32_t block = 0; block < 32; ++block) {
                /* weights of rows */
                mram_read(&mram_weights[6144 * chunk + 192 * block], &codes[0], 768);
                uint32_t sum = (uint32_t)sums[2 * block];
                uint32_t sum_2 = (uint32_t)sums[2 * block + 1];
                for (uint32_t i_2 = 0; i_2 < 96; i_2 += 4) {
                    const uint32_t code = codes[i_2];
                    const uint32_t code_2 = codes[i_2 + 96];
                    const uint32_t input = inputs[i_2];
                    sum += qcc_mul_ll(code, input);
                    sum_2 += qcc_mul_ll(code_2, input);
                    sum += qcc_mul_hh(code, input);
                    sum_2 += qcc_mul_hh(code_2, input);
                    const uint32_t code_high = code >> 16;
                    const uint32_t code_2_high = code_2 >> 16;
                    const uint32_t input_high = input >> 16;
                    sum += qcc_mul_ll(code_high, input_high);
                    sum_2 += qcc_mul_ll(code_2_high, input_high);
                    sum += qcc_mul_hh(code_high, input_high);
                    sum_2 += qcc_mul_hh(code_2_high, input_high);
                    qcc_in_order();
                    const uint32_t code_3 = codes[i_2 + 1];
                    const uint32_t code_4 = codes[i_2 + 97];
                    const uint32_t input_2 = inputs[i_2 + 1];
                    sum += qcc_mul_ll(code_3, input_2);
                    sum_2 += qcc_mul_ll(code_4, input_2);
                    sum += qcc_mul_hh(code_3, input_2);
                    sum_2 += qcc_mul_hh(code_4, input_2);
                    const uint32_t code_3_high = code_3 >> 16;
                    const uint32_t code_4_high = code_4 >> 16;
                    const uint32_t input_2_high = input_2 >> 16;
                    sum += qcc_mul_ll(code_3_high, input_2_high);
                    sum_2 += qcc_mul_ll(code_4_high, input_2_high);
                    sum += qcc_mul_hh(code_3_high, input_2_high);
                    sum_2 += qcc_mul_hh(code_4_high, input_2_high);
                    qcc_in_order();
                    const uint32_t code_5 = codes[i_2 + 2];
                    const uint32_t code_6 = codes[i_2 + 98];
                    const uint32_t input_3 = inputs[i_2 + 2];
                    sum += qcc_mul_ll(code_5, input_3);
                    sum_2 += qcc_mul_ll(code_6, input_3);
                    sum += qcc_mul_hh(code_5, input_3);
                    sum_2 += qcc_mul_hh(code_6, input_3);
                    const uint32_t code_5_high = code_5 >> 16;
                    const uint32_t code_6_high = code_6 >> 16;
                    const uint32_t input_3_high = input_3 >> 16;
                    sum += qcc_mul_ll(code_5_high, input_3_high);
                    sum_2 += qcc_mul_ll(code_6_high, input_3_high);
                    sum += qcc_mul_hh(code_5_high, input_3_high);
                    sum_2 += qcc_mul_hh(code_6_high, input_3_high);
                    qcc_in_order();
                    const uint32_t code_7 = codes[i_2 + 3];
                    const uint32_t code_8 = codes[i_2 + 99];
                    const uint32_t input_4 = inputs[i_2 + 3];
                    sum += qcc_mul_ll(code_7, input_4);
                    sum_2 += qcc_mul_ll(code_8, input_4);
                    sum += qcc_mul_hh(code_7, input_4);
                    sum_2 += qcc_mul_hh(code_8, input_4);
                    const uint32_t code_7_high = code_7 >> 16;
                    const uint32_t code_8_high = code_8 >> 16;
                    const uint32_t input_4_high = input_4 >> 16;
                    sum += qcc_mul_ll(code_7_high, input_4_high);
                    sum_2 += qcc_mul_ll(code_8_high, input_4_high);
                    sum += qcc_mul_hh(code_7_high, input_4_high);
                    sum_2 += qcc_mul_hh(code_8_high, input_4_high);
                    qcc_in_order();
                }
                sums[2 * block] = (int32_t)sum;
                sums[2 * block + 1] = (int32_t)sum_2;
            }
        }
        mram_write(&sums[0], &mram_results[64 * tile], 256);
    }
    return 0;
}
