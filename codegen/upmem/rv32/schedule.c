/* Who runs next. Order changes no result of a correct program, so a random one finds those that are not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

static uint32_t draw(uint32_t *state) { /* xorshift */
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

static void boot(Machine *machine) {
    memset(&machine->fault, 0, sizeof machine->fault);
    machine->counter_base = 0;
    for (uint32_t t = 0; t < machine->config.tasklets; ++t) {
        Tasklet *tasklet = &machine->tasklets[t];
        Event *events = tasklet->events;
        size_t room = tasklet->event_room;
        memset(tasklet, 0, sizeof *tasklet);
        tasklet->events = events;
        tasklet->event_room = room;
        tasklet->pc = machine->main;
        tasklet->x[1] = machine->leave;                                                         /* ra */
        tasklet->x[2] = machine->config.wram_bytes - t * machine->config.stack_bytes;           /* sp */
        tasklet->x[4] = t;                                                                      /* tp */
    }
}

/* The next runnable tasklet at or after `from`; MOST_TASKLETS where none is. */
static uint32_t runnable(const Machine *machine, uint32_t from) {
    for (uint32_t i = 0; i < machine->config.tasklets; ++i) {
        uint32_t t = (from + i) % machine->config.tasklets;
        if (machine->tasklets[t].state == RUNNABLE) return t;
    }
    return MOST_TASKLETS;
}

static int all_ended(const Machine *machine) {
    for (uint32_t t = 0; t < machine->config.tasklets; ++t)
        if (machine->tasklets[t].state != ENDED) return 0;
    return 1;
}

static void report_deadlock(Machine *machine) {
    static const char *const names[] = {"running", "barrier", "mutex", "semaphore", "notify of", "wait of another for", "ended"};
    char text[sizeof machine->fault.text];
    size_t used = 0;
    Tasklet *first = NULL;
    for (uint32_t t = 0; t < machine->config.tasklets && used < sizeof text; ++t) {
        Tasklet *tasklet = &machine->tasklets[t];
        if (tasklet->state != ENDED && !first) first = tasklet;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%u: %s", t ? ", " : "", t, names[tasklet->state]);
        if (tasklet->state != ENDED && used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, " %x", tasklet->wait_on);
    }
    raise_fault(machine, first, FAULT_DEADLOCK, first->wait_on, "no tasklet can go on; %s", text);
}

/* One turn of a tasklet: until it blocks, ends, or its quantum is over. Nonzero where it faulted. */
static int take_turn(Machine *machine, Tasklet *tasklet, int64_t quantum) {
    for (;;) {
        uint64_t before = tasklet->instructions;
        enum stop stop = execute(machine, tasklet, quantum, NULL);
        if (stop == STOP_FAULT) return -1;
        if (stop == STOP_QUANTUM) return 0;
        quantum -= (int64_t)(tasklet->instructions - before);
        enum outcome outcome = serve(machine, tasklet, tasklet->x[17]);
        if (outcome == FAULTED) return -1;
        if (outcome == YIELDED || quantum <= 0) return 0;
    }
}

/*
 * Run main in all tasklets. seed 0: each to where it blocks, in their order; else turns of up to
 * `quantum` instructions, or to a transfer, in random order. The code of the fault, 0 without one.
 */
int qcc_machine_launch(Machine *machine, uint32_t seed, uint32_t quantum, uint64_t most_instructions) {
    uint32_t random = seed, next = 0;
    uint64_t left = most_instructions;
    boot(machine);
    machine->drawn = seed != 0;
    for (;;) {
        if (seed) next = draw(&random) % machine->config.tasklets;
        next = runnable(machine, next);
        if (next == MOST_TASKLETS) break;
        Tasklet *tasklet = &machine->tasklets[next];
        uint64_t before = tasklet->instructions;
        int64_t turn = seed ? 1 + draw(&random) % quantum : (int64_t)left;
        if (take_turn(machine, tasklet, turn)) return machine->fault.code;
        uint64_t used = tasklet->instructions - before;
        if (used >= left) {
            raise_fault(machine, tasklet, FAULT_ENDLESS, 0, "still running after %llu instructions", (unsigned long long)most_instructions);
            return machine->fault.code;
        }
        left -= used;
    }
    if (!all_ended(machine)) report_deadlock(machine);
    return machine->fault.code;
}
