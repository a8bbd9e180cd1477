/* All `count` tasklets arrive before any goes on. */
#ifndef QCC_SHIM_BARRIER_H
#define QCC_SHIM_BARRIER_H

#include <stdint.h>

#include "attributes.h"

typedef struct barrier_t {
    uint32_t count;    /* who has to arrive */
    uint32_t arrived;
} barrier_t;

#define BARRIER_INIT(name, number) barrier_t name __dma_aligned = {.count = (number), .arrived = 0};

void barrier_wait(barrier_t *barrier);

#endif
