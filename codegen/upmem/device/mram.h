/* Copies between MRAM and WRAM: 8 to 2048 bytes, sizes and both addresses multiples of 8. */
#ifndef QCC_SHIM_MRAM_H
#define QCC_SHIM_MRAM_H

#include <stdint.h>

#include "attributes.h"

void mram_read(const __mram_ptr void *from, void *to, unsigned int nb_of_bytes);
void mram_write(const void *from, __mram_ptr void *to, unsigned int nb_of_bytes);

/* The first byte behind the variables in MRAM; the linker places it. */
extern __mram_ptr uint8_t __sys_used_mram_end[];
#define DPU_MRAM_HEAP_POINTER ((__mram_ptr void *)__sys_used_mram_end)

#endif
