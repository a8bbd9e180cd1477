/* Mutual exclusion; on a DPU each takes one of 56 atomic bits. */
#ifndef QCC_SHIM_MUTEX_H
#define QCC_SHIM_MUTEX_H

#include <stdbool.h>
#include <stdint.h>

typedef volatile uint32_t *mutex_id_t;

#define MUTEX_GET(name) (&__mutex_##name)
#define MUTEX_INIT(name)                         \
    static volatile uint32_t __mutex_##name = 0; \
    __attribute__((unused)) static const mutex_id_t name = MUTEX_GET(name);

void mutex_lock(mutex_id_t mutex);
bool mutex_trylock(mutex_id_t mutex);
void mutex_unlock(mutex_id_t mutex);

#endif
