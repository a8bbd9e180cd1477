/* What emitted kernels include: the documented API, and copies of more than one transfer. */
#ifndef QCC_DPU_H
#define QCC_DPU_H

#include <alloc.h>
#include <barrier.h>
#include <built_ins.h>
#include <defs.h>
#include <mram.h>
#include <stdint.h>

#define QCC_LARGEST_TRANSFER 2048u

/* Read `bytes`, a multiple of 8, in transfers as large as the engine takes. */
static inline void qcc_read(const __mram_ptr void *from, void *to, uint32_t bytes) {
    const __mram_ptr uint8_t *source = (const __mram_ptr uint8_t *)from;
    uint8_t *target = (uint8_t *)to;
    while (bytes > QCC_LARGEST_TRANSFER) {
        mram_read(source, target, QCC_LARGEST_TRANSFER);
        source += QCC_LARGEST_TRANSFER;
        target += QCC_LARGEST_TRANSFER;
        bytes -= QCC_LARGEST_TRANSFER;
    }
    mram_read(source, target, bytes);
}

/* Write `bytes`, a multiple of 8, in transfers as large as the engine takes. */
static inline void qcc_write(const void *from, __mram_ptr void *to, uint32_t bytes) {
    const uint8_t *source = (const uint8_t *)from;
    __mram_ptr uint8_t *target = (__mram_ptr uint8_t *)to;
    while (bytes > QCC_LARGEST_TRANSFER) {
        mram_write(source, target, QCC_LARGEST_TRANSFER);
        source += QCC_LARGEST_TRANSFER;
        target += QCC_LARGEST_TRANSFER;
        bytes -= QCC_LARGEST_TRANSFER;
    }
    mram_write(source, target, bytes);
}

/* The signed product of the low bytes: one instruction. */
static inline int32_t qcc_mul8(int32_t a, int32_t b) {
    int32_t product;
    __builtin_mul_sl_sl_rrr(product, a, b);
    return product;
}

#endif
