/* OP (one of + * /) of TYPE and a number, over an array in WRAM, again and again. */
#include <qcc_dpu.h>

#define NUMBERS 128u

__host uint32_t rounds;
__host TYPE operand;
static TYPE numbers[NR_TASKLETS][NUMBERS];

static void apply(volatile TYPE *values, TYPE by) {
#pragma clang loop unroll(disable)
    for (uint32_t i = 0; i < NUMBERS; ++i) values[i] = values[i] OP by;
}

int main(void) {
    TYPE *values = numbers[me()];
    for (uint32_t i = 0; i < NUMBERS; ++i) values[i] = (TYPE)(30000u + i * 37u);
    for (uint32_t round = 0; round < rounds; ++round) apply(values, operand);
    return 0;
}
