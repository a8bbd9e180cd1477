/* A number handed from each tasklet to the next: what all before it have found so far. */
#ifndef CHAIN_H
#define CHAIN_H

#include <handshake.h>

#include "stream.h"

static uint32_t found_before[NR_TASKLETS];
/* Of a round by the last tasklet, before the barrier of the round; in turns, so one barrier is enough. */
static uint32_t found_in_round[2];

/* The sum of `found` over the tasklets before this one, in this round. */
static uint32_t counted_before(uint32_t found) {
    uint32_t before = 0;
    if (me() != 0) {
        handshake_wait_for(me() - 1);
        before = found_before[me()];
    }
    if (me() < NR_TASKLETS - 1) {
        found_before[me() + 1] = before + found;
        handshake_notify();
    }
    return before;
}

#endif
