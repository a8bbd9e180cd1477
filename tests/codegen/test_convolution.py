"""qcc.conv2d on the CPU against the interpreter: windows, groups and packed weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qcc.dialects.qcc import reference

Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A convolution of weight [outputs, channels / groups, *window]."""

    channels: int
    outputs: int
    window: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = False
    format: str | None = None

    def sizes(self, image: Pair) -> Pair:
        height, width = (
            (image[i] + 2 * self.padding[i] - self.dilation[i] * (self.window[i] - 1) - 1)
            // self.stride[i] + 1
            for i in (0, 1)
        )  # fmt: skip
        return height, width


CASES = {
    "plain": Case(3, 5),
    "bias": Case(3, 5, padding=(1, 1), bias=True),
    "stride": Case(4, 6, stride=(2, 2), padding=(1, 1)),
    "uneven": Case(3, 7, window=(3, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "dilation": Case(2, 3, padding=(2, 2), dilation=(2, 2), bias=True),
    "pointwise": Case(7, 33, window=(1, 1)),
    "pointwise stride": Case(16, 3, window=(1, 1), stride=(2, 2), bias=True),
    "groups": Case(8, 12, padding=(1, 1), groups=4, bias=True),
    "uneven groups": Case(6, 9, window=(2, 3), groups=3),
    "depthwise": Case(5, 5, padding=(1, 1), groups=5, bias=True),
    "depthwise stride": Case(8, 8, window=(5, 5), stride=(2, 2), padding=(2, 2), groups=8),
    "depthwise multiplier": Case(3, 6, padding=(1, 1), groups=3),
    "one": Case(1, 1, window=(1, 1)),
    "far padding": Case(2, 3, padding=(4, 4)),
    "int8": Case(5, 7, padding=(1, 1), bias=True, format="int8"),
    "int4": Case(8, 9, window=(2, 2), stride=(2, 2), format="int4<group=32>"),
    "int4 groups": Case(6, 6, groups=2, padding=(1, 1), format="int4<group=12>"),
    "half scales": Case(8, 5, padding=(1, 1), format="int4<group=24,scale=fp16>"),
    "mxfp4": Case(8, 5, padding=(1, 1), format="mxfp4"),
    "amxfp4 pointwise": Case(33, 8, window=(1, 1), format="amxfp4"),
    "nvfp4": Case(4, 4, bias=True, format="nvfp4<two_level=true>"),
    "int8 depthwise": Case(8, 8, padding=(1, 1), groups=8, bias=True, format="int8"),
    "nf4 depthwise": Case(5, 5, stride=(2, 2), groups=5, format="nf4<group=channel>"),
}
IMAGES = [(1, (9, 9)), (2, (7, 11)), (1, (16, 33)), (3, (5, 6))]
NAMES = {key: f"c{i}" for i, key in enumerate(CASES)}


@dataclass(frozen=True)
class Shaped:
    """A case of one image of known size, which kernels may read in place."""

    case: Case
    image: Pair


SHAPED = {
    "pointwise": Shaped(Case(5, 20, window=(1, 1), bias=True), (3, 7)),
    "pointwise of one pixel": Shaped(Case(40, 17, window=(1, 1), bias=True), (1, 1)),
    "pointwise in strips": Shaped(Case(3, 48, window=(1, 1)), (13, 21)),
    "pointwise stride": Shaped(Case(4, 16, window=(1, 1), stride=(2, 2)), (9, 23)),
    "unpadded": Shaped(Case(6, 33, bias=True), (6, 19)),
    "narrow": Shaped(Case(4, 24, padding=(1, 1)), (5, 3)),
    "grouped": Shaped(Case(6, 40, window=(3, 5), padding=(1, 0), groups=2), (4, 12)),
    "depthwise": Shaped(Case(7, 7, window=(5, 5), padding=(2, 2), groups=7, bias=True), (3, 101)),
    "depthwise narrow": Shaped(Case(5, 5, padding=(1, 1), groups=5), (2, 5)),
    "int4 wide": Shaped(Case(8, 20, padding=(1, 1), format="int4<group=8>"), (4, 130)),
}


# Weights of more k than a thread's stack has room for: sixteen rows, and four.
SHAPED |= {
    "deep": Shaped(Case(8192, 9, window=(4, 4)), (4, 5)),
    "deep int4": Shaped(Case(8192, 8, window=(4, 4), format="int4<group=32>"), (5, 4)),
    "deep int2 in odd groups": Shaped(
        Case(4097, 8, window=(3, 3), format="int2<group=12>"), (3, 4)
    ),
    "deep with few outputs": Shaped(Case(8192, 4, window=(5, 5), format="int8"), (5, 5)),
}

SHAPED_NAMES = {key: f"s{i}" for i, key in enumerate(SHAPED)}


def body(case: Case, name: str, weight: str, image: Pair | None = None) -> str:
    pairs = ", ".join(
        f"{field} = array<i64: {', '.join(map(str, getattr(case, field)))}>"
        for field in ("stride", "padding", "dilation")
    )
    x, y = types(case, image)
    b = f"tensor<{case.outputs}xf32>"
    return f"""
      %w = "qcc.param"() {{symbol = "{name}.w"}} : () -> {weight}
      %b = "qcc.param"() {{symbol = "{name}.b"}} : () -> {b}
      %y = "qcc.conv2d"(%x, %w{", %b" if case.bias else ""}) {{
        {pairs}, groups = {case.groups} : i64,
        operandSegmentSizes = array<i32: 1, 1, {int(case.bias)}>}}
        : ({x}, {weight}{f", {b}" if case.bias else ""}) -> {y}
      return %y : {y}"""


def types(case: Case, image: Pair | None) -> tuple[str, str]:
    if image is None:
        return f"tensor<?x{case.channels}x?x?xf32>", f"tensor<?x{case.outputs}x?x?xf32>"
    rows, columns = case.sizes(image)
    return (
        f"tensor<?x{case.channels}x{image[0]}x{image[1]}xf32>",
        f"tensor<?x{case.outputs}x{rows}x{columns}xf32>",
    )


@pytest.fixture(scope="module")
def convolutions(programs, floats):
    cases = [(NAMES[key], case, None) for key, case in CASES.items()]
    cases += [(SHAPED_NAMES[key], shaped.case, shaped.image) for key, shaped in SHAPED.items()]
    for i, (name, case, image) in enumerate(cases):
        values = floats(case.outputs, case.channels // case.groups, *case.window, seed=i)
        weight = programs.parameter(f"{name}.w", values, case.format)
        programs.parameter(f"{name}.b", floats(case.outputs, seed=i))
        x, y = types(case, image)
        programs.function(name, f"(%x: {x}) -> {y}", body(case, name, weight, image))
    return programs


@pytest.mark.parametrize("key", CASES)
def test_matches_the_interpreter(convolutions, floats, key: str) -> None:
    for batch, image in IMAGES:
        check_case(convolutions, floats, CASES[key], NAMES[key], batch, image)


@pytest.mark.parametrize("key", SHAPED)
def test_matches_where_sizes_are_known(convolutions, floats, key: str) -> None:
    for batch in (1, 3):
        shaped = SHAPED[key]
        check_case(convolutions, floats, shaped.case, SHAPED_NAMES[key], batch, shaped.image)


def check_case(convolutions, floats, case: Case, name: str, batch: int, image: Pair) -> None:
    weight = convolutions.decoded[f"{name}.w"]
    bias = np.abs(convolutions.decoded[f"{name}.b"]) if case.bias else None
    x = floats(batch, case.channels, *image, seed=batch)
    magnitude = reference.conv2d(
        np.abs(x), np.abs(weight), bias, stride=case.stride, padding=case.padding,
        dilation=case.dilation, groups=case.groups,
    )  # fmt: skip
    terms = weight[0].size + 2
    bound = 2 * terms * 2.0**-24 * magnitude.astype(np.float64)
    expected = convolutions.check(name, x, bound=bound)
    assert expected.shape == (batch, case.outputs, *case.sizes(image))
    assert np.abs(expected).max() > 0
