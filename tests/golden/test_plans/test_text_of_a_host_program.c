/*
 * 3 layers on 6 DPUs v1A; programs: pim_0.dpu, pim_1.dpu.
 * Arrays hold the bytes of the first DPU, then those of the second, and so on.
 */
#ifndef PLAN_H
#define PLAN_H

#include <qcc_host.h>

/* What stays in MRAM from call to call. */
struct plan_constants {
    const void *block_0_first_table; /* 1280 bytes, the same for all */
    const void *block_0_first_reorder; /* 384 bytes, the same for all */
    const void *block_0_first_weights; /* 6 x 112 bytes */
    const void *block_0_second_weights; /* 6 x 112 bytes */
    const void *head_weights; /* 2 x 160 bytes */
};

dpu_error_t plan_open(struct qcc_dpus *dpus);
dpu_error_t plan_load(struct qcc_dpus *dpus, const struct plan_constants *constants);
dpu_error_t plan_block_0_first(struct qcc_dpus *dpus, const void *places, void *results);
dpu_error_t plan_block_0_second(struct qcc_dpus *dpus, const void *places, void *results);
dpu_error_t plan_head(struct qcc_dpus *dpus, const void *inputs, void *results);

#endif
#include "plan.h"

dpu_error_t plan_open(struct qcc_dpus *dpus) {
    dpus->program = NULL;
    return dpu_alloc(6, NULL, &dpus->set);
}

/* Tables and weights to MRAM, once. */
dpu_error_t plan_load(struct qcc_dpus *dpus, const struct plan_constants *constants) {
    QCC_TRY(qcc_use(dpus, "pim_0.dpu"));
    QCC_TRY(qcc_broadcast(dpus, 0, constants->block_0_first_table, 1280));
    QCC_TRY(qcc_broadcast(dpus, 1280, constants->block_0_first_reorder, 384));
    QCC_TRY(qcc_scatter(dpus, 6, 1664, constants->block_0_first_weights, 112));
    QCC_TRY(qcc_scatter(dpus, 6, 1776, constants->block_0_second_weights, 112));
    QCC_TRY(qcc_scatter(dpus, 2, 1888, constants->head_weights, 160));
    return DPU_OK;
}

/*
 * block.0.first: 24 x 40, 3 tokens, by canonical of p = 3;
 * 1 parts of the sum x 3 of rows x 2 of tokens, a DPU each.
 */
dpu_error_t plan_block_0_first(struct qcc_dpus *dpus, const void *places, void *results) {
    /* Of table, reorder, weights, places, results. */
    static const uint32_t offsets[] = {0, 1280, 1664, 2048, 2272};
    QCC_TRY(qcc_use(dpus, "pim_0.dpu"));
    QCC_TRY(qcc_scatter(dpus, 6, 2048, places, 224));
    QCC_TRY(qcc_launch(dpus, offsets, sizeof offsets));
    QCC_TRY(qcc_gather(dpus, 6, 2272, results, 32));
    return DPU_OK;
}

/*
 * block.0.second: 24 x 40, 3 tokens, by canonical of p = 3;
 * 1 parts of the sum x 3 of rows x 2 of tokens, a DPU each.
 */
dpu_error_t plan_block_0_second(struct qcc_dpus *dpus, const void *places, void *results) {
    /* Of table, reorder, weights, places, results. */
    static const uint32_t offsets[] = {0, 1280, 1776, 2048, 2272};
    QCC_TRY(qcc_use(dpus, "pim_0.dpu"));
    QCC_TRY(qcc_scatter(dpus, 6, 2048, places, 224));
    QCC_TRY(qcc_launch(dpus, offsets, sizeof offsets));
    QCC_TRY(qcc_gather(dpus, 6, 2272, results, 32));
    return DPU_OK;
}

/*
 * head: 10 x 40, 3 tokens, by lanes of p = 2;
 * 1 parts of the sum x 2 of rows x 1 of tokens, a DPU each.
 */
dpu_error_t plan_head(struct qcc_dpus *dpus, const void *inputs, void *results) {
    /* Of weights, inputs, results. */
    static const uint32_t offsets[] = {1888, 2048, 2368};
    QCC_TRY(qcc_use(dpus, "pim_1.dpu"));
    QCC_TRY(qcc_scatter(dpus, 2, 2048, inputs, 320));
    QCC_TRY(qcc_launch(dpus, offsets, sizeof offsets));
    QCC_TRY(qcc_gather(dpus, 2, 2368, results, 64));
    return DPU_OK;
}
