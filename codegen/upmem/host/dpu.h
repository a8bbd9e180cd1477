/* The host's side of the documented API, as far as emitted programs use it, re-stated by qcc. */
#ifndef QCC_SHIM_DPU_H
#define QCC_SHIM_DPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum dpu_error_t {
    DPU_OK = 0,
    DPU_ERR_INTERNAL,
    DPU_ERR_SYSTEM,
    DPU_ERR_ALLOCATION,
    DPU_ERR_INVALID_DPU_SET,
    DPU_ERR_INVALID_PROFILE,
    DPU_ERR_DPU_FAULT,
    DPU_ERR_INVALID_SYMBOL_ACCESS,
    DPU_ERR_INVALID_MRAM_ACCESS,
    DPU_ERR_INVALID_WRAM_ACCESS,
    DPU_ERR_ELF_INVALID_FILE,
    DPU_ERR_ELF_NO_SUCH_FILE,
    DPU_ERR_UNKNOWN_SYMBOL,
    DPU_ERR_INVALID_MEMORY_TRANSFER
} dpu_error_t;

typedef enum { DPU_XFER_TO_DPU, DPU_XFER_FROM_DPU } dpu_xfer_t;
typedef enum { DPU_XFER_DEFAULT = 0, DPU_XFER_NO_RESET = 1, DPU_XFER_ASYNC = 2 } dpu_xfer_flags_t;
typedef enum { DPU_ASYNCHRONOUS, DPU_SYNCHRONOUS } dpu_launch_policy_t;

struct dpu_system; /* of the emulator; programs do not look inside sets */
struct dpu_program_t;

struct dpu_set_t {
    struct dpu_system *system;
    uint32_t first, count;
};

struct dpu_set_dpu_iterator_t {
    struct dpu_set_t all, next;
    uint32_t count;
    bool has_next;
};

#define DPU_ALLOCATE_ALL UINT32_MAX
#define DPU_MRAM_HEAP_POINTER_NAME "__sys_used_mram_end"

dpu_error_t dpu_alloc(uint32_t nr_dpus, const char *profile, struct dpu_set_t *dpu_set);
dpu_error_t dpu_free(struct dpu_set_t dpu_set);
dpu_error_t dpu_get_nr_dpus(struct dpu_set_t dpu_set, uint32_t *nr_dpus);
dpu_error_t dpu_load(struct dpu_set_t dpu_set, const char *binary_path, struct dpu_program_t **program);
dpu_error_t dpu_launch(struct dpu_set_t dpu_set, dpu_launch_policy_t policy);
dpu_error_t dpu_sync(struct dpu_set_t dpu_set);

dpu_error_t dpu_copy_to(struct dpu_set_t dpu_set, const char *symbol_name, uint32_t symbol_offset,
                        const void *src, size_t length);
dpu_error_t dpu_copy_from(struct dpu_set_t dpu_set, const char *symbol_name, uint32_t symbol_offset,
                          void *dst, size_t length);
dpu_error_t dpu_broadcast_to(struct dpu_set_t dpu_set, const char *symbol_name, uint32_t symbol_offset,
                             const void *src, size_t length, dpu_xfer_flags_t flags);
dpu_error_t dpu_prepare_xfer(struct dpu_set_t dpu_set, void *buffer);
dpu_error_t dpu_push_xfer(struct dpu_set_t dpu_set, dpu_xfer_t xfer, const char *symbol_name,
                          uint32_t symbol_offset, size_t length, dpu_xfer_flags_t flags);

const char *dpu_error_to_string(dpu_error_t status);

struct dpu_set_dpu_iterator_t dpu_set_dpu_iterator_from(struct dpu_set_t *set);
void dpu_set_dpu_iterator_next(struct dpu_set_dpu_iterator_t *iterator);

/* DPU_FOREACH(set, dpu) or DPU_FOREACH(set, dpu, i) { ... } */
#define DPU_FOREACH(...) QCC_FOREACH_OF(__VA_ARGS__, QCC_FOREACH_I, QCC_FOREACH, )(__VA_ARGS__)
#define QCC_FOREACH_OF(set, one, index, chosen, ...) chosen
#define QCC_FOREACH(set, one)                                                                    \
    for (struct dpu_set_dpu_iterator_t qcc_iterator = dpu_set_dpu_iterator_from(&(set));         \
         qcc_iterator.has_next && ((one) = qcc_iterator.next, true);                             \
         dpu_set_dpu_iterator_next(&qcc_iterator))
#define QCC_FOREACH_I(set, one, index)                                                           \
    for (struct dpu_set_dpu_iterator_t qcc_iterator = dpu_set_dpu_iterator_from(&(set));         \
         qcc_iterator.has_next && ((one) = qcc_iterator.next, (index) = qcc_iterator.count, true); \
         dpu_set_dpu_iterator_next(&qcc_iterator))

#define DPU_ASSERT(statement)                                                                    \
    do {                                                                                         \
        dpu_error_t qcc_error = (statement);                                                     \
        if (qcc_error != DPU_OK) {                                                               \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, dpu_error_to_string(qcc_error));  \
            exit(EXIT_FAILURE);                                                                  \
        }                                                                                        \
    } while (0)

#endif
