/* Words of RV32I to what the interpreter executes, and how many issue slots a DPU would need. */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum operation {
#define OPERATION(name) OP_##name,
#include "operations.def"
#undef OPERATION
};

#define CUSTOM_0 0x0b /* .insn r 0x0b, ... in device/built_ins.h */

static uint32_t bits(uint32_t word, int from, int count) { return word >> from & ((1u << count) - 1); }

static int32_t sign_extended(uint32_t value, int width) {
    return (int32_t)(value << (32 - width)) >> (32 - width);
}

static int32_t branch_offset(uint32_t word) {
    uint32_t offset = bits(word, 31, 1) << 12 | bits(word, 7, 1) << 11 | bits(word, 25, 6) << 5 | bits(word, 8, 4) << 1;
    return sign_extended(offset, 13) / 4;
}

static int32_t jump_offset(uint32_t word) {
    uint32_t offset = bits(word, 31, 1) << 20 | bits(word, 12, 8) << 12 | bits(word, 20, 1) << 11 | bits(word, 21, 10) << 1;
    return sign_extended(offset, 21) / 4;
}

static uint8_t of_branch(uint32_t funct3) {
    static const uint8_t table[8] = {OP_beq, OP_bne, OP_illegal, OP_illegal, OP_blt, OP_bge, OP_bltu, OP_bgeu};
    return table[funct3];
}

static uint8_t of_load(uint32_t funct3) {
    static const uint8_t table[8] = {OP_lb, OP_lh, OP_lw, OP_illegal, OP_lbu, OP_lhu, OP_illegal, OP_illegal};
    return table[funct3];
}

static uint8_t of_store(uint32_t funct3) {
    static const uint8_t table[3] = {OP_sb, OP_sh, OP_sw};
    return funct3 < 3 ? table[funct3] : OP_illegal;
}

static void decode_immediate(Inst *inst, uint32_t word, uint32_t funct3, uint32_t funct7) {
    static const uint8_t table[8] = {OP_addi, OP_illegal, OP_slti, OP_sltiu, OP_xori, OP_illegal, OP_ori, OP_andi};
    inst->op = table[funct3];
    inst->imm = sign_extended(bits(word, 20, 12), 12);
    if (funct3 == 1 && funct7 == 0) inst->op = OP_slli;
    if (funct3 == 5 && (funct7 & ~0x20u) == 0) inst->op = funct7 ? OP_srai : OP_srli;
    if (funct3 == 1 || funct3 == 5) inst->imm = (int32_t)bits(word, 20, 5);
}

static uint8_t of_registers(uint32_t funct3, uint32_t funct7) {
    static const uint8_t table[8] = {OP_add, OP_sll, OP_slt, OP_sltu, OP_xor, OP_srl, OP_or, OP_and};
    if (funct7 == 0x20) return funct3 == 0 ? OP_sub : funct3 == 5 ? OP_sra : OP_illegal;
    return funct7 == 0 ? table[funct3] : OP_illegal; /* 1 would be rv32m: products that cost one slot */
}

static void decode_custom(Inst *inst, uint32_t funct3, uint32_t funct7) {
    inst->imm = (int32_t)funct7;
    inst->op = funct3 == 0 && funct7 < 16 ? OP_product : funct3 == 1 && funct7 < 2 ? OP_count : OP_illegal;
}

static Inst decode(uint32_t word) {
    uint32_t funct3 = bits(word, 12, 3), funct7 = bits(word, 25, 7), rd = bits(word, 7, 5);
    Inst inst = {NULL, 0, OP_illegal, (uint8_t)(rd ? rd : SINK), (uint8_t)bits(word, 15, 5), (uint8_t)bits(word, 20, 5)};
    switch (word & 0x7f) {
    case 0x37: inst.op = OP_lui, inst.imm = (int32_t)(word & ~0xfffu); break;
    case 0x17: inst.op = OP_illegal, inst.imm = (int32_t)(word & ~0xfffu); break; /* auipc: below */
    case 0x6f: inst.op = OP_jal, inst.imm = jump_offset(word); break;
    case 0x67: inst.op = OP_jalr, inst.imm = sign_extended(bits(word, 20, 12), 12); break;
    case 0x63: inst.op = of_branch(funct3), inst.imm = branch_offset(word); break;
    case 0x03: inst.op = of_load(funct3), inst.imm = sign_extended(bits(word, 20, 12), 12); break;
    case 0x23:
        inst.op = of_store(funct3), inst.imm = sign_extended(bits(word, 25, 7) << 5 | bits(word, 7, 5), 12);
        break;
    case 0x13: decode_immediate(&inst, word, funct3, funct7); break;
    case 0x33: inst.op = of_registers(funct3, funct7); break;
    case CUSTOM_0: decode_custom(&inst, funct3, funct7); break;
    case 0x73: inst.op = word == 0x73 ? OP_ecall : OP_illegal; break;
    default: break;
    }
    return inst;
}

/* auipc is a constant once its place is known. */
static void resolve_auipc(Inst *inst, uint32_t word, uint32_t pc) {
    if ((word & 0x7f) != 0x17) return;
    inst->op = OP_lui;
    inst->imm += (int32_t)pc;
}

/* ---- weights */

static int is_branch(const Inst *inst) { return inst->op >= OP_beq && inst->op <= OP_bgeu; }

static int sets_conditions(const Inst *inst) {
    int immediate = inst->op == OP_addi || (inst->op >= OP_xori && inst->op <= OP_srai);
    int registers = inst->op == OP_add || inst->op == OP_sub || inst->op == OP_sll || (inst->op >= OP_xor && inst->op <= OP_and);
    return immediate || registers;
}

/* The register that a branch compares with zero, or SINK. */
static int compared_with_zero(const Inst *inst) {
    if (!is_branch(inst)) return SINK;
    if (inst->rs2 == 0) return inst->rs1 ? inst->rs1 : SINK;
    return inst->rs1 == 0 ? inst->rs2 : SINK;
}

static int writes(const Inst *inst, int reg) {
    int no_result = is_branch(inst) || (inst->op >= OP_sb && inst->op <= OP_sw);
    return !no_result && inst->rd == reg;
}

/* Arithmetic and the jump on its result are one instruction, as is a loop's decrement near its end. */
static int fuses_with_arithmetic(const Inst *code, uint32_t i) {
    int reg = compared_with_zero(&code[i]);
    if (reg == SINK) return 0;
    for (uint32_t back = 1; back <= 3 && back <= i; ++back) {
        const Inst *before = &code[i - back];
        if (is_branch(before) || before->op == OP_jal || before->op == OP_jalr) return 0;
        if (!writes(before, reg)) continue;
        if (back == 1) return sets_conditions(before);
        return before->op == OP_addi && before->rs1 == reg;
    }
    return 0;
}

/* lsl_add: a shift and the addition that uses it. */
static int is_shifted_addition(const Inst *before, const Inst *inst) {
    return inst->op == OP_add && before->op == OP_slli && (inst->rs1 == before->rd || inst->rs2 == before->rd);
}

/* Constants are one instruction whatever their width, calls too. */
static int completes_constant(const Inst *before, const Inst *inst) {
    if (before->op != OP_lui || inst->rs1 != before->rd) return 0;
    return inst->op == OP_jalr || (inst->op == OP_addi && inst->rd == before->rd);
}

/* The second half of what a DPU does on a pair of registers: 64-bit loads, stores, additions. */
static int is_second_of_pair(const Inst *before, const Inst *inst) {
    int moves = inst->op == OP_lw || inst->op == OP_sw;
    if (moves && before->op == inst->op) {
        int apart = inst->imm - before->imm;
        return inst->rs1 == before->rs1 && (apart == 4 || apart == -4);
    }
    if (inst->op == OP_sltu) return before->op == OP_add && inst->rs1 == before->rd;
    return inst->op == OP_add && before->op == OP_sltu && (inst->rs1 == before->rd || inst->rs2 == before->rd);
}

static uint32_t weight(const Machine *machine, uint32_t i) {
    const Inst *code = machine->code, *inst = &code[i], *before = i ? &code[i - 1] : NULL;
    if (fuses_with_arithmetic(code, i)) return 0;
    if (before && (is_shifted_addition(before, inst) || completes_constant(before, inst))) return 0;
    if (before && machine->config.pairs && is_second_of_pair(before, inst)) return 0;
    return HALF_SLOTS(1);
}

static int lands_inside(const Inst *inst, uint32_t i, uint32_t count) {
    int64_t target = (int64_t)i + inst->imm;
    return target >= 0 && target < (int64_t)count;
}

/*
 * Fill code and prefix from `text`. Instructions of [free_from, free_to) cost nothing: they are stubs.
 * Nonzero without memory.
 */
int decode_program(Machine *machine, const uint8_t *text, uint32_t bytes, uint32_t free_from, uint32_t free_to) {
    uint32_t count = bytes / 4;
    const void *const *handlers;
    execute(machine, NULL, 0, &handlers);
    machine->code = calloc(count + 1, sizeof(Inst));
    machine->prefix = calloc(count + 2, sizeof(uint32_t));
    if (!machine->code || !machine->prefix) return -1;
    machine->code_count = count;
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t word;
        memcpy(&word, text + 4 * (size_t)i, 4);
        Inst *inst = &machine->code[i];
        *inst = decode(word);
        resolve_auipc(inst, word, IRAM_BASE + 4 * i);
        if ((is_branch(inst) || inst->op == OP_jal) && !lands_inside(inst, i, count)) inst->op = OP_illegal;
        inst->handler = handlers[inst->op];
    }
    machine->code[count].op = OP_illegal;
    machine->code[count].handler = handlers[OP_illegal]; /* who runs past the end stops there */
    for (uint32_t i = 0; i <= count; ++i) {
        uint32_t address = IRAM_BASE + 4 * i;
        uint32_t costs = address >= free_from && address < free_to ? 0 : weight(machine, i);
        machine->prefix[i + 1] = machine->prefix[i] + costs;
    }
    return 0;
}
