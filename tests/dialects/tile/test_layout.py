"""Layouts of tiles: algebra, fragments against their closed forms, swizzles and bank conflicts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcc.dialects.tile.fragments import INSTRUCTIONS
from qcc.dialects.tile.layout import Layout, bank_conflicts, row_major, swizzled

LANE = np.arange(32)[:, None]


@pytest.mark.parametrize("instruction", INSTRUCTIONS.values(), ids=lambda each: each.name)
def test_fragments_follow_the_closed_form(instruction):
    e = instruction.per_register
    g, t = LANE >> 2, LANE & 3
    v = np.arange(4 * e)
    row, column = instruction.a(lane=LANE, value=v)
    np.testing.assert_array_equal(row, g + 8 * ((v // e) & 1))
    np.testing.assert_array_equal(column, e * t + v % e + 4 * e * (v // (2 * e)))
    v = np.arange(2 * e)
    n, k = instruction.b(lane=LANE, value=v)
    np.testing.assert_array_equal(n, g + 0 * v)
    np.testing.assert_array_equal(k, e * t + v % e + 4 * e * (v // e))
    v = np.arange(4)
    row, column = instruction.c(lane=LANE, value=v)
    np.testing.assert_array_equal(row, g + 8 * (v >> 1))
    np.testing.assert_array_equal(column, 2 * t + (v & 1))


@pytest.mark.parametrize("instruction", INSTRUCTIONS.values(), ids=lambda each: each.name)
def test_fragments_hold_every_element_once(instruction):
    for fragment in (instruction.a, instruction.b, instruction.c):
        assert fragment.is_injective
        assert fragment.is_surjective
    assert instruction.a.shape == (16, instruction.k)
    assert instruction.b.shape == (instruction.n, instruction.k)
    assert instruction.c.shape == (16, instruction.n)
    warps = 8 if instruction.in_tensor_memory else 4 if instruction.of_warp_group else 1
    assert instruction.m == 16 * warps


shapes = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda e: (1 << e[0], 1 << e[1]))


def _shuffled(shape, order):
    images = list(row_major(shape).images["offset"])
    order.shuffle(images)
    return Layout(shape, {"offset": tuple(images)})


@given(shapes, st.randoms())
def test_then_finds_the_same_element(shape, order):
    memory = _shuffled(shape, order)
    registers = _shuffled(shape, order).renamed({"offset": "register"})
    index = np.arange(registers.size("register"))
    (place,) = registers.then(memory)(register=index)
    for mine, its in zip(registers(register=index), memory(offset=place), strict=True):
        np.testing.assert_array_equal(mine, its)


@given(shapes, st.randoms())
def test_terms_spell_the_coordinates(shape, order):
    layout = _shuffled(shape, order)
    index = np.arange(layout.size("offset"))
    for axis, coordinate in enumerate(layout(offset=index)):
        spelled = np.zeros_like(index)
        for term in layout.terms(axis):
            spelled ^= ((index >> term.shift) & term.mask) << term.place
        np.testing.assert_array_equal(spelled, coordinate)


def test_repeat_and_share():
    tile = INSTRUCTIONS["mma.m16n8k16.f16"].c.repeat("tile", 1, 4).repeat("warp", 0, 2)
    assert tile.shape == (32, 32)
    assert tile.is_injective
    assert tile(warp=1, tile=3, lane=0, value=0) == (16, 24)
    shared = tile.share("copy", 2)
    assert not shared.is_injective
    assert shared(copy=1, warp=0, tile=0, lane=5, value=0) == shared(
        copy=0, warp=0, tile=0, lane=5, value=0
    )


def test_contiguous_is_the_widest_vector():
    fragment = INSTRUCTIONS["mma.m16n8k32.s8"].b
    assert fragment.contiguous("value") == 4
    assert row_major((4, 8)).contiguous("offset") == 8


def _matrix_rows(memory):
    """Byte addresses of the eight rows of 16 bytes that one matrix of ldmatrix reads."""
    rows = Layout(memory.shape, {"row": ((1, 0), (2, 0), (4, 0))})
    return 2 * np.tile(rows.then(memory)(row=np.arange(8))[0], 4)


def test_a_swizzle_spreads_rows_over_the_banks():
    plain, spread = row_major((64, 64)), swizzled((64, 64), vector=8, period=8)
    assert bank_conflicts(_matrix_rows(plain), 16) == 8
    assert bank_conflicts(_matrix_rows(spread), 16) == 1
    assert spread.is_injective
    assert spread.is_surjective


def test_what_is_no_layout_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        Layout((3, 2), {})
    with pytest.raises(ValueError, match="no position"):
        Layout((2, 2), {"lane": ((2, 0),)})
    with pytest.raises(ValueError, match="no 8 vectors"):
        swizzled((8, 32), vector=8, period=8)
    half = Layout((4, 4), {"offset": ((0, 1), (0, 2))})
    with pytest.raises(ValueError, match="no place"):
        row_major((4, 4), "register").then(half)
