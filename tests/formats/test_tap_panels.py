"""The layout of convolution weights by tap, and that it can be undone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.tap_panels import (
    from_tap_panels,
    has_tap_panels,
    tap_panel_specs,
    to_tap_panels,
)

SHAPES = [(16, 16, 3, 3), (17, 3, 1, 1), (40, 33, 2, 5), (1, 1, 1, 1)]


@pytest.mark.parametrize(
    "spelling", [f"int{bits}" for bits in range(2, 9)] + ["int8<group=tensor>"]
)
def test_the_inverse_undoes_the_layout(spelling: str) -> None:
    fmt = parse_spelling(spelling)
    for shape in SHAPES:
        rows = np.random.default_rng(0).standard_normal(
            (shape[0], math.prod(shape[1:])), np.float32
        )
        parts = fmt.encode_rows(rows)
        panels = to_tap_panels(fmt, parts, shape)
        found = {role: (part.shape, part.dtype) for role, part in panels.items()}
        assert found == tap_panel_specs(fmt, shape)
        restored = from_tap_panels(fmt, panels, shape)
        assert restored.keys() == parts.keys()
        for role, part in parts.items():
            assert restored[role].dtype == part.dtype
            np.testing.assert_array_equal(restored[role], part, role)


def test_four_channels_of_a_tap_are_neighbours() -> None:
    fmt = parse_spelling("int8")
    values = np.arange(-63, 65).reshape(16, 4, 2, 1).astype(np.float32)
    values[:, 0, 0] = 127  # so that the scale is 1
    rows = values.reshape(16, -1)
    codes = to_tap_panels(fmt, fmt.encode_rows(rows), values.shape)["codes"].view(np.int8)
    by_unit = codes.reshape(2, 16, 4)
    for tap in range(2):
        np.testing.assert_array_equal(by_unit[tap], values[:, :, tap, 0])


@pytest.mark.parametrize(
    "spelling", ["int8<group=32>", "uint8", "mxfp4", "int8<symmetric=false>", "nf4"]
)
def test_formats_without_the_layout(spelling: str) -> None:
    assert not has_tap_panels(parse_spelling(spelling))
