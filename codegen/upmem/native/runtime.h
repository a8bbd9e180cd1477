/* A DPU program as a process of the host: tasklets are coroutines, MRAM is an arena at its address. */
#ifndef QCC_RUNTIME_H
#define QCC_RUNTIME_H

#include <stdint.h>

#define MRAM_BASE 0x08000000u
#define MRAM_BYTES (64u << 20)
#define HEAP_BYTES 65536u

enum fault_code {
    FAULT_NONE, FAULT_HEAP = 1, FAULT_HALT = 4,
    FAULT_MEMORY = 16, FAULT_DMA, FAULT_INSTRUCTION, FAULT_DEADLOCK, FAULT_MISUSE
};

typedef struct {
    int32_t code, tasklet;
    uint64_t bytes_read, bytes_written;
    char text[256];
} Outcome;

extern Outcome outcome;

/* Run main in all tasklets; seed 0: each to where it blocks, else who runs next is drawn. */
void run_tasklets(uint32_t seed);
void poison_memory(uint32_t seed);
/* The number of the tasklet that runs, 0 outside of all. */
uint32_t current_tasklet(void);

#endif
