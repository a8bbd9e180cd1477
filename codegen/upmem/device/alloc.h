/* The heap of WRAM: it only grows. mem_reset empties it; one tasklet calls it, before a barrier. */
#ifndef QCC_SHIM_ALLOC_H
#define QCC_SHIM_ALLOC_H

#include <stddef.h>

/* Addresses are multiples of 8. A full heap is fault 1. */
void *mem_alloc(size_t size);
void *mem_reset(void);

#endif
