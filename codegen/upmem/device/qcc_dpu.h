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

/* Compilers move no load or store across it. */
#define qcc_in_order() __asm__ volatile("" ::: "memory")

/* A narrow element as a word, its sign extended. (gcc warns where a sum has a cast in its place.) */
static inline uint32_t qcc_word(int32_t element) { return (uint32_t)element; }

/* Bits above the highest that is set, 32 of 0: one instruction. */
static inline uint32_t qcc_leading_zeros(uint32_t word) {
    int32_t count;
    __builtin_clz_rr(count, word);
    return (uint32_t)count;
}

/*
 * The signed product of two bytes, the low or the high ones of the low halfwords: one instruction,
 * whatever the other bits are. Words wrap, so they are unsigned.
 */
#define QCC_MUL(name, builtin)                                 \
    static inline uint32_t name(uint32_t left, uint32_t right) { \
        int32_t product;                                       \
        builtin(product, left, right);                         \
        return (uint32_t)product;                              \
    }
QCC_MUL(qcc_mul_ll, __builtin_mul_sl_sl_rrr)
QCC_MUL(qcc_mul_lh, __builtin_mul_sl_sh_rrr)
QCC_MUL(qcc_mul_hl, __builtin_mul_sh_sl_rrr)
QCC_MUL(qcc_mul_hh, __builtin_mul_sh_sh_rrr)

#endif
