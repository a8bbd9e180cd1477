"""Stored orders for matrix units: their inverse, their sizes, and the fragments they feed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.dialects.formats import format
from qcc.dialects.formats.packets import (
    LANES,
    ORDERS,
    PACKET_COLUMNS,
    PACKET_ROWS,
    from_packets,
    pack_packets,
    packet_specs,
    to_packets,
    unpack_packets,
    word_planes,
)
from qcc.dialects.tile.fragments import INSTRUCTIONS

orders = pytest.mark.parametrize("order", ORDERS.values(), ids=lambda each: each.name)


@orders
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 16), st.integers(1, 50), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(order, bits, rows, k, seed):
    bits = min(bits, order.widest_plane)
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, k))
    packets = pack_packets(order, codes, bits)
    assert packets.shape == (-(-rows // 16), -(-k // 64), 32 * bits)
    np.testing.assert_array_equal(unpack_packets(order, packets, bits, rows, k), codes)


@pytest.mark.parametrize(
    ("order", "bits"),
    [
        (order, bits)
        for order in ORDERS.values()
        for bits in range(1, min(order.widest_plane, 8) + 1)
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_every_bit_of_a_packet_holds_one_bit_of_one_code(order, bits):
    """So nothing is stored twice or not at all."""
    seen = np.zeros((LANES * bits, 32), int)
    for plane in word_planes(order, bits):
        for register in range(order.registers):
            for element in range(order.per_register):
                word, bit = plane.place(register, element)
                where = plane.offset(np.arange(LANES), word)
                seen[where, bit : bit + plane.bits] += 1
    assert (seen == 1).all()


@orders
def test_registers_are_fragments_of_the_unit(order):
    names = {2: "mma.m16n8k16.f16", 4: "mma.m16n8k32.s8", 8: "mma.m16n8k64.s4"}
    unit = INSTRUCTIONS[names[order.per_register]]
    left, right = unit.a, unit.b
    lanes = np.arange(LANES)
    e, steps = order.per_register, PACKET_COLUMNS // (8 * order.per_register)
    for step in range(steps):
        for value in range(4 * e):
            register, element = divmod(value, e)
            stored = 4 * step + {0: 0, 1: 2, 2: 1, 3: 3}[register]
            n, k = left(lane=lanes, value=value)
            mine = order.position(lanes, stored, element)
            np.testing.assert_array_equal(mine, (n, k + 8 * e * step))
        for row in range(2):
            for value in range(2 * e):
                register, element = divmod(value, e)
                n, k = right(lane=lanes, value=value)
                mine = order.position(lanes, 4 * step + 2 * row + register, element)
                np.testing.assert_array_equal(mine, (n + 8 * row, k + 8 * e * step))


NATIVE = {"nestedfp16": "mma8", "mxfp4": "mma4", "nvfp4": "mma4"}


@pytest.mark.parametrize(
    "spelling",
    ["int4", "mxfp4", "nvfp4", "int3<group=8>", "uint5<group=16>", "mxfp6_e2m3",
     "amxfp4", "nf4", "fp16", "dint4", "nvfp4<two_level=true>", "int8<group=tensor>",
     "dint4<group=tensor>", "nestedfp16", "nestedfp16<view=fp8_e4m3>", "int4<group=40>"],
)  # fmt: skip
@pytest.mark.parametrize(("rows", "k"), [(1, 192), (16, 192), (37, 192), (7, 97)])
def test_parts_come_back(spelling, rows, k):
    fmt = format(spelling)
    order = ORDERS[NATIVE.get(spelling, "mma16")]
    values = np.random.default_rng(1).uniform(-1.7, 1.7, (rows, k)).astype(np.float32)
    parts = fmt.encode_rows(values)
    stored = to_packets(fmt, order, parts, k)
    specs = packet_specs(fmt, order, rows, k)
    assert {role: (part.shape, part.dtype) for role, part in stored.items()} == specs
    back = from_packets(fmt, order, stored, rows, k)
    assert back.keys() == parts.keys()
    for role, part in parts.items():
        np.testing.assert_array_equal(back[role], part)


def test_packets_are_whole_rows_and_columns():
    assert PACKET_ROWS * PACKET_COLUMNS == LANES * 32
    with pytest.raises(ValueError, match="no codes of 9 bits"):
        word_planes(ORDERS["mma8"], 9)
