"""Kernels of every method equal the integer product bit for bit; DMA is split and aligned."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.pim.footprint import mram_need, wram_need
from qcc.dialects.pim.kernel import mram_bytes, walk, wram_bytes
from qcc.dialects.pim.layout import dpu_arrays, product_of
from qcc.dialects.pim.legality import illegal
from qcc.dialects.pim.reference import Counts, run_kernel
from qcc.dialects.pim.schedule import Problem, Schedule, Share
from qcc.passes.legalize_dma import legalize_dma
from qcc.passes.pim_fly_kernel import walk_codes
from qcc.passes.pim_kernel import pim_kernel

BIT = (-1, 1)
INT2 = (0, 1, -2, -1)
INT4 = tuple(range(8)) + tuple(range(-8, 0))
INT8 = tuple(range(128)) + tuple(range(-128, 0))
A3 = tuple(range(-4, 4))
DINT4 = (*range(-14, 14, 2), 1, -1)
"""Twice the values of symmetric dINT4."""
DPU = pim.device("v1A")


@pytest.fixture(autouse=True)
def context() -> Iterator[None]:
    with make_context(), ir.Location.unknown():
        yield


def run(problem: Problem, schedule: Schedule) -> Counts:
    """Run a kernel on random codes and compare with the product of what they mean."""
    share = Share(problem, schedule)
    assert list(illegal(share, DPU)) == []
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        kernel = pim_kernel(share, DPU, "product")
    assert module.operation.verify()
    assert wram_bytes(kernel) == wram_need(share) + schedule.tasklets * DPU.stack
    assert mram_bytes(kernel) == mram_need(share)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, len(problem.weights), (problem.rows, problem.k))
    inputs = rng.integers(0, len(problem.activations), (problem.tokens, problem.k))
    arrays = dpu_arrays(share, weights, inputs)
    counts = run_kernel(kernel, arrays, {})
    step = problem.group or problem.k
    expected = np.stack([
        np.array(problem.activations)[inputs[:, at : at + step]]
        @ np.array(problem.weights)[weights[:, at : at + step]].T
        for at in range(0, problem.k, step)
    ])  # fmt: skip
    found = product_of(share, arrays["results"])
    assert np.array_equal(found, expected if problem.group else expected[0])
    return counts


@pytest.mark.parametrize(
    ("books", "schedule"),
    [
        ((BIT, A3), Schedule("lanes", 8, 4, shared=True, words=2, row_block=4, row_parts=2)),
        ((BIT, A3), Schedule("lanes", 6, 16, shared=True, words=2, row_block=4, tasklets=4)),
        ((BIT, A3), Schedule("lanes", 3, 1, words=1, row_block=8, tasklets=3)),
        ((INT2, INT2), Schedule("lanes", 4, 2, shared=True, words=3, row_block=4, tasklets=4)),
        ((DINT4, INT8), Schedule("lanes", 2, 4, shared=True, row_block=2, tasklets=4)),
        ((INT4, INT4), Schedule("lanes", 1, 8, shared=True, row_block=2, tasklets=4)),
        ((BIT, A3), Schedule("fly", 8, 2, row_block=4, tasklets=2, token_parts=2)),
        ((INT2, INT2), Schedule("fly", 5, 2, shared=True, row_block=4, tasklets=2)),
        ((BIT, A3), Schedule("canonical", 5, 4, "resident", row_block=4, tasklets=11)),
        ((BIT, BIT), Schedule("canonical", 7, 4, "resident", row_block=4, tasklets=11)),
        ((BIT, A3), Schedule("canonical", 6, 4, "stream", row_block=8, row_parts=3)),
        ((INT2, INT2), Schedule("canonical", 5, 2, "stream", shared=True, row_block=4, tasklets=4)),
        ((BIT, A3), Schedule("packed", 4, 4, "stream", row_block=8, row_parts=3)),
        ((BIT, A3), Schedule("packed", 3, 4, "resident", row_block=16, token_parts=5)),
        ((BIT, BIT), Schedule("packed", 4, 2, row_block=8, k_parts=3, token_parts=2)),
        ((BIT, A3), Schedule("lanes", 4, 2, shared=True, row_block=4, tasklets=2, k_parts=4)),
        (
            (BIT, A3),
            Schedule("lanes", 6, 8, shared=True, words=2, row_block=4, tasklets=2, lane_bits=8),
        ),
        ((INT2, INT4), Schedule("lanes", 3, 4, shared=True, row_block=2, tasklets=2, lane_bits=8)),
        ((INT4, INT8), Schedule("multiply", groups=8, row_block=2, words=2)),
        ((INT4, INT4), Schedule("canonical", 1, 8, "resident", row_block=4, tasklets=2)),
    ],
    ids=lambda each: (
        f"{each.method}-{each.p}x{each.k_parts}" if isinstance(each, Schedule) else None
    ),
)
def test_kernels_are_exact(
    books: tuple[tuple[int, ...], tuple[int, ...]], schedule: Schedule
) -> None:
    run(Problem(21, 37, 5, *books), schedule)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("lanes", 2, 2, shared=True, words=2, row_block=4, tasklets=2),
        Schedule("fly", 3, 2, row_block=4, tasklets=2, k_parts=2, token_parts=2),
        Schedule("canonical", 3, 2, "resident", row_block=4, tasklets=3, k_parts=3),
        Schedule("packed", 3, 2, shared=True, row_block=4, tasklets=2, row_parts=2),
        Schedule("multiply", groups=2, row_block=2, words=2, tasklets=3, k_parts=2),
    ],
    ids=lambda each: f"{each.method}x{each.k_parts}",
)
def test_sums_of_groups_stay_apart(schedule: Schedule) -> None:
    """Ragged, books without 0: five groups of 8 inputs, the last of 5, over DPUs and rounds."""
    problem = Problem(21, 37, 5, BIT, A3, 8)
    assert Share(problem, schedule).rounds == -(-5 // schedule.k_parts)
    run(problem, schedule)


def test_lanes_are_emptied_before_they_overflow() -> None:
    """37 rows of 700 products of up to 64 are three spans of 16 bits; the worst case is run."""
    problem = Problem(4, 700, 2, (-8, 7), (-8, 7))
    share = Share(problem, Schedule("lanes", 4, 8, shared=True, row_block=4, tasklets=1))
    assert share.spans == 2
    run(problem, share.schedule)
    extreme = Share(problem, share.schedule)
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        kernel = pim_kernel(extreme, DPU, "product")
    arrays = dpu_arrays(extreme, np.zeros((4, 700), int), np.zeros((2, 700), int))
    run_kernel(kernel, arrays, {})
    assert (product_of(extreme, arrays["results"]) == 700 * 64).all()


@pytest.mark.parametrize("code", [0, 1])
def test_bytes_hold_the_extremes(code: int) -> None:
    """Bursts of five groups of six products of up to 4, and spans of 16 bits, at their ends."""
    problem = Problem(4, 9000, 4, BIT, A3)
    share = Share(problem, Schedule("lanes", 6, 8, shared=True, row_block=4, tasklets=1,
                                    lane_bits=8))  # fmt: skip
    assert (share.burst, share.spans) == (5, 2)
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        kernel = pim_kernel(share, DPU, "product")
    arrays = dpu_arrays(share, np.full((4, 9000), code), np.zeros((4, 9000), int))
    run_kernel(kernel, arrays, {})
    assert (product_of(share, arrays["results"]) == (36000, -36000)[code]).all()


def test_what_moves_is_counted() -> None:
    counts = run(Problem(8, 64, 2, BIT, A3), Schedule("canonical", 4, 4, row_block=8, tasklets=2))
    groups, tokens = 16, 2
    slices = 2 * 16
    assert counts.lookups == groups * tokens * 8
    assert counts.bytes_in == tokens * groups * (slices + 8 + 8)
    assert counts.bytes_out == tokens * 8 * 2
    assert counts.requests == tokens * (2 * groups + 2 * groups // 4 + 1)


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (Schedule("canonical", 8, 4, row_block=512), "bytes of WRAM for p = 8, groups = 4 exceed"),
        (Schedule("canonical", 8, 4, tasklets=30), "30 tasklets, v1A has 24"),
        (Schedule("packed", 8, 1, row_block=8), "bytes of MRAM for p = 8"),
        (Schedule("fly", 8, 3, row_block=1), "no multiple of 8 bytes"),
        (Schedule("fly", 16, 1, row_block=8), "longer to make than it saves"),
        (Schedule("guess"), "is none of"),
        (Schedule("lanes", 8, row_parts=9999, row_block=8), "the machine has 2048"),
    ],
)
def test_illegal_schedules_say_why(schedule: Schedule, reason: str) -> None:
    """The first is the overflow of pim.md §1.7."""
    problem = Problem(512, 768, 16, BIT, A3)
    assert any(reason in each for each in illegal(Share(problem, schedule), DPU))


def test_codes_are_walked_one_step_at_a_time() -> None:
    for book, count in ((BIT, 4), (INT2, 2), (INT4, 1), (DINT4, 1)):
        path = walk_codes(book, count)
        assert len(set(path)) == len(book) ** count
        order = {code: rank for rank, code in enumerate(sorted(range(len(book)),
                                                               key=lambda c: book[c]))}  # fmt: skip
        for before, after in pairwise(path):
            moved = [abs(order[a] - order[b]) for a, b in zip(before, after, strict=True)]
            assert sorted(moved) == [0] * (count - 1) + [1]


COPY = """
"pim.kernel"() ({
^bb0(%x: !pim.mram<tensor<4x3000xsi8>>):
  %b = "pim.wram_alloc"() {symbol = "b"} : () -> !pim.wram<tensor<3000xsi8>, "shared">
  %zero = "arith.constant"() {value = 0 : i32} : () -> i32
  %at = "arith.constant"() {value = START : i32} : () -> i32
  "pim.copy_in"(%x, %at, %b, %zero) {count = 2501 : i64, note = "rows"}
    : (!pim.mram<tensor<4x3000xsi8>>, i32, !pim.wram<tensor<3000xsi8>, "shared">, i32) -> ()
  "pim.return"() : () -> ()
}) {symbol = "k", device = "v1A", tasklets = 1 : i64, stack = 1024 : i64, arguments = ["x"]}
  : () -> ()
"""


def test_long_copies_are_split_and_padded() -> None:
    module = ir.Module.parse(COPY.replace("START", "3000"))
    legalize_dma(module.operation)
    assert module.operation.verify()
    (kernel,) = module.body.operations
    requests = [op for op in walk(kernel) if op.operation.name == "pim.dma_in"]
    assert [op.count.value for op in requests] == [2048, 456]
    assert "note" in requests[0].operation.attributes


def test_unaligned_copies_are_refused() -> None:
    module = ir.Module.parse(COPY.replace("START", "3004"))
    with pytest.raises(QccError, match="not aligned"):
        legalize_dma(module.operation)
