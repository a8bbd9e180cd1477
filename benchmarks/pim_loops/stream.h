/* What the loops over a long array have in common: blocks of a kibibyte, dealt out to tasklets. */
#ifndef STREAM_H
#define STREAM_H

#include <qcc_dpu.h>

#define BLOCK 1024u
#define FIRST_BLOCK (me() * BLOCK)
#define STEP (NR_TASKLETS * BLOCK)

__host uint32_t bytes; /* of the input of this DPU */
__mram_noinit uint8_t input[INPUT_BYTES];

#endif
