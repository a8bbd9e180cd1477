/*
 * The instructions of a DPU that C has no operator for, as far as qcc uses them: products of bytes
 * (signed or unsigned, the low or the high byte of a halfword), and counts of bits.
 *
 * __builtin_mul_sl_uh_rrr(d, a, b): d = signed low byte of a times unsigned high byte of b.
 */
#ifndef QCC_SHIM_BUILT_INS_H
#define QCC_SHIM_BUILT_INS_H

#include <stdint.h>

#if defined(__riscv)
/* One instruction each, in the space that RISC-V leaves to custom ones (rv32/decode.c). */
#define QCC_PRODUCT(d, a, b, left, right) \
    __asm__(".insn r 0x0b, 0, (" #left " * 4 + " #right "), %0, %1, %2" : "=r"(d) : "r"(a), "r"(b))
#define QCC_COUNT(d, a, which) __asm__(".insn r 0x0b, 1, " #which ", %0, %1, x0" : "=r"(d) : "r"(a))
#else
#define QCC_BYTE_0(v) ((int32_t)(int8_t)((uint32_t)(v) & 255u))
#define QCC_BYTE_1(v) ((int32_t)(int8_t)((uint32_t)(v) >> 8 & 255u))
#define QCC_BYTE_2(v) ((int32_t)((uint32_t)(v) & 255u))
#define QCC_BYTE_3(v) ((int32_t)((uint32_t)(v) >> 8 & 255u))
#define QCC_PRODUCT(d, a, b, left, right) ((d) = QCC_BYTE_##left(a) * QCC_BYTE_##right(b))
#define QCC_COUNT(d, a, which) ((d) = QCC_COUNT_##which((uint32_t)(a)))
#define QCC_COUNT_0(v) (__builtin_popcount(v))
#define QCC_COUNT_1(v) ((v) ? __builtin_clz(v) : 32)
#endif

#define __builtin_mul_sl_sl_rrr(d, a, b) QCC_PRODUCT(d, a, b, 0, 0)
#define __builtin_mul_sl_sh_rrr(d, a, b) QCC_PRODUCT(d, a, b, 0, 1)
#define __builtin_mul_sl_ul_rrr(d, a, b) QCC_PRODUCT(d, a, b, 0, 2)
#define __builtin_mul_sl_uh_rrr(d, a, b) QCC_PRODUCT(d, a, b, 0, 3)
#define __builtin_mul_sh_sl_rrr(d, a, b) QCC_PRODUCT(d, a, b, 1, 0)
#define __builtin_mul_sh_sh_rrr(d, a, b) QCC_PRODUCT(d, a, b, 1, 1)
#define __builtin_mul_sh_ul_rrr(d, a, b) QCC_PRODUCT(d, a, b, 1, 2)
#define __builtin_mul_sh_uh_rrr(d, a, b) QCC_PRODUCT(d, a, b, 1, 3)
#define __builtin_mul_ul_ul_rrr(d, a, b) QCC_PRODUCT(d, a, b, 2, 2)
#define __builtin_mul_ul_uh_rrr(d, a, b) QCC_PRODUCT(d, a, b, 2, 3)
#define __builtin_mul_uh_ul_rrr(d, a, b) QCC_PRODUCT(d, a, b, 3, 2)
#define __builtin_mul_uh_uh_rrr(d, a, b) QCC_PRODUCT(d, a, b, 3, 3)
#define __builtin_cao_rr(d, a) QCC_COUNT(d, a, 0)
#define __builtin_clz_rr(d, a) QCC_COUNT(d, a, 1)

#endif
