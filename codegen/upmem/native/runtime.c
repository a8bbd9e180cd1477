/* The documented API on coroutines: DMA checked, waiting tasklets switched away from. */
#include "runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <alloc.h>
#include <barrier.h>
#include <defs.h>
#include <handshake.h>
#include <mram.h>
#include <mutex.h>
#include <perfcounter.h>
#include <sem.h>

#define COROUTINE_STACK 131072

int qcc_dpu_main(void); /* the program's main, renamed by the build */

enum state { RUNNABLE, AT_BARRIER, AT_MUTEX, AT_SEMAPHORE, AWAITING_NOTIFY, AWAITING_NOTIFIED, ENDED };
static const char *const state_names[] = {"running", "barrier", "mutex", "semaphore", "a notify of", "a wait for", "ended"};

/* A tasklet is entered by its context, and then left and resumed by jumps, which are no system calls. */
typedef struct {
    ucontext_t context;
    jmp_buf place;
    int entered;
    enum state state;
    uintptr_t wait_on;
} Tasklet;

/* Static, not from the host's heap: a program is linked low, so that addresses fit into 32 bits. */
static unsigned char stacks[NR_TASKLETS][COROUTINE_STACK] __attribute__((aligned(16)));
static unsigned char heap[HEAP_BYTES] __attribute__((aligned(8)));
static Tasklet tasklets[NR_TASKLETS];
static jmp_buf scheduler;
static uint32_t current, random_state;
static size_t heap_used;
Outcome outcome;

static uint32_t draw(void) { /* xorshift */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}

uint32_t current_tasklet(void) { return current; }

static void leave(enum state state, uintptr_t on) {
    tasklets[current].state = state;
    tasklets[current].wait_on = on;
    if (!_setjmp(tasklets[current].place)) _longjmp(scheduler, 1);
}

static void fail(int code, const char *format, ...) {
    va_list arguments;
    outcome.code = code;
    outcome.tasklet = (int32_t)current;
    va_start(arguments, format);
    vsnprintf(outcome.text, sizeof outcome.text, format, arguments);
    va_end(arguments);
    _longjmp(scheduler, 1);
}

/* Where hardware may let another tasklet overtake, a drawn schedule does. */
static void maybe_switch(void) {
    if (random_state) leave(RUNNABLE, 0);
}

static int wake(enum state state, uintptr_t on) {
    for (uint32_t t = 0; t < NR_TASKLETS; ++t) {
        if (tasklets[t].state != state || tasklets[t].wait_on != on) continue;
        tasklets[t].state = RUNNABLE;
        return (int)t;
    }
    return -1;
}

/* ---- defs.h, alloc.h, perfcounter.h */

sysname_t me(void) { return current; }

void halt(void) {
    fail(FAULT_HALT, "halt()");
    __builtin_unreachable();
}

int32_t check_stack(void) { return COROUTINE_STACK; }

void *mem_alloc(size_t size) {
    size_t bytes = (size + 7) & ~(size_t)7;
    if (bytes < size || bytes > HEAP_BYTES - heap_used)
        fail(FAULT_HEAP, "mem_alloc of %zu bytes: %zu are left", size, HEAP_BYTES - heap_used);
    void *at = heap + heap_used;
    heap_used += bytes;
    return at;
}

void *mem_reset(void) {
    heap_used = 0;
    return heap;
}

perfcounter_t perfcounter_config(perfcounter_config_t config, bool reset_value) {
    (void)config, (void)reset_value;
    return 0;
}

perfcounter_t perfcounter_get(void) { return 0; }

/* ---- mram.h */

static void check_transfer(const char *name, uintptr_t mram, uintptr_t wram, unsigned int bytes) {
    const char *why = NULL;
    if (bytes < 8 || bytes > 2048 || bytes % 8) why = "sizes are multiples of 8 from 8 to 2048";
    else if (mram % 8 || wram % 8) why = "both addresses are multiples of 8";
    else if (mram < MRAM_BASE || mram - MRAM_BASE > MRAM_BYTES - bytes) why = "that is not in MRAM";
    else if (wram - MRAM_BASE < MRAM_BYTES) why = "both addresses are in MRAM";
    if (why) fail(FAULT_DMA, "%s of %u bytes, MRAM 0x%lx, WRAM ...%03lx: %s", name, bytes, mram, wram & 0xfff, why);
}

void mram_read(const void *from, void *to, unsigned int nb_of_bytes) {
    check_transfer("mram_read", (uintptr_t)from, (uintptr_t)to, nb_of_bytes);
    maybe_switch(); /* the data arrive some time before the tasklet goes on */
    memcpy(to, from, nb_of_bytes);
    outcome.bytes_read += nb_of_bytes;
    maybe_switch();
}

void mram_write(const void *from, void *to, unsigned int nb_of_bytes) {
    check_transfer("mram_write", (uintptr_t)to, (uintptr_t)from, nb_of_bytes);
    maybe_switch();
    memcpy(to, from, nb_of_bytes);
    outcome.bytes_written += nb_of_bytes;
    maybe_switch();
}

/* ---- barrier.h, mutex.h, sem.h, handshake.h */

void barrier_wait(barrier_t *barrier) {
    maybe_switch();
    if (++barrier->arrived < barrier->count) {
        leave(AT_BARRIER, (uintptr_t)barrier);
        return;
    }
    barrier->arrived = 0;
    while (wake(AT_BARRIER, (uintptr_t)barrier) >= 0) continue;
    maybe_switch();
}

void mutex_lock(mutex_id_t mutex) {
    maybe_switch();
    if (*mutex) leave(AT_MUTEX, (uintptr_t)mutex);
    else *mutex = current + 1;
}

bool mutex_trylock(mutex_id_t mutex) {
    maybe_switch();
    if (*mutex) return false;
    *mutex = current + 1;
    return true;
}

void mutex_unlock(mutex_id_t mutex) {
    if (*mutex != current + 1) fail(FAULT_MISUSE, "mutex_unlock of a mutex that the tasklet does not hold");
    *mutex = (uint32_t)(wake(AT_MUTEX, (uintptr_t)mutex) + 1);
    maybe_switch();
}

void sem_take(struct sem_t *semaphore) {
    maybe_switch();
    if (semaphore->count > 0) --semaphore->count;
    else leave(AT_SEMAPHORE, (uintptr_t)semaphore);
}

void sem_give(struct sem_t *semaphore) {
    if (wake(AT_SEMAPHORE, (uintptr_t)semaphore) < 0) ++semaphore->count;
    maybe_switch();
}

void handshake_notify(void) {
    maybe_switch();
    if (wake(AWAITING_NOTIFY, current) < 0) leave(AWAITING_NOTIFIED, current);
}

int32_t handshake_wait_for(sysname_t notifier) {
    if (notifier >= NR_TASKLETS || notifier == current)
        fail(FAULT_MISUSE, "handshake_wait_for(%u): no other tasklet has that number", notifier);
    maybe_switch();
    for (uint32_t t = 0; t < NR_TASKLETS; ++t)
        if (tasklets[t].state == AWAITING_NOTIFY && tasklets[t].wait_on == notifier) return EALREADY;
    if (wake(AWAITING_NOTIFIED, notifier) < 0) leave(AWAITING_NOTIFY, notifier);
    return 0;
}

/* ---- the schedule */

static void enter(void) {
    qcc_dpu_main();
    tasklets[current].state = ENDED;
    _longjmp(scheduler, 1);
}

static void boot(uint32_t seed) {
    memset(&outcome, 0, sizeof outcome);
    random_state = seed;
    for (uint32_t t = 0; t < NR_TASKLETS; ++t) {
        tasklets[t].state = RUNNABLE, tasklets[t].entered = 0;
        if (!tasklets[t].context.uc_stack.ss_sp) getcontext(&tasklets[t].context);
        tasklets[t].context.uc_stack.ss_sp = stacks[t];
        tasklets[t].context.uc_stack.ss_size = COROUTINE_STACK;
        makecontext(&tasklets[t].context, enter, 0);
    }
}

static int choose(uint32_t from) {
    for (uint32_t i = 0; i < NR_TASKLETS; ++i)
        if (tasklets[(from + i) % NR_TASKLETS].state == RUNNABLE) return (int)((from + i) % NR_TASKLETS);
    return -1;
}

static void report_deadlock(void) {
    size_t used = 0;
    for (uint32_t t = NR_TASKLETS; t-- > 0;)
        if (tasklets[t].state != ENDED) outcome.code = FAULT_DEADLOCK, outcome.tasklet = (int32_t)t;
    if (!outcome.code) return;
    used += (size_t)snprintf(outcome.text, sizeof outcome.text, "no tasklet can go on");
    for (uint32_t t = 0; t < NR_TASKLETS && used < sizeof outcome.text; ++t)
        used += (size_t)snprintf(outcome.text + used, sizeof outcome.text - used, ", %u: %s", t, state_names[tasklets[t].state]);
}

/* Run the current tasklet to where it waits, or to its end. */
static void resume(void) {
    Tasklet *tasklet = &tasklets[current];
    if (_setjmp(scheduler)) return;
    if (tasklet->entered) _longjmp(tasklet->place, 1);
    tasklet->entered = 1;
    setcontext(&tasklet->context);
}

void run_tasklets(uint32_t seed) {
    boot(seed);
    for (;;) {
        int next = choose(random_state ? draw() % NR_TASKLETS : 0);
        if (next < 0) break;
        current = (uint32_t)next;
        resume();
        if (outcome.code) return;
    }
    report_deadlock();
}

void poison_memory(uint32_t seed) {
    extern unsigned char __mram_noinit_start[];
    int byte = (int)((seed * 0x9eu + 0xa5u) & 255u);
    memset(__mram_noinit_start, byte, (size_t)(__sys_used_mram_end - __mram_noinit_start));
    memset(stacks, byte, sizeof stacks);
    memset(heap, byte, sizeof heap);
}
