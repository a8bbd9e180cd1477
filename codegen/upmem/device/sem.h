/* Counting semaphores. */
#ifndef QCC_SHIM_SEM_H
#define QCC_SHIM_SEM_H

#include <stdint.h>

struct sem_t {
    int32_t count;
};

#define SEMAPHORE_INIT(name, value) struct sem_t name = {.count = (value)};

void sem_take(struct sem_t *semaphore);
void sem_give(struct sem_t *semaphore);

#endif
