/* Tasklets that read blocks of B bytes and do nothing else. */
#include <qcc_dpu.h>

__host uint32_t rounds;
__mram_noinit uint8_t input[NR_TASKLETS * B];
static __dma_aligned uint8_t blocks[NR_TASKLETS][B];

int main(void) {
    for (uint32_t round = 0; round < rounds; ++round) mram_read(&input[me() * B], blocks[me()], B);
    return 0;
}
