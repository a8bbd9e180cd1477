/* The runtime's functions: what they do, and the issue slots they take (pim.md, section 5). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum service {
#define SERVICE(number, name) SERVICE_##name = number,
#include "services.def"
#undef SERVICE
};

enum { A0 = 10, A1 = 11, A2 = 12, A3 = 13 };
enum { LARGEST_TRANSFER = 2048, EALREADY_ = 114 };

void raise_fault(Machine *machine, Tasklet *tasklet, int code, uint32_t address, const char *format, ...) {
    va_list arguments;
    machine->fault.code = code;
    machine->fault.tasklet = (int32_t)(tasklet - machine->tasklets);
    machine->fault.pc = tasklet->pc;
    machine->fault.address = address;
    va_start(arguments, format);
    vsnprintf(machine->fault.text, sizeof machine->fault.text, format, arguments);
    va_end(arguments);
}

static void append(Tasklet *tasklet, uint32_t kind, uint32_t value) {
    if (tasklet->event_count == tasklet->event_room) {
        tasklet->event_room = tasklet->event_room ? 2 * tasklet->event_room : 256;
        tasklet->events = realloc(tasklet->events, tasklet->event_room * sizeof(Event));
        if (!tasklet->events) abort();
    }
    tasklet->events[tasklet->event_count++] = (Event){kind, value};
}

void record(Tasklet *tasklet, uint32_t kind, uint32_t value) {
    for (; tasklet->half_slots > UINT32_MAX; tasklet->half_slots -= UINT32_MAX) append(tasklet, EV_COMPUTE, UINT32_MAX);
    if (tasklet->half_slots) append(tasklet, EV_COMPUTE, (uint32_t)tasklet->half_slots);
    tasklet->half_slots = 0;
    if (kind != EV_COMPUTE) append(tasklet, kind, value);
}

/* ---- memory */

static int inside_wram(const Machine *machine, uint32_t address, uint32_t bytes) {
    return address >= FIRST_WRAM && address <= machine->config.wram_bytes && bytes <= machine->config.wram_bytes - address;
}

static uint32_t *word_at(Machine *machine, Tasklet *tasklet, uint32_t address) {
    if (inside_wram(machine, address, 4) && address % 4 == 0) return (uint32_t *)(void *)(machine->wram + address);
    raise_fault(machine, tasklet, FAULT_MEMORY, address, "no object of the runtime lies at 0x%x", address);
    return NULL;
}

static enum outcome transfer(Machine *machine, Tasklet *tasklet, int is_read) {
    uint32_t mram = tasklet->x[is_read ? A0 : A1], wram = tasklet->x[is_read ? A1 : A0], bytes = tasklet->x[A2];
    const char *name = is_read ? "mram_read" : "mram_write";
    const char *why = NULL;
    if (bytes < 8 || bytes > LARGEST_TRANSFER || bytes % 8) why = "sizes are multiples of 8 from 8 to 2048";
    else if (mram % 8 || wram % 8) why = "both addresses are multiples of 8";
    else if (!inside_wram(machine, wram, bytes)) why = "that is not in the working memory";
    else if (mram < MRAM_BASE || mram - MRAM_BASE > machine->config.mram_bytes - bytes) why = "that is not in MRAM";
    if (why) {
        raise_fault(machine, tasklet, FAULT_DMA, mram, "%s of %u bytes, MRAM 0x%x, WRAM 0x%x: %s", name, bytes, mram, wram, why);
        return FAULTED;
    }
    uint8_t *far = machine->mram + (mram - MRAM_BASE), *near = machine->wram + wram;
    memcpy(is_read ? near : far, is_read ? far : near, bytes);
    tasklet->half_slots += HALF_SLOTS(3);
    record(tasklet, is_read ? EV_READ : EV_WRITE, bytes);
    return machine->drawn ? YIELDED : GO_ON;
}

static enum outcome copy_bytes(Machine *machine, Tasklet *tasklet, int is_set) {
    uint32_t to = tasklet->x[A0], from = tasklet->x[A1], bytes = tasklet->x[A2];
    if (bytes && (!inside_wram(machine, to, bytes) || (!is_set && !inside_wram(machine, from, bytes)))) {
        raise_fault(machine, tasklet, FAULT_MEMORY, to, "%u bytes copied or set beyond the working memory", bytes);
        return FAULTED;
    }
    if (is_set) memset(machine->wram + to, (int)from, bytes);
    else memmove(machine->wram + to, machine->wram + from, bytes);
    tasklet->half_slots += HALF_SLOTS(10) + (is_set ? 2 : 3) * (uint64_t)bytes;
    return GO_ON;
}

static enum outcome allocate(Machine *machine, Tasklet *tasklet) {
    uint32_t at = machine->heap_next, bytes = (tasklet->x[A0] + 7) & ~7u;
    uint32_t end = machine->config.wram_bytes - machine->config.tasklets * machine->config.stack_bytes;
    if (bytes < tasklet->x[A0] || at > end || bytes > end - at) {
        raise_fault(machine, tasklet, FAULT_HEAP, at, "mem_alloc of %u bytes: %u are left below the stacks", tasklet->x[A0], end - at);
        return FAULTED;
    }
    machine->heap_next = at + bytes;
    tasklet->x[A0] = at;
    tasklet->half_slots += HALF_SLOTS(12);
    return GO_ON;
}

/* ---- arithmetic */

static uint32_t length(uint32_t value) { return value ? 32 - (uint32_t)__builtin_clz(value) : 0; }

static enum outcome multiply(Tasklet *tasklet) {
    uint32_t a = tasklet->x[A0], b = tasklet->x[A1];
    tasklet->half_slots += 11 + HALF_SLOTS(length(a < b ? a : b));
    tasklet->x[A0] = a * b;
    return GO_ON;
}

static uint32_t magnitude(uint32_t value, int is_signed) { return is_signed && (int32_t)value < 0 ? 0 - value : value; }

static enum outcome divide(Machine *machine, Tasklet *tasklet, int is_signed, int remainder) {
    uint32_t a = magnitude(tasklet->x[A0], is_signed), b = magnitude(tasklet->x[A1], is_signed);
    int negative = is_signed && ((int32_t)tasklet->x[A0] ^ (remainder ? 0 : (int32_t)tasklet->x[A1])) < 0;
    if (b == 0) {
        raise_fault(machine, tasklet, FAULT_DIVISION, 0, "division by zero");
        return FAULTED;
    }
    uint32_t result = remainder ? a % b : a / b;
    uint32_t slots = a < b ? 6 : 7 + length(a) - length(b) + 1;
    if (is_signed) slots += 12;
    else if (remainder) slots += 1;
    tasklet->x[A0] = negative ? 0 - result : result;
    tasklet->half_slots += HALF_SLOTS(slots);
    return GO_ON;
}

static uint64_t wide_operand(const Tasklet *tasklet, int first) {
    return (uint64_t)tasklet->x[first + 1] << 32 | tasklet->x[first];
}

static int64_t quotient(int64_t a, int64_t b, int remainder) {
    if (b == -1) return remainder ? 0 : (int64_t)(0 - (uint64_t)a);
    return remainder ? a % b : a / b;
}

static int wide_division(uint32_t number, uint64_t a, uint64_t b, uint64_t *result) {
    if (b == 0) return 0;
    if (number == SERVICE___udivdi3) *result = a / b;
    else if (number == SERVICE___umoddi3) *result = a % b;
    else *result = (uint64_t)quotient((int64_t)a, (int64_t)b, number == SERVICE___moddi3);
    return 1;
}

static enum outcome wide(Machine *machine, Tasklet *tasklet, uint32_t number) {
    uint64_t a = wide_operand(tasklet, A0), b = wide_operand(tasklet, A2), result = 0;
    uint32_t by = tasklet->x[A2] & 63, slots;
    switch (number) {
    case SERVICE___muldi3: result = a * b, slots = 110; break;
    case SERVICE___ashldi3: result = a << by, slots = 8; break;
    case SERVICE___lshrdi3: result = a >> by, slots = 8; break;
    case SERVICE___ashrdi3: result = (uint64_t)((int64_t)a >> by), slots = 8; break;
    default:
        slots = number == SERVICE___udivdi3 || number == SERVICE___umoddi3 ? 200 : 220;
        if (!wide_division(number, a, b, &result)) {
            raise_fault(machine, tasklet, FAULT_DIVISION, 0, "division by zero");
            return FAULTED;
        }
    }
    tasklet->x[A0] = (uint32_t)result;
    tasklet->x[A1] = (uint32_t)(result >> 32);
    tasklet->half_slots += HALF_SLOTS(slots);
    return GO_ON;
}

/* ---- tasklets that wait for one another */

static enum outcome block(Tasklet *tasklet, enum tasklet_state state, uint32_t on) {
    tasklet->state = state;
    tasklet->wait_on = on;
    return YIELDED;
}

/* The first tasklet that waits so, made runnable; null without one. */
static Tasklet *wake(Machine *machine, enum tasklet_state state, uint32_t on) {
    for (uint32_t t = 0; t < machine->config.tasklets; ++t) {
        Tasklet *other = &machine->tasklets[t];
        if (other->state != state || other->wait_on != on) continue;
        other->state = RUNNABLE;
        return other;
    }
    return NULL;
}

static enum outcome barrier(Machine *machine, Tasklet *tasklet) {
    uint32_t address = tasklet->x[A0], *count = word_at(machine, tasklet, address);
    if (!count) return FAULTED;
    tasklet->half_slots += HALF_SLOTS(15);
    record(tasklet, EV_BARRIER, address);
    if (++count[1] < count[0]) return block(tasklet, AT_BARRIER, address);
    count[1] = 0;
    while (wake(machine, AT_BARRIER, address)) continue;
    return YIELDED;
}

static enum outcome lock(Machine *machine, Tasklet *tasklet, int only_try) {
    uint32_t address = tasklet->x[A0], id = (uint32_t)(tasklet - machine->tasklets), *owner = word_at(machine, tasklet, address);
    if (!owner) return FAULTED;
    if (only_try) tasklet->x[A0] = *owner == 0;
    if (*owner && only_try) return GO_ON;
    record(tasklet, EV_LOCK, address);
    if (*owner) return block(tasklet, AT_MUTEX, address);
    *owner = id + 1;
    return GO_ON;
}

static enum outcome unlock(Machine *machine, Tasklet *tasklet) {
    uint32_t address = tasklet->x[A0], id = (uint32_t)(tasklet - machine->tasklets), *owner = word_at(machine, tasklet, address);
    if (!owner) return FAULTED;
    if (*owner != id + 1) {
        raise_fault(machine, tasklet, FAULT_MISUSE, address, "mutex_unlock of a mutex that the tasklet does not hold");
        return FAULTED;
    }
    record(tasklet, EV_UNLOCK, address);
    Tasklet *next = wake(machine, AT_MUTEX, address);
    *owner = next ? (uint32_t)(next - machine->tasklets) + 1 : 0;
    return GO_ON;
}

static enum outcome semaphore(Machine *machine, Tasklet *tasklet, int take) {
    uint32_t address = tasklet->x[A0], *count = word_at(machine, tasklet, address);
    if (!count) return FAULTED;
    tasklet->half_slots += HALF_SLOTS(12);
    record(tasklet, take ? EV_TAKE : EV_GIVE, address);
    if (!take) {
        if (!wake(machine, AT_SEMAPHORE, address)) ++*count;
        return GO_ON;
    }
    if ((int32_t)*count <= 0) return block(tasklet, AT_SEMAPHORE, address);
    --*count;
    return GO_ON;
}

static enum outcome notify(Machine *machine, Tasklet *tasklet) {
    uint32_t id = (uint32_t)(tasklet - machine->tasklets);
    tasklet->half_slots += HALF_SLOTS(12);
    record(tasklet, EV_NOTIFY, id);
    return wake(machine, AWAITING_NOTIFY, id) ? GO_ON : block(tasklet, AWAITING_NOTIFIED, id);
}

static enum outcome wait_for(Machine *machine, Tasklet *tasklet) {
    uint32_t notifier = tasklet->x[A0], id = (uint32_t)(tasklet - machine->tasklets);
    if (notifier >= machine->config.tasklets || notifier == id) {
        raise_fault(machine, tasklet, FAULT_MISUSE, notifier, "handshake_wait_for(%u): no other tasklet has that number", notifier);
        return FAULTED;
    }
    tasklet->half_slots += HALF_SLOTS(12);
    for (uint32_t t = 0; t < machine->config.tasklets; ++t) {
        const Tasklet *other = &machine->tasklets[t];
        if (other->state != AWAITING_NOTIFY || other->wait_on != notifier) continue;
        tasklet->x[A0] = EALREADY_;
        return GO_ON;
    }
    tasklet->x[A0] = 0;
    record(tasklet, EV_WAIT, notifier);
    return wake(machine, AWAITING_NOTIFIED, notifier) ? GO_ON : block(tasklet, AWAITING_NOTIFY, notifier);
}

/* ---- the rest */

static uint64_t issued(const Machine *machine) {
    uint64_t sum = 0;
    for (uint32_t t = 0; t < machine->config.tasklets; ++t) sum += machine->tasklets[t].instructions;
    return sum;
}

static enum outcome counter(Machine *machine, Tasklet *tasklet, int configure) {
    if (configure && tasklet->x[A1]) machine->counter_base = issued(machine);
    uint64_t value = issued(machine) - machine->counter_base;
    tasklet->x[A0] = (uint32_t)value;
    tasklet->x[A1] = (uint32_t)(value >> 32);
    tasklet->half_slots += HALF_SLOTS(1);
    return GO_ON;
}

static enum outcome end(Machine *machine, Tasklet *tasklet, int halted) {
    record(tasklet, EV_COMPUTE, 0);
    tasklet->state = ENDED;
    if (!halted) return YIELDED;
    raise_fault(machine, tasklet, FAULT_HALT, 0, "halt()");
    return FAULTED;
}

static enum outcome unused_stack(Machine *machine, Tasklet *tasklet) {
    uint32_t id = (uint32_t)(tasklet - machine->tasklets);
    tasklet->x[A0] = tasklet->x[2] - (machine->config.wram_bytes - (id + 1) * machine->config.stack_bytes);
    tasklet->half_slots += HALF_SLOTS(4);
    return GO_ON;
}

static enum outcome serve_synchronisation(Machine *machine, Tasklet *tasklet, uint32_t number) {
    switch (number) {
    case SERVICE_barrier_wait: return barrier(machine, tasklet);
    case SERVICE_mutex_lock: return lock(machine, tasklet, 0);
    case SERVICE_mutex_trylock: return lock(machine, tasklet, 1);
    case SERVICE_mutex_unlock: return unlock(machine, tasklet);
    case SERVICE_sem_take: return semaphore(machine, tasklet, 1);
    case SERVICE_sem_give: return semaphore(machine, tasklet, 0);
    case SERVICE_handshake_notify: return notify(machine, tasklet);
    default: return wait_for(machine, tasklet);
    }
}

static enum outcome serve_arithmetic(Machine *machine, Tasklet *tasklet, uint32_t number) {
    switch (number) {
    case SERVICE___mulsi3: return multiply(tasklet);
    case SERVICE___udivsi3: return divide(machine, tasklet, 0, 0);
    case SERVICE___umodsi3: return divide(machine, tasklet, 0, 1);
    case SERVICE___divsi3: return divide(machine, tasklet, 1, 0);
    case SERVICE___modsi3: return divide(machine, tasklet, 1, 1);
    default: return wide(machine, tasklet, number);
    }
}

static enum outcome serve_any(Machine *machine, Tasklet *tasklet, uint32_t number) {
    if (number >= SERVICE_barrier_wait && number <= SERVICE_handshake_wait_for)
        return serve_synchronisation(machine, tasklet, number);
    if (number >= SERVICE___mulsi3 && number <= SERVICE___ashrdi3) return serve_arithmetic(machine, tasklet, number);
    switch (number) {
    case SERVICE_qcc_leave: return end(machine, tasklet, 0);
    case SERVICE_halt: return end(machine, tasklet, 1);
    case SERVICE_check_stack: return unused_stack(machine, tasklet);
    case SERVICE_mram_read: return transfer(machine, tasklet, 1);
    case SERVICE_mram_write: return transfer(machine, tasklet, 0);
    case SERVICE_mem_alloc: return allocate(machine, tasklet);
    case SERVICE_mem_reset:
        machine->heap_next = tasklet->x[A0] = machine->heap_start;
        tasklet->half_slots += HALF_SLOTS(5);
        return GO_ON;
    case SERVICE_perfcounter_config: return counter(machine, tasklet, 1);
    case SERVICE_perfcounter_get: return counter(machine, tasklet, 0);
    case SERVICE_memcpy:
    case SERVICE_memmove: return copy_bytes(machine, tasklet, 0);
    case SERVICE_memset: return copy_bytes(machine, tasklet, 1);
    default:
        raise_fault(machine, tasklet, FAULT_INSTRUCTION, number, "the environment is called for service %u, which does not exist", number);
        return FAULTED;
    }
}

/* A fault is one of the caller: stubs are no place to look at. */
enum outcome serve(Machine *machine, Tasklet *tasklet, uint32_t number) {
    enum outcome outcome = serve_any(machine, tasklet, number);
    if (outcome == FAULTED) machine->fault.pc = tasklet->x[1] - 4;
    return outcome;
}
