/*
 * A DPU as its programs see it, executing RV32I: instruction, working and main memory, tasklets,
 * the services of the runtime. What the tasklets did is left in a trace each; time is not simulated.
 */
#ifndef QCC_MACHINE_H
#define QCC_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#define IRAM_BASE 0x80000000u
#define MRAM_BASE 0x08000000u
#define FIRST_WRAM 0x100u /* below lies nothing, so that null pointers are found */
#define MOST_TASKLETS 24
#define SINK 32 /* writes to the register zero go to one that nobody reads */

/* Costs in traces and weights are halves of an issue slot: the model charges 5.5 for a product. */
#define HALF_SLOTS(slots) ((uint32_t)((slots)*2))

typedef struct {
    const void *handler;
    int32_t imm; /* of branches and jumps: instructions, not bytes */
    uint8_t op, rd, rs1, rs2;
} Inst;

enum event_kind { EV_COMPUTE, EV_READ, EV_WRITE, EV_BARRIER, EV_LOCK, EV_UNLOCK, EV_NOTIFY, EV_WAIT, EV_TAKE, EV_GIVE };

typedef struct {
    uint32_t kind, value;
} Event;

enum tasklet_state { RUNNABLE, AT_BARRIER, AT_MUTEX, AT_SEMAPHORE, AWAITING_NOTIFY, AWAITING_NOTIFIED, ENDED };

typedef struct {
    uint32_t x[33], pc;
    enum tasklet_state state;
    uint32_t wait_on;    /* the object's address, or the other tasklet */
    uint64_t half_slots; /* since the last event */
    uint64_t instructions;
    Event *events;
    size_t event_count, event_room;
} Tasklet;

typedef struct {
    int32_t code; /* 0: none; else enum fault_code */
    int32_t tasklet;
    uint32_t pc, address;
    char text[256];
} Fault;

enum fault_code {
    FAULT_NONE, FAULT_HEAP = 1, FAULT_DIVISION = 2, FAULT_ASSERT = 3, FAULT_HALT = 4,
    FAULT_MEMORY = 16, FAULT_DMA, FAULT_INSTRUCTION, FAULT_DEADLOCK, FAULT_MISUSE, FAULT_ENDLESS
};

typedef struct {
    char name[60];
    uint32_t address, size;
} Symbol;

typedef struct {
    uint32_t tasklets, wram_bytes, mram_bytes, stack_bytes;
    uint32_t pairs; /* count a 64-bit load, store or addition once, as a DPU does */
} Config;

typedef struct Machine {
    Config config;
    uint8_t *wram, *mram;
    Inst *code;
    uint32_t *prefix; /* half slots of the instructions before each */
    uint32_t code_count;
    uint32_t main, leave; /* where tasklets begin, and what main returns to */
    uint32_t heap_start, heap_next, mram_end;
    Symbol *symbols;
    uint32_t symbol_count;
    Tasklet tasklets[MOST_TASKLETS];
    uint64_t counter_base;
    int drawn; /* the order of tasklets is: they also change at transfers */
    Fault fault;
} Machine;

/* What the interpreter stopped for. */
enum stop { STOP_SERVICE, STOP_QUANTUM, STOP_FAULT };

/* elf.c */
Machine *qcc_machine_load(Machine *previous, const Config *config, const uint8_t *bytes, size_t size, char *why, size_t room);
void qcc_machine_free(Machine *machine);
const Symbol *qcc_machine_symbol(const Machine *machine, const char *name);
int qcc_machine_copy(Machine *machine, uint32_t address, void *host, size_t bytes, int to_dpu);
void qcc_machine_poison(Machine *machine, uint32_t seed);
const Symbol *qcc_machine_symbol_at(const Machine *machine, uint32_t address);
const Fault *qcc_machine_fault(const Machine *machine);
const Event *qcc_machine_events(const Machine *machine, uint32_t tasklet, size_t *count);
uint64_t qcc_machine_instructions(const Machine *machine, uint32_t tasklet);

/* decode.c */
int decode_program(Machine *machine, const uint8_t *text, uint32_t bytes, uint32_t free_from, uint32_t free_to);

/* execute.c; a null tasklet asks for the handlers of the operations instead */
enum stop execute(Machine *machine, Tasklet *tasklet, int64_t quantum, const void *const **handlers);

/* services.c */
enum outcome { GO_ON, YIELDED, FAULTED };
enum outcome serve(Machine *machine, Tasklet *tasklet, uint32_t number);
void record(Tasklet *tasklet, uint32_t kind, uint32_t value);
void raise_fault(Machine *machine, Tasklet *tasklet, int code, uint32_t address, const char *format, ...);

/* schedule.c */
int qcc_machine_launch(Machine *machine, uint32_t seed, uint32_t quantum, uint64_t most_instructions);

#endif
