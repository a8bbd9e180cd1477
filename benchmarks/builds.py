"""
What building one kernel costs, and what the first call of a loaded model does.

    python -m benchmarks.builds [--formats F …] [--rounds N] [--artifact FILE.qcc]

All figures are processor seconds of one thread. A build is that of a program of a single layer,
4096 x 4096 or a convolution of 64 channels by 3 x 3, from the qcc dialect to an object with its
thread pool: lowering, then LLVM; builds take turns, the first round does not count. Loading is
that of --artifact, by default of a ResNet-20 compiled for this, in a process of its own each time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import qcc
from benchmarks.console import say
from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.lower import lower_to_llvm
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.models.resnet import resnet20
from qcc.passes.assign_x_bytes import assign_x_bytes
from qcc.passes.permute_weights import permute_weights

N = K = 4096
INT8_X = " + int8 x"
FORMATS = (
    "int4<group=32>", f"int4<group=32>{INT8_X}", f"int8{INT8_X}", "mxfp4", "nf4", "fp32",
    "fp32 conv",
)  # fmt: skip
FIRST_CALL = """
import json, sys, time
marks = [time.process_time()]
def mark(): marks.append(time.process_time())
import numpy as np
import qcc
load = qcc.load  # which is imported here
mark()
module = load(sys.argv[1], threads=1)
least = {name: extent.min for name, extent in module.signature.dims.items()}
inputs = [np.zeros([least.get(d, d) for d in each.shape], each.dtype)
          for each in module.signature.inputs]
mark()
for _ in range(4):
    module(*inputs)
    mark()
print(json.dumps([b - a for a, b in zip(marks, marks[1:])]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    with make_context(), ir.Location.unknown():
        builds = {name: builder(name) for name in options.formats}
        seconds = {name: [] for name in builds}
        for _ in range(options.rounds + 1):
            for name, build in builds.items():
                seconds[name].append(build())
    for name, rounds in seconds.items():
        lowering, llvm = np.median(rounds[1:], axis=0) * 1e3
        best = min(map(sum, rounds[1:])) * 1e3
        say(
            f"{name:24} {lowering + llvm:6.0f} ms median, {best:6.0f} best "
            f"(lowering {lowering:4.0f}, LLVM {llvm:4.0f})"
        )
    with tempfile.TemporaryDirectory() as folder:
        artifact = options.artifact or compiled(Path(folder))
        calls = np.median([first_calls(artifact) for _ in range(options.rounds)], axis=0) * 1e3
    say(
        f"import {calls[0]:.0f} ms, load {calls[1]:.0f} ms, first call {calls[2]:.1f} ms, "
        f"later ones {np.median(calls[3:]):.1f} ms"
    )
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--artifact", type=Path, help="a compiled model")
    return parser.parse_args(arguments)


def builder(name: str) -> Callable[[], tuple[float, float]]:
    """Seconds of one build: of lowering and of LLVM."""
    text = convolution() if name == "fp32 conv" else linear(name)

    def build() -> tuple[float, float]:
        module = ir.Module.parse(text)
        assign_x_bytes()(module.operation, None)
        permute_weights(module.operation)
        start = time.process_time()
        lower_to_llvm(module)
        lowered = time.process_time()
        build_object(module)
        return lowered - start, time.process_time() - lowered

    return build


def linear(name: str) -> str:
    spelling = name.removesuffix(INT8_X)
    shape = f"tensor<{N}x{K}xf32>"
    weight = shape if spelling == "fp32" else f'!qcc.packed<{shape}, "{spelling}">'
    x, y = f"tensor<?x{K}xf32>", f"tensor<?x{N}xf32>"
    rounded = f'!qcc.packed<{x}, "int8">'
    rounding = f"""
      %q = "qcc.quantize"(%x) : ({x}) -> {rounded}
      %d = "qcc.dequantize"(%q) : ({rounded}) -> {x}"""
    integers = name.endswith(INT8_X)
    operands = f"({'%d' if integers else '%x'}, %w)"
    return f"""
    func.func @main(%x: {x}) -> {y} {{
      %w = "qcc.param"() {{symbol = "w"}} : () -> {weight}
      {rounding if integers else ""}
      %y = "qcc.linear"{operands} {{operandSegmentSizes = array<i32: 1, 1, 0>}}
        : ({x}, {weight}) -> {y}
      return %y : {y}
    }}"""


def convolution() -> str:
    image, weight = "tensor<?x64x?x?xf32>", "tensor<64x64x3x3xf32>"
    return f"""
    func.func @main(%x: {image}) -> {image} {{
      %w = "qcc.param"() {{symbol = "w"}} : () -> {weight}
      %y = "qcc.conv2d"(%x, %w) {{stride = array<i64: 1, 1>, padding = array<i64: 1, 1>,
        dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}}
        : ({image}, {weight}) -> {image}
      return %y : {image}
    }}"""


def compiled(folder: Path) -> Path:
    model, image = resnet20().eval(), torch.zeros(1, 3, 32, 32)
    qcc.compile(model, (image,), threads=1).save(folder / "resnet20.qcc")
    return folder / "resnet20.qcc"


def first_calls(artifact: Path) -> list[float]:
    """Seconds of importing, of loading, and of four calls one after another."""
    command = [sys.executable, "-c", FIRST_CALL, str(artifact)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
