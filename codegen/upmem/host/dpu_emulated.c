/* dpu.h on emulated DPUs: programs of a host run where no hardware is. */
#include <dpu.h>
#include <string.h>

#include "machine.h"

typedef struct {
    Machine *machine;
    void *buffer; /* prepared for the next transfer */
} Dpu;

struct dpu_system {
    uint32_t count;
    Dpu *dpus;
};

#define MOST_INSTRUCTIONS 20000000000u

static Dpu *dpu_of(struct dpu_set_t set, uint32_t i) { return &set.system->dpus[set.first + i]; }

dpu_error_t dpu_alloc(uint32_t nr_dpus, const char *profile, struct dpu_set_t *dpu_set) {
    (void)profile;
    uint32_t count = nr_dpus == DPU_ALLOCATE_ALL ? 64 : nr_dpus;
    struct dpu_system *system = calloc(1, sizeof *system);
    if (count == 0 || !system || !(system->dpus = calloc(count, sizeof(Dpu)))) {
        free(system);
        return DPU_ERR_ALLOCATION;
    }
    system->count = count;
    *dpu_set = (struct dpu_set_t){system, 0, count};
    return DPU_OK;
}

dpu_error_t dpu_free(struct dpu_set_t dpu_set) {
    for (uint32_t i = 0; i < dpu_set.system->count; ++i) qcc_machine_free(dpu_set.system->dpus[i].machine);
    free(dpu_set.system->dpus);
    free(dpu_set.system);
    return DPU_OK;
}

dpu_error_t dpu_get_nr_dpus(struct dpu_set_t dpu_set, uint32_t *nr_dpus) {
    *nr_dpus = dpu_set.count;
    return DPU_OK;
}

static uint8_t *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    uint8_t *content = NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        rewind(file);
        content = size > 0 ? malloc((size_t)size) : NULL;
        if (content && fread(content, 1, (size_t)size, file) != (size_t)size) free(content), content = NULL;
        *bytes = (size_t)size;
    }
    fclose(file);
    return content;
}

/* MRAM stays as it is: only the program and WRAM are new. */
dpu_error_t dpu_load(struct dpu_set_t dpu_set, const char *binary_path, struct dpu_program_t **program) {
    char why[128] = "";
    size_t bytes = 0;
    uint8_t *image = read_file(binary_path, &bytes);
    if (!image) return DPU_ERR_ELF_NO_SUCH_FILE;
    dpu_error_t status = DPU_OK;
    for (uint32_t i = 0; i < dpu_set.count && status == DPU_OK; ++i) {
        Dpu *dpu = dpu_of(dpu_set, i);
        Machine *loaded = qcc_machine_load(dpu->machine, NULL, image, bytes, why, sizeof why);
        if (loaded) dpu->machine = loaded;
        else status = DPU_ERR_ELF_INVALID_FILE;
    }
    if (status != DPU_OK) fprintf(stderr, "%s: %s\n", binary_path, why);
    free(image);
    if (program) *program = NULL;
    return status;
}

dpu_error_t dpu_launch(struct dpu_set_t dpu_set, dpu_launch_policy_t policy) {
    (void)policy;
    for (uint32_t i = 0; i < dpu_set.count; ++i) {
        Machine *machine = dpu_of(dpu_set, i)->machine;
        if (!machine) return DPU_ERR_INVALID_DPU_SET;
        if (qcc_machine_launch(machine, 0, 0, MOST_INSTRUCTIONS)) {
            const Fault *fault = qcc_machine_fault(machine);
            fprintf(stderr, "DPU %u, tasklet %d, at 0x%x: %s\n", i, fault->tasklet, fault->pc, fault->text);
            return DPU_ERR_DPU_FAULT;
        }
    }
    return DPU_OK;
}

dpu_error_t dpu_sync(struct dpu_set_t dpu_set) {
    (void)dpu_set;
    return DPU_OK;
}

/* MRAM takes multiples of 8 bytes, WRAM of 4. */
static dpu_error_t copy(Dpu *dpu, const char *name, uint32_t offset, void *host, size_t length, int to_dpu) {
    if (!dpu->machine) return DPU_ERR_INVALID_DPU_SET;
    const Symbol *symbol = qcc_machine_symbol(dpu->machine, name);
    if (!symbol) return DPU_ERR_UNKNOWN_SYMBOL;
    uint32_t address = symbol->address + offset;
    int in_mram = address >= MRAM_BASE;
    if (in_mram && (address % 8 || length % 8)) return DPU_ERR_INVALID_MRAM_ACCESS;
    if (!in_mram && (address % 4 || length % 4)) return DPU_ERR_INVALID_WRAM_ACCESS;
    if (symbol->size && offset + length > symbol->size) return DPU_ERR_INVALID_SYMBOL_ACCESS;
    if (qcc_machine_copy(dpu->machine, address, host, length, to_dpu)) return DPU_ERR_INVALID_SYMBOL_ACCESS;
    return DPU_OK;
}

dpu_error_t dpu_copy_to(struct dpu_set_t dpu_set, const char *symbol_name, uint32_t symbol_offset,
                        const void *src, size_t length) {
    return dpu_broadcast_to(dpu_set, symbol_name, symbol_offset, src, length, DPU_XFER_DEFAULT);
}

dpu_error_t dpu_copy_from(struct dpu_set_t dpu_set, const char *symbol_name, uint32_t symbol_offset,
                          void *dst, size_t length) {
    if (dpu_set.count != 1) return DPU_ERR_INVALID_DPU_SET;
    return copy(dpu_of(dpu_set, 0), symbol_name, symbol_offset, dst, length, 0);
}

dpu_error_t dpu_broadcast_to(struct dpu_set_t dpu_set, const char *symbol_name, uint32_t symbol_offset,
                             const void *src, size_t length, dpu_xfer_flags_t flags) {
    (void)flags;
    dpu_error_t status = DPU_OK;
    for (uint32_t i = 0; i < dpu_set.count && status == DPU_OK; ++i)
        status = copy(dpu_of(dpu_set, i), symbol_name, symbol_offset, (void *)(uintptr_t)src, length, 1);
    return status;
}

dpu_error_t dpu_prepare_xfer(struct dpu_set_t dpu_set, void *buffer) {
    for (uint32_t i = 0; i < dpu_set.count; ++i) dpu_of(dpu_set, i)->buffer = buffer;
    return DPU_OK;
}

dpu_error_t dpu_push_xfer(struct dpu_set_t dpu_set, dpu_xfer_t xfer, const char *symbol_name,
                          uint32_t symbol_offset, size_t length, dpu_xfer_flags_t flags) {
    dpu_error_t status = DPU_OK;
    for (uint32_t i = 0; i < dpu_set.count && status == DPU_OK; ++i) {
        Dpu *dpu = dpu_of(dpu_set, i);
        if (!dpu->buffer) continue;
        status = copy(dpu, symbol_name, symbol_offset, dpu->buffer, length, xfer == DPU_XFER_TO_DPU);
        if (!(flags & DPU_XFER_NO_RESET)) dpu->buffer = NULL;
    }
    return status;
}

const char *dpu_error_to_string(dpu_error_t status) {
    static const char *const texts[] = {
        "success", "internal error", "system error", "DPUs cannot be allocated", "invalid set of DPUs",
        "invalid profile", "a DPU is in fault", "access beyond a symbol", "MRAM access that is no multiple of 8 bytes",
        "WRAM access that is no multiple of 4 bytes", "no program of a DPU", "no such program", "unknown symbol",
        "invalid transfer"};
    return status < sizeof texts / sizeof *texts ? texts[status] : "unknown error";
}

static void step_to(struct dpu_set_dpu_iterator_t *iterator, uint32_t index) {
    iterator->count = index;
    iterator->has_next = index < iterator->all.count;
    iterator->next = (struct dpu_set_t){iterator->all.system, iterator->all.first + index, 1};
}

struct dpu_set_dpu_iterator_t dpu_set_dpu_iterator_from(struct dpu_set_t *set) {
    struct dpu_set_dpu_iterator_t iterator = {.all = *set};
    step_to(&iterator, 0);
    return iterator;
}

void dpu_set_dpu_iterator_next(struct dpu_set_dpu_iterator_t *iterator) { step_to(iterator, iterator->count + 1); }
