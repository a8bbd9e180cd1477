/* Who runs, and how to stop. */
#ifndef QCC_SHIM_DEFS_H
#define QCC_SHIM_DEFS_H

#include <stdint.h>

#include "attributes.h"

#ifndef NR_TASKLETS
#define NR_TASKLETS 1
#endif

typedef uint32_t sysname_t;

#if defined(__riscv)
/* The machine keeps a tasklet's number in tp; on a DPU it is a constant register too. */
static inline sysname_t me(void) {
    sysname_t id;
    __asm__("mv %0, tp" : "=r"(id));
    return id;
}
#else
sysname_t me(void);
#endif

__attribute__((noreturn)) void halt(void);
int32_t check_stack(void);

#endif
