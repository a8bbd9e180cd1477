/* The interpreter: instructions of one tasklet until a service, the end of its quantum, or a fault. */
#include <string.h>

#include "machine.h"

/*
 * Slots and instructions are counted at jumps only, from prefix sums over straight code. A quantum
 * is checked there too: whatever runs for ever has a jump.
 */
#define COUNT_TO(last)                                                       \
    do {                                                                     \
        half_slots += prefix[(last) + 1 - code] - prefix[start - code];      \
        executed += (last) + 1 - start;                                      \
    } while (0)

#define GO_TO(target)                      \
    do {                                   \
        const Inst *to = (target);         \
        COUNT_TO(ip);                      \
        start = ip = to;                   \
        if (executed >= quantum) goto out_of_quantum; \
        goto *ip->handler;                 \
    } while (0)

#define NEXT goto *(++ip)->handler
#define A x[ip->rs1]
#define B x[ip->rs2]
#define COMPUTE(name, value) on_##name: x[ip->rd] = (uint32_t)(value); NEXT;
#define BRANCH(name, condition)                   \
    on_##name:                                    \
    if (condition) GO_TO(ip + ip->imm);           \
    NEXT;

/* Everything in [FIRST_WRAM, end) that is aligned; one comparison for both ends. */
#define LOAD(name, type)                                                                   \
    on_##name: {                                                                           \
        uint32_t address = A + (uint32_t)ip->imm;                                          \
        if (address - FIRST_WRAM > span - sizeof(type) || address % sizeof(type)) goto bad_address; \
        type value;                                                                        \
        memcpy(&value, wram + address, sizeof(type));                                      \
        x[ip->rd] = (uint32_t)(int32_t)value;                                              \
        NEXT;                                                                              \
    }
#define STORE(name, type)                                                                  \
    on_##name: {                                                                           \
        uint32_t address = A + (uint32_t)ip->imm;                                          \
        if (address - FIRST_WRAM > span - sizeof(type) || address % sizeof(type)) goto bad_address; \
        type value = (type)B;                                                              \
        memcpy(wram + address, &value, sizeof(type));                                      \
        NEXT;                                                                              \
    }

/* Of the four choices of device/built_ins.h: signed low, signed high, unsigned low, unsigned high. */
static int32_t byte_of(uint32_t value, uint32_t choice) {
    uint32_t byte = choice & 1 ? value >> 8 & 255 : value & 255;
    return choice & 2 ? (int32_t)byte : (int32_t)(int8_t)byte;
}

static uint32_t counted(uint32_t value, int32_t which) {
    if (which == 0) return (uint32_t)__builtin_popcount(value);
    return value ? (uint32_t)__builtin_clz(value) : 32;
}

enum stop execute(Machine *machine, Tasklet *tasklet, int64_t quantum, const void *const **handlers) {
    static const void *const table[] = {
#define OPERATION(name) &&on_##name,
#include "operations.def"
#undef OPERATION
    };
    if (!tasklet) {
        *handlers = table;
        return STOP_SERVICE;
    }
    uint32_t *x = tasklet->x;
    uint8_t *wram = machine->wram;
    const Inst *code = machine->code, *ip = code + (tasklet->pc - IRAM_BASE) / 4, *start = ip;
    const uint32_t *prefix = machine->prefix, span = machine->config.wram_bytes - FIRST_WRAM;
    uint64_t half_slots = 0;
    int64_t executed = 0;
    enum stop stop;
    goto *ip->handler;

    COMPUTE(lui, ip->imm)
    COMPUTE(addi, A + (uint32_t)ip->imm)
    COMPUTE(slti, (int32_t)A < ip->imm)
    COMPUTE(sltiu, A < (uint32_t)ip->imm)
    COMPUTE(xori, A ^ (uint32_t)ip->imm)
    COMPUTE(ori, A | (uint32_t)ip->imm)
    COMPUTE(andi, A & (uint32_t)ip->imm)
    COMPUTE(slli, A << ip->imm)
    COMPUTE(srli, A >> ip->imm)
    COMPUTE(srai, (int32_t)A >> ip->imm)
    COMPUTE(add, A + B)
    COMPUTE(sub, A - B)
    COMPUTE(sll, A << (B & 31))
    COMPUTE(slt, (int32_t)A < (int32_t)B)
    COMPUTE(sltu, A < B)
    COMPUTE(xor, A ^ B)
    COMPUTE(srl, A >> (B & 31))
    COMPUTE(sra, (int32_t)A >> (B & 31))
    COMPUTE(or, A | B)
    COMPUTE(and, A & B)
    COMPUTE(product, byte_of(A, (uint32_t)ip->imm >> 2) * byte_of(B, (uint32_t)ip->imm & 3))
    COMPUTE(count, counted(A, ip->imm))

    LOAD(lb, int8_t)
    LOAD(lh, int16_t)
    LOAD(lw, int32_t)
    LOAD(lbu, uint8_t)
    LOAD(lhu, uint16_t)
    STORE(sb, uint8_t)
    STORE(sh, uint16_t)
    STORE(sw, uint32_t)

    BRANCH(beq, A == B)
    BRANCH(bne, A != B)
    BRANCH(blt, (int32_t)A < (int32_t)B)
    BRANCH(bge, (int32_t)A >= (int32_t)B)
    BRANCH(bltu, A < B)
    BRANCH(bgeu, A >= B)

on_jal:
    x[ip->rd] = IRAM_BASE + 4 * (uint32_t)(ip + 1 - code);
    GO_TO(ip + ip->imm);

on_jalr: {
    uint32_t target = (A + (uint32_t)ip->imm) & ~1u;
    if (target - IRAM_BASE >= 4 * machine->code_count || target % 4) {
        raise_fault(machine, tasklet, FAULT_INSTRUCTION, target, "a jump to 0x%x, where there is no program", target);
        goto faulted;
    }
    x[ip->rd] = IRAM_BASE + 4 * (uint32_t)(ip + 1 - code);
    GO_TO(code + (target - IRAM_BASE) / 4);
}

on_ecall:
    COUNT_TO(ip);
    ++ip;
    stop = STOP_SERVICE;
    goto leave;

out_of_quantum:
    stop = STOP_QUANTUM;
    goto leave;

on_illegal:
    raise_fault(machine, tasklet, FAULT_INSTRUCTION, 0, "an instruction that is not of RV32I, or the end of the program");
    goto faulted;

bad_address: {
    uint32_t address = A + (uint32_t)ip->imm;
    const char *what = address < FIRST_WRAM                          ? "a null pointer"
                       : address - MRAM_BASE < machine->config.mram_bytes ? "MRAM, which only mram_read and mram_write reach"
                       : address >= machine->config.wram_bytes       ? "beyond the working memory"
                                                                     : "an address that is not aligned";
    tasklet->pc = IRAM_BASE + 4 * (uint32_t)(ip - code);
    raise_fault(machine, tasklet, FAULT_MEMORY, address, "access to 0x%x: %s", address, what);
}
faulted:
    COUNT_TO(ip);
    stop = STOP_FAULT;
leave:
    tasklet->pc = IRAM_BASE + 4 * (uint32_t)(ip - code);
    tasklet->half_slots += half_slots;
    tasklet->instructions += (uint64_t)executed;
    return stop;
}
