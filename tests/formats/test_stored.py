"""Stored layouts by name: their inverse, their sizes, and what they cannot hold."""

import math

import numpy as np
import pytest

from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.stored import (
    LAYOUTS,
    from_layout,
    layout_refusal,
    stored_specs,
    to_layout,
)

SHAPES = {2: (21, 96), 4: (21, 5, 3, 2)}


@pytest.mark.parametrize(
    ("layout", "spelling"),
    [*((layout, "int8<group=channel>") for layout in (None, *LAYOUTS) if layout != "mma4"),
     *((layout, "int4<group=32>") for layout in (None, *LAYOUTS) if layout != "panel16-taps")],
)  # fmt: skip
def test_parts_come_back(layout, spelling):
    fmt = parse_spelling(spelling)
    shape = SHAPES[LAYOUTS[layout].rank if layout else 2]
    values = np.random.default_rng(1).normal(size=(shape[0], math.prod(shape[1:])))
    parts = fmt.encode_rows(values.astype(np.float32))
    stored = to_layout(fmt, layout, parts, shape)
    specs = stored_specs(fmt, layout, shape)
    assert {role: (part.shape, part.dtype) for role, part in stored.items()} == specs
    back = from_layout(fmt, layout, stored, shape)
    assert back.keys() == parts.keys()
    for role, part in parts.items():
        np.testing.assert_array_equal(back[role], part)


@pytest.mark.parametrize(
    ("spelling", "layout", "shape", "reason"),
    [
        ("int4", "mma9", (16, 64), "there is no layout 'mma9', only panel16, panel16-taps, mma16"),
        ("int4", "mma16", (16, 4, 2, 2), "'mma16' is a layout of tensors of rank 2, not 4"),
        ("int8", "panel16-taps", (16, 64), "'panel16-taps' is a layout of tensors of rank 4"),
        ("fp16", "mma8", (16, 64), "'mma8' has no codes of 16 bits, as fp16"),
        ("int3<group=9>", "panel16", (16, 64), "no units that blocks of int3<group=9> divide into"),
        ("int4<group=32>", "panel16-taps", (16, 4, 2, 2), "is for integers times a scale a row"),
    ],
)
def test_layouts_say_what_they_cannot_hold(spelling, layout, shape, reason):
    assert reason in str(layout_refusal(parse_spelling(spelling), layout, shape))


def test_layouts_hold_the_rest():
    assert layout_refusal(parse_spelling("int4"), "mma16", (16, 64)) is None
    assert (
        layout_refusal(parse_spelling("int8<group=channel>"), "panel16-taps", (16, 4, 2, 2)) is None
    )
