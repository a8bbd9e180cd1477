/* ELF programs into the memories of a machine, and their symbols. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"

typedef struct {
    const uint8_t *bytes;
    size_t size;
} Image;

static const void *at(Image image, size_t offset, size_t bytes) {
    return offset <= image.size && bytes <= image.size - offset ? image.bytes + offset : NULL;
}

static uint8_t *host_address(Machine *machine, uint32_t address, size_t bytes) {
    if (address < machine->config.wram_bytes && bytes <= machine->config.wram_bytes - address) return machine->wram + address;
    uint32_t offset = address - MRAM_BASE;
    if (offset <= machine->config.mram_bytes && bytes <= machine->config.mram_bytes - offset) return machine->mram + offset;
    return NULL;
}

static uint32_t value_of(const Machine *machine, const char *name) {
    const Symbol *symbol = qcc_machine_symbol(machine, name);
    return symbol ? symbol->address : 0;
}

static const char *load_symbols(Machine *machine, Image image, const Elf32_Ehdr *header) {
    for (uint32_t i = 0; i < header->e_shnum; ++i) {
        const Elf32_Shdr *section = at(image, header->e_shoff + i * sizeof *section, sizeof *section);
        if (!section || section->sh_type != SHT_SYMTAB) continue;
        const Elf32_Shdr *names = at(image, header->e_shoff + section->sh_link * sizeof *names, sizeof *names);
        const Elf32_Sym *symbols = at(image, section->sh_offset, section->sh_size);
        if (!names || !symbols || !at(image, names->sh_offset, names->sh_size)) return "its symbols are damaged";
        uint32_t count = section->sh_size / sizeof *symbols;
        machine->symbols = calloc(count ? count : 1, sizeof(Symbol));
        if (!machine->symbols) return "no memory";
        for (uint32_t s = 0; s < count; ++s) {
            Symbol *symbol = &machine->symbols[s];
            if (symbols[s].st_name >= names->sh_size) return "its symbols are damaged";
            snprintf(symbol->name, sizeof symbol->name, "%s", (const char *)image.bytes + names->sh_offset + symbols[s].st_name);
            symbol->address = symbols[s].st_value;
            symbol->size = symbols[s].st_size;
        }
        machine->symbol_count = count;
        return NULL;
    }
    return "it has no symbols";
}

static const char *load_segments(Machine *machine, Image image, const Elf32_Ehdr *header) {
    for (uint32_t i = 0; i < header->e_phnum; ++i) {
        const Elf32_Phdr *segment = at(image, header->e_phoff + i * sizeof *segment, sizeof *segment);
        if (!segment) return "its headers are damaged";
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0) continue;
        const uint8_t *content = at(image, segment->p_offset, segment->p_filesz);
        if (!content || segment->p_filesz > segment->p_memsz) return "a segment is damaged";
        if (segment->p_vaddr == IRAM_BASE) {
            uint32_t from = value_of(machine, "__stubs_start"), to = value_of(machine, "__stubs_end");
            if (decode_program(machine, content, segment->p_filesz, from, to)) return "no memory";
            continue;
        }
        uint8_t *to = host_address(machine, segment->p_vaddr, segment->p_memsz);
        if (!to) return "a segment is outside the memories";
        memcpy(to, content, segment->p_filesz);
        if (segment->p_vaddr < MRAM_BASE) memset(to + segment->p_filesz, 0, segment->p_memsz - segment->p_filesz);
    }
    return machine->code ? NULL : "it has no program";
}

static const char *load(Machine *machine, Image image) {
    const char *why = load_segments(machine, image, at(image, 0, sizeof(Elf32_Ehdr)));
    if (why) return why;
    machine->main = value_of(machine, "main");
    machine->leave = value_of(machine, "qcc_leave");
    machine->heap_start = machine->heap_next = value_of(machine, "__sys_heap_start");
    machine->mram_end = value_of(machine, "__sys_used_mram_end");
    return machine->main && machine->leave ? NULL : "it has no main";
}

static uint8_t *pages(size_t bytes) { /* MRAM is large and mostly untouched: the system gives pages as they are used */
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* What the program was linked for, where the caller does not say. */
static Config linked_config(const Machine *machine) {
    return (Config){
        .tasklets = value_of(machine, "__nr_tasklets"),
        .wram_bytes = value_of(machine, "__wram_bytes"),
        .mram_bytes = value_of(machine, "__mram_bytes"),
        .stack_bytes = value_of(machine, "__stack_bytes"),
    };
}

static const char *read_config(Machine *machine, Image image, const Config *config) {
    const Elf32_Ehdr *header = at(image, 0, sizeof *header);
    if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS32)
        return "it is not a 32-bit ELF file";
    if (header->e_machine != EM_RISCV) return "it is not for RISC-V";
    const char *why = load_symbols(machine, image, header);
    if (why) return why;
    machine->config = config ? *config : linked_config(machine);
    const Config *c = &machine->config;
    if (!c->tasklets || c->tasklets > MOST_TASKLETS || c->wram_bytes <= FIRST_WRAM || !c->mram_bytes)
        return "it does not say what it was linked for";
    return NULL;
}

/*
 * A machine with the program loaded; null where it cannot be, and `why` says so. With a `previous`
 * machine, which then is gone, its MRAM is taken over as it is.
 */
Machine *qcc_machine_load(Machine *previous, const Config *config, const uint8_t *bytes, size_t size, char *why, size_t room) {
    Image image = {size ? bytes : NULL, size};
    Machine *machine = calloc(1, sizeof *machine);
    if (!machine) return NULL;
    const char *problem = read_config(machine, image, config);
    if (!problem && previous && previous->config.mram_bytes != machine->config.mram_bytes) problem = "its MRAM has another size";
    if (!problem) {
        machine->wram = calloc(1, machine->config.wram_bytes);
        machine->mram = previous ? previous->mram : pages(machine->config.mram_bytes);
        problem = machine->wram && machine->mram ? load(machine, image) : "no memory";
    }
    if (previous && !problem) {
        previous->mram = NULL;
        qcc_machine_free(previous);
    }
    if (!problem) return machine;
    snprintf(why, room, "%s", problem);
    if (previous) machine->mram = NULL;
    qcc_machine_free(machine);
    return NULL;
}

void qcc_machine_free(Machine *machine) {
    if (!machine) return;
    for (uint32_t t = 0; t < MOST_TASKLETS; ++t) free(machine->tasklets[t].events);
    if (machine->mram) munmap(machine->mram, machine->config.mram_bytes);
    free(machine->wram);
    free(machine->code);
    free(machine->prefix);
    free(machine->symbols);
    free(machine);
}

const Symbol *qcc_machine_symbol(const Machine *machine, const char *name) {
    for (uint32_t i = 0; i < machine->symbol_count; ++i)
        if (!strcmp(machine->symbols[i].name, name)) return &machine->symbols[i];
    return NULL;
}

/* Between host and WRAM or MRAM; nonzero where the range is in neither. */
int qcc_machine_copy(Machine *machine, uint32_t address, void *host, size_t bytes, int to_dpu) {
    uint8_t *there = host_address(machine, address, bytes);
    if (!there) return -1;
    if (to_dpu) memcpy(there, host, bytes);
    else memcpy(host, there, bytes);
    return 0;
}

/* What no program may rely on: the heap, the stacks, and the variables of MRAM that have no value. */
void qcc_machine_poison(Machine *machine, uint32_t seed) {
    uint8_t byte = (uint8_t)(seed * 0x9eu + 0xa5u);
    const Symbol *start = qcc_machine_symbol(machine, "__mram_noinit_start");
    memset(machine->wram + machine->heap_start, byte, machine->config.wram_bytes - machine->heap_start);
    if (start && machine->mram_end > start->address)
        memset(machine->mram + (start->address - MRAM_BASE), byte, machine->mram_end - start->address);
}

/* The function that an address lies in. */
const Symbol *qcc_machine_symbol_at(const Machine *machine, uint32_t address) {
    for (uint32_t i = 0; i < machine->symbol_count; ++i) {
        const Symbol *symbol = &machine->symbols[i];
        if (symbol->size && address - symbol->address < symbol->size) return symbol;
    }
    return NULL;
}

const Fault *qcc_machine_fault(const Machine *machine) { return &machine->fault; }

const Event *qcc_machine_events(const Machine *machine, uint32_t tasklet, size_t *count) {
    *count = machine->tasklets[tasklet].event_count;
    return machine->tasklets[tasklet].events;
}

uint64_t qcc_machine_instructions(const Machine *machine, uint32_t tasklet) {
    return machine->tasklets[tasklet].instructions;
}
