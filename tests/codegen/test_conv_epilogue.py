"""Elementwise ops behind convolutions: computed in their kernels, to the interpreter's results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.codegen.cpu.features import host_features
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.regions import walk

WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {"host": None, "avx2": WITHOUT_512}
ALL = "affine_map<(a, b, c, d) -> (a, b, c, d)>"
CHANNEL = "affine_map<(a, b, c, d) -> (b, 0, 0)>"
ROW = "affine_map<(a, b, c, d) -> (c)>"
NORM = """
    %e = arith.truncf %small : f64 to f32
    %v = arith.addf %variance, %e : f32
    %s = math.sqrt %v : f32
    %i = arith.divf %one, %s : f32
    %t = arith.mulf %sum, %i : f32
"""
CLAMP = """
    %g = arith.cmpf ugt, %u, %zero : f32
    %r = arith.select %g, %u, %zero : f32
"""


@dataclass(frozen=True)
class Case:
    """What is done to the sums, the other inputs' maps, and whether the kernel can do it."""

    steps: str
    result: str
    others: tuple[str, ...] = ()
    fused: bool = True


CASES = {
    "clamp": Case("%u = arith.addf %sum, %one : f32" + CLAMP, "%r"),
    "norm": Case(NORM, "%t", (CHANNEL,)),
    "norm, other image, clamp": Case(
        f"{NORM} %u = arith.addf %t, %image : f32 {CLAMP}", "%r", (CHANNEL, ALL)
    ),
    "two images": Case(
        "%u = arith.mulf %sum, %variance : f32 %r = arith.subf %u, %image : f32", "%r", (ALL, ALL)
    ),
    "channels meet images": Case(
        "%u = arith.mulf %image, %variance : f32 %r = arith.addf %u, %sum : f32", "%r",
        (CHANNEL, ALL), fused=False,
    ),
    "by row": Case("%r = arith.mulf %sum, %variance : f32", "%r", (ROW,), fused=False),
    "exponential": Case("%r = math.exp %sum : f32", "%r", fused=False),
}  # fmt: skip
LAYERS = {
    "fp32": (12, 37, 1, None), "grouped": (10, 40, 2, None), "int8": (12, 37, 1, "int8"),
}  # fmt: skip
SIZES = (5, 11)
NAMES = {(layer, case): f"f{i}" for i, (layer, case) in enumerate(
    (layer, case) for layer in LAYERS for case in CASES
)}  # fmt: skip


def text(name: str, layer: str, case: Case, weight: str) -> tuple[str, str]:
    channels, outputs, groups, spelling = LAYERS[layer]
    x, y = (f"tensor<?x{n}x{SIZES[0]}x{SIZES[1]}xf32>" for n in (channels, outputs))
    types = {ALL: y, CHANNEL: f"tensor<{outputs}x1x1xf32>", ROW: f"tensor<{SIZES[0]}xf32>"}
    others = list(zip(("variance", "image"), case.others, strict=False))
    given = "".join(f", %{each}_: {types[kind]}" for each, kind in others)
    rounded = f'!qcc.packed<{x}, "int8<group=tensor>">'
    image = "%x" if spelling is None else "%d"
    rounding = f"""
      %q = "qcc.quantize"(%x) : ({x}) -> {rounded}
      %d = "qcc.dequantize"(%q) : ({rounded}) -> {x}"""
    maps = ", ".join([ALL, *case.others, ALL])
    operands = ", ".join(["%y", *(f"%{each}_" for each, _ in others)])
    operand_types = ", ".join([y, *(types[kind] for _, kind in others)])
    arguments = ", ".join(["%sum: f32", *(f"%{each}: f32" for each, _ in others), "%out: f32"])
    layout = "" if spelling is None else ', layout = "panel16-taps"'
    return (
        f"(%x: {x}{given}) -> {y}",
        f"""
      %zero = arith.constant 0.0 : f32
      %one = arith.constant 1.0 : f32
      %small = arith.constant 1.0e-05 : f64
      %first = arith.constant 0 : index
      %n = tensor.dim %x, %first : {x}
      %w = "qcc.param"() {{symbol = "{name}"{layout}}} : () -> {weight}
      {"" if spelling is None else rounding}
      %y = "qcc.conv2d"({image}, %w) {{stride = array<i64: 1, 1>, padding = array<i64: 1, 1>,
        dilation = array<i64: 1, 1>, groups = {groups} : i64,
        operandSegmentSizes = array<i32: 1, 1, 0>}} : ({x}, {weight}) -> {y}
      %empty = tensor.empty(%n) : {y}
      %z = linalg.generic {{indexing_maps = [{maps}], iterator_types =
        ["parallel", "parallel", "parallel", "parallel"]}}
        ins({operands} : {operand_types}) outs(%empty : {y}) {{
      ^bb0({arguments}):
        {case.steps}
        linalg.yield {case.result} : f32
      }} -> {y}
      return %z : {y}""",
    )


@pytest.fixture(scope="module", params=FEATURES)
def layers(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    for (layer, key), name in NAMES.items():
        channels, outputs, groups, spelling = LAYERS[layer]
        values = floats(outputs, channels // groups, 3, 3, seed=len(name)) / 4
        weight = programs.parameter(name, values, spelling, taps=spelling is not None)
        programs.function(name, *text(name, layer, CASES[key], weight))
    return programs


@pytest.mark.parametrize(("layer", "key"), NAMES)
def test_against_the_interpreter(layers, floats, layer: str, key: str) -> None:
    channels, outputs = LAYERS[layer][:2]
    shapes = {ALL: (2, outputs, *SIZES), CHANNEL: (outputs, 1, 1), ROW: SIZES[:1]}
    others = [np.abs(floats(*shapes[kind], seed=3)) for kind in CASES[key].others]
    x = floats(2, channels, *SIZES) / 4
    name = NAMES[layer, key]
    expected = layers.expected(name, x, *others)
    layers.check(name, x, *others, bound=2.0**-16 * (np.abs(expected) + 8))


def test_what_is_done_in_the_kernel(layers) -> None:
    features = layers.features or host_features()
    with make_context(), ir.Location.unknown():
        for (_, key), name in NAMES.items():
            module = ir.Module.parse(layers.functions[name])
            convert_qcc_to_kernels(module, features)
            left = any(op.operation.name == "linalg.generic" for op in walk(module))
            assert left != CASES[key].fused, key


def test_what_others_read_too_stays(layers) -> None:
    """A second reader of the convolution: its kernel stores sums, the op stays by itself."""
    plain = layers.functions[NAMES["fp32", "clamp"]]
    both = plain.replace(
        "return %z", "%both = arith.addf %y, %z : tensor<?x37x5x11xf32>\nreturn %both"
    )
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(both)
        convert_qcc_to_kernels(module, layers.features or host_features())
        assert any(op.operation.name == "linalg.generic" for op in walk(module))
