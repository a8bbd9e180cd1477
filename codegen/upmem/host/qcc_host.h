/* Steps of a plan on a set of DPUs: transfers of one length for all, and the program that is loaded. */
#ifndef QCC_HOST_H
#define QCC_HOST_H

#include <dpu.h>
#include <string.h>

/* The DPUs of a plan. */
struct qcc_dpus {
    struct dpu_set_t set;
    const char *program; /* the one that is loaded; null at first */
};

#define QCC_TRY(call)                                \
    do {                                             \
        dpu_error_t qcc_status = (call);             \
        if (qcc_status != DPU_OK) return qcc_status; \
    } while (0)

/* Load `program` unless it is; what MRAM holds stays. */
static inline dpu_error_t qcc_use(struct qcc_dpus *dpus, const char *program) {
    if (dpus->program && !strcmp(dpus->program, program)) return DPU_OK;
    QCC_TRY(dpu_load(dpus->set, program, NULL));
    dpus->program = program;
    return DPU_OK;
}

/* The same bytes to `offset` of the MRAM of all DPUs. */
static inline dpu_error_t qcc_broadcast(struct qcc_dpus *dpus, uint32_t offset, const void *data, size_t bytes) {
    return dpu_broadcast_to(dpus->set, DPU_MRAM_HEAP_POINTER_NAME, offset, data, bytes, DPU_XFER_DEFAULT);
}

/* To each DPU its own `bytes` of `data`; those behind the last that works get what that one gets. */
static inline dpu_error_t qcc_scatter(struct qcc_dpus *dpus, uint32_t working, uint32_t offset, const void *data,
                                      size_t bytes) {
    struct dpu_set_t dpu;
    uint32_t i;
    DPU_FOREACH(dpus->set, dpu, i) {
        size_t part = i < working ? i : working - 1;
        QCC_TRY(dpu_prepare_xfer(dpu, (void *)((uintptr_t)data + part * bytes)));
    }
    return dpu_push_xfer(dpus->set, DPU_XFER_TO_DPU, DPU_MRAM_HEAP_POINTER_NAME, offset, bytes, DPU_XFER_DEFAULT);
}

/* From each DPU that works its `bytes`, one after another into `data`. */
static inline dpu_error_t qcc_gather(struct qcc_dpus *dpus, uint32_t working, uint32_t offset, void *data, size_t bytes) {
    struct dpu_set_t dpu;
    uint32_t i;
    DPU_FOREACH(dpus->set, dpu, i) {
        QCC_TRY(dpu_prepare_xfer(dpu, i < working ? (uint8_t *)data + i * bytes : NULL));
    }
    return dpu_push_xfer(dpus->set, DPU_XFER_FROM_DPU, DPU_MRAM_HEAP_POINTER_NAME, offset, bytes, DPU_XFER_DEFAULT);
}

/* Run the loaded program on arrays at `offsets`, and wait. */
static inline dpu_error_t qcc_launch(struct qcc_dpus *dpus, const uint32_t *offsets, size_t bytes) {
    QCC_TRY(dpu_broadcast_to(dpus->set, "mram_offsets", 0, offsets, bytes, DPU_XFER_DEFAULT));
    return dpu_launch(dpus->set, DPU_SYNCHRONOUS);
}

#endif
