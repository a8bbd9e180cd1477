/* The counter of cycles or instructions. Emulators count issued instructions for either. */
#ifndef QCC_SHIM_PERFCOUNTER_H
#define QCC_SHIM_PERFCOUNTER_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t perfcounter_t;
typedef enum { COUNT_SAME = 0, COUNT_CYCLES = 1, COUNT_INSTRUCTIONS = 2, COUNT_NOTHING = 3 } perfcounter_config_t;

perfcounter_t perfcounter_config(perfcounter_config_t config, bool reset_value);
perfcounter_t perfcounter_get(void);

#endif
