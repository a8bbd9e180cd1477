"""Both emulators: what programs compute, what stops them, and schedules that expose races."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.upmem.dpu_program import DpuProgram
from qcc.codegen.upmem.faults import DpuFault
from qcc.dialects.errors import UsageError

SUMS = """
#include <mutex.h>
#include <qcc_dpu.h>
BARRIER_INIT(all_there, NR_TASKLETS)
MUTEX_INIT(lock)
__mram_noinit uint8_t values[4096];
__mram uint32_t constants[2] = {40, 2};
__host uint32_t total, launches;
static __dma_aligned uint8_t block[NR_TASKLETS][512];
int main(void) {
    uint8_t *mine = block[me()];
    uint32_t sum = 0;
    if (me() == 0) total = 0, ++launches;
    barrier_wait(&all_there);
    for (uint32_t at = me() * 512; at < 4096; at += NR_TASKLETS * 512) {
        qcc_read(&values[at], mine, 512);
        for (uint32_t i = 0; i < 512; ++i) sum += mine[i];
        qcc_write(mine, &values[at], 512);
    }
    mutex_lock(lock);
    uint32_t before = total;
    mram_read(constants, mine, 8); /* time for others to come in between */
    total = before + sum + mine[0] + mine[4];
    mutex_unlock(lock);
    return 0;
}
"""


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_tasklets_sum_under_any_schedule(make, rung, seed):
    dpu = make(rung, DpuProgram("sums", SUMS, 6))
    dpu.poison(3)
    values = np.random.default_rng(seed).integers(0, 256, 4096, np.uint8)
    dpu.write("values", values)
    dpu.launch(seed)
    assert np.frombuffer(dpu.read("total", 4), np.uint32)[0] == values.sum() + 6 * 42


def test_variables_keep_their_values_from_launch_to_launch(make, rung):
    dpu = make(rung, DpuProgram("sums", SUMS, 6))
    dpu.launch()
    dpu.launch()
    assert np.frombuffer(dpu.read("launches", 4), np.uint32)[0] == 2


def test_without_its_mutex_the_sum_depends_on_the_schedule(make, rung):
    racing = SUMS.replace("mutex_lock(lock);", "").replace("mutex_unlock(lock);", "")
    racing = racing.replace("MUTEX_INIT(lock)", "")
    dpu = make(rung, DpuProgram("racing", racing, 6))
    dpu.write("values", np.ones(4096, np.uint8))
    totals = set()
    for seed in range(6):
        dpu.launch(seed)
        totals.add(int(np.frombuffer(dpu.read("total", 4), np.uint32)[0]))
    assert 4096 + 6 * 42 in totals  # in order, nobody comes in between
    assert len(totals) > 1


BODY = """
#include <handshake.h>
#include <mutex.h>
#include <qcc_dpu.h>
BARRIER_INIT(too_many, NR_TASKLETS + 1)
MUTEX_INIT(lock)
__mram_noinit uint8_t far_away[4096];
__host volatile uint32_t number;
static __dma_aligned uint8_t near_by[4096];
int main(void) {
    %s
    return (int)near_by[0] + (int)number;
}
"""
FAULTS = [
    ("dma", "mram_read(far_away, near_by, 12);", "multiples of 8"),
    ("dma", "mram_read(far_away, near_by, 4096);", "2048"),
    ("dma", "mram_read(far_away, near_by + 4, 8);", "both addresses"),
    ("dma", "mram_write(near_by, (__mram_ptr uint8_t *)(64u << 20) + 0x08000000, 8);", "MRAM"),
    ("deadlock", "barrier_wait(&too_many);", "barrier"),
    ("deadlock", "mutex_lock(lock);", "mutex"),
    ("deadlock", "handshake_notify();", "wait"),
    ("misuse", "mutex_unlock(lock);", "does not hold"),
    ("misuse", "handshake_wait_for(me());", "no other tasklet"),
    ("heap-full", "mem_alloc(65000); mem_alloc(65000);", "mem_alloc"),
    ("division-by-zero", "number = 7 / number;", "division"),
    ("halt", "halt();", "halt"),
]


@pytest.mark.parametrize(("fault", "text", "says"), FAULTS, ids=[each[1] for each in FAULTS])
def test_what_stops_a_dpu_stops_the_emulators(make, rung, fault, text, says):
    dpu = make(rung, DpuProgram("faulty", BODY % text, 2))
    with pytest.raises(DpuFault) as caught:
        dpu.launch()
    assert caught.value.fault == fault
    assert says in caught.value.what
    if rung == "rv32" and fault != "deadlock":
        assert "main" in caught.value.where


RV32_FAULTS = [
    ("memory", "number = *(volatile uint32_t *)(number + 16);", "null pointer"),
    ("memory", "number = *(volatile uint32_t *)(number + 65536);", "beyond the working memory"),
    ("memory", "number = *(volatile uint32_t *)(number + 4097);", "not aligned"),
    ("memory", "number = *(volatile __mram_ptr uint8_t *)far_away;", "MRAM"),
    ("endless", "while (*(volatile uint32_t *)near_by == 0) {}", "still running"),
]


@pytest.mark.parametrize(
    ("fault", "text", "says"), RV32_FAULTS, ids=[each[2] for each in RV32_FAULTS]
)
def test_memory_is_that_of_a_dpu(make, fault, text, says, needs_rv32):
    dpu = make("rv32", DpuProgram("faulty", BODY % text, 1))
    with pytest.raises(DpuFault) as caught:
        dpu.launch(most_instructions=100_000)
    assert caught.value.fault == fault
    assert says in caught.value.what
    assert "main" in caught.value.where


def test_undefined_behaviour_ends_a_native_run(make):
    text = BODY % "near_by[number + 4096] = 1;"
    with pytest.raises(DpuFault, match="undefined"):
        make("native", DpuProgram("beyond", text, 1)).launch()


def test_unknown_symbols_and_sizes_are_refused(make, rung):
    dpu = make(rung, DpuProgram("sums", SUMS, 6))
    with pytest.raises(UsageError, match="no symbol 'nothing'"):
        dpu.write("nothing", b"12345678")
    with pytest.raises(UsageError, match="more than"):
        dpu.read("total", 4104)
