"""The panel layout of stored parts, and that it can be undone."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.formats import available, parse_spelling
from qcc.dialects.formats.panels import code_planes, from_panels, panel_specs, panel_unit, to_panels

TABLE = "table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]"
SPELLINGS = [f"lut4<{TABLE}>" if name == "lut4" else name for name in available()]
SPELLINGS += [
    *(
        f"int{bits}<group={group}>"
        for bits in (2, 3, 4, 5, 7, 8)
        for group in (8, 48, 64, "tensor")
    ),
    *("int8<group=5>", "int4<group=12>", "dint4<group=16>", "nvfp4<two_level=true>"),
    "nestedfp16<view=fp8_e4m3>",
]
SHAPES = [(1, 1), (16, 64), (17, 33), (40, 100), (5, 7), (31, 257)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_inverse_undoes_the_layout(spelling: str) -> None:
    fmt = parse_spelling(spelling)
    for rows, k in SHAPES:
        values = np.random.default_rng(k).standard_normal((rows, k), np.float32) / 4
        parts = fmt.encode_rows(values)
        panels = to_panels(fmt, parts, k)
        found = {role: (part.shape, part.dtype) for role, part in panels.items()}
        assert found == panel_specs(fmt, rows, k)
        restored = from_panels(fmt, panels, rows, k)
        assert restored.keys() == parts.keys()
        for role, part in parts.items():
            assert restored[role].dtype == part.dtype
            np.testing.assert_array_equal(restored[role], part, role)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("unit", [8, 16, 32])
def test_every_bit_of_a_unit_has_one_place(bits: int, unit: int) -> None:
    taken = [
        8 * (plane.start + 16 * (word * plane.word_bits // 8)) + at + bit
        for plane in code_planes(bits, unit)
        for position in range(unit)
        for word, at in [plane.place(position)]
        for bit in range(plane.bits)
    ]
    assert len(set(taken)) == len(taken) == bits * unit


def test_a_mask_finds_four_consecutive_codes() -> None:
    fmt = parse_spelling("int4")
    codes = np.arange(1, 9, dtype=np.uint8)
    row = (codes[::2] | codes[1::2] << 4)[None]
    panel = to_panels(fmt, {"codes": row, "scale": np.ones((1, 1), np.float32)}, 8)["codes"]
    word = panel.reshape(16, 4)[0]
    np.testing.assert_array_equal(word & 15, [1, 2, 3, 4])
    np.testing.assert_array_equal(word >> 4, [5, 6, 7, 8])


@pytest.mark.parametrize("spelling", ["int4<group=5>", "uint3<group=12>", "int8<group=4096>"])
def test_blocks_that_panels_cannot_hold(spelling: str) -> None:
    assert panel_unit(parse_spelling(spelling)) is None
