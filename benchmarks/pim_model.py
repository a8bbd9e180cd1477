"""
A real model with its linear layers on emulated DPUs, beside the reference interpreter.

    python -m benchmarks.pim_model [--model minilm|smollm2] [--weights int4] [--activations int4]
                                   [--tokens 8] [--layers N] [--rung rv32|native] [--json PATH]

Weights and activations are rounded as a recipe says, layers are placed by `partition-pim`, and
the model runs twice: sums in NumPy, and by the emitted kernels on as many DPUs as the plan has.
Both must be equal bit for bit. The report has a row for each layer, and what stayed on the host.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qcc.codegen.upmem.execute import Emulated
from qcc.compiler.activation_formats import settle_activations
from qcc.compiler.console import Silent
from qcc.compiler.driver import compile_model
from qcc.compiler.frontend.sources import OpenedModel, open_model
from qcc.compiler.layers import collect_layers
from qcc.compiler.options import CompileOptions
from qcc.compiler.recipe import load_recipe
from qcc.compiler.resolve import resolve
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.interpreter import interpret
from qcc.dialects.interpreter.pim_linear import linear_rule
from qcc.dialects.pim.execute import kernel_sums
from qcc.dialects.pim.kernel import walk
from qcc.dialects.pim.layer import Layer
from qcc.dialects.pim.linear import HeldWeights, Sums
from qcc.dialects.pim.placed_layers import Adding, PlacedLayers
from qcc.dialects.pim.plan import Plan
from qcc.dialects.pim.timing import simulate
from qcc.passes.assign_formats import FormatAssignment, assign_formats
from qcc.passes.partition_pim import PimPartition, partition_pim

MODELS = {"minilm": "qcc.models.minilm:minilm", "smollm2": "qcc.models.smollm2:smollm2"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        source = open_model(MODELS[options.model])
        with make_context() as context, ir.Location.unknown():
            module = placed(source, context, options)
            report = Runs(source, module, options).report()
    except QccError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    print("\n".join(lines(report)))  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return int(not report["equal"])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    name = "python -m benchmarks.pim_model"
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=raw)
    parser.add_argument("--model", choices=MODELS, default="minilm")
    parser.add_argument("--weights", default="int4")
    parser.add_argument("--activations", default="int4")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--layers", type=int, help="place only so many, the others stay")
    parser.add_argument("--rung", choices=("rv32", "native"), default="rv32")
    parser.add_argument("--cache", type=Path, default=Path("build/pim"))
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def placed(source: OpenedModel, context: Any, options: argparse.Namespace) -> ir.Module:
    """The model with its formats, and its integer layers as `pim.linear`."""
    recipe = {"default": {"weights": options.weights, "activations": options.activations}}
    with tempfile.TemporaryDirectory() as folder:
        raised = Path(folder, "raised.mlir")
        stop = CompileOptions(recipe=recipe, stop_after="raise", golden=False)
        compile_model(source, stop, raised, Silent())
        module = ir.Module.parse(raised.read_text(), context)

    def extremes(symbol: str) -> tuple[float, float]:
        values = source.weights.read(symbol)
        return float(values.min()), float(values.max())

    plan = settle_activations(resolve(load_recipe(recipe), collect_layers(module), extremes))
    chosen = {each.name: each for each in plan.layers}
    weights = {e.weight: e.weights.spelling for e in chosen.values() if e.weight and e.weights}
    inputs = {e.name: e.activations.spelling for e in chosen.values() if e.activations}
    assign_formats(FormatAssignment(weights, inputs, {}, {}, {}))(module.operation, None)
    linear = [each.name for each in plan.layers if each.weights and each.activations]
    only = tuple(linear[: options.layers]) if options.layers else ()
    partition_pim(PimPartition(tokens=options.tokens, only=only))(module.operation, None)
    return module


@dataclass
class Runs:
    """Both runs of a placed model."""

    source: OpenedModel
    module: ir.Module
    options: argparse.Namespace
    emulated: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = Plan.of(self.module)
        ops = walk(self.module)
        self.kernels = {o.symbol.value: o for o in ops if o.operation.name == "pim.kernel"}

    def report(self) -> dict[str, Any]:
        started = time.perf_counter()
        reference = self.run(None)
        between = time.perf_counter()
        emulated = self.run(self.sums_of)
        seconds = time.perf_counter() - between
        equal = all(np.array_equal(a, b) for a, b in zip(reference, emulated, strict=True))
        rows = self.plan.report()
        for row in rows:
            took = self.emulated.get(row["layer"], [])
            row["emulated_ms"] = sum(took) / max(1, len(took))
            row["launches"] = len(took)
        return {
            "model": self.source.name,
            "equal": equal,
            "layers": rows,
            "host": [list(each) for each in self.plan.host],
            "reference_s": between - started,
            "emulated_s": seconds,
        }

    def run(self, adding: Adding | None) -> list[np.ndarray]:
        rules = {"pim.linear": linear_rule(PlacedLayers(self.plan, self.parts, adding))}
        inputs = [array[:, : self.options.tokens] for array in self.inputs]
        return interpret(self.module, inputs, self.source.weights.read, rules=rules)

    @property
    def inputs(self) -> list[np.ndarray]:
        """The model's own example, as long as it has tokens."""
        examples = self.source.program.example_inputs
        return [each.numpy() for each in examples[0]] if examples else []

    def parts(self, symbol: str) -> Mapping[str, np.ndarray]:
        layer = next(each for each in self.plan.layers if each.parameter == symbol)
        return layer.linear.weight.encode_rows(self.source.weights.read(symbol))

    def sums_of(self, layer: Layer, weights: HeldWeights) -> Sums:
        run = self._emulated(layer.kernel)

        def timed(arrays: Mapping[str, np.ndarray]) -> None:
            run(arrays)
            traces = [launch.traces for launch in run.launches if launch.traces]
            for each in traces[:1]:  # of the first DPU; all have as much to do
                took = simulate(each, self.plan.device).milliseconds(self.plan.device)
                self.emulated.setdefault(layer.name, []).append(took)

        return kernel_sums(layer.share, timed, weights.codes)

    @cache  # noqa: B019
    def _emulated(self, kernel: str) -> Emulated:
        return Emulated(self.kernels[kernel], self.options.cache, self.options.rung, workers=0)

    def __hash__(self) -> int:
        return id(self)


def lines(report: dict[str, Any]) -> list[str]:
    head = f"{'layer':44}{'method':>10}{'p':>3}{'DPUs':>6}{'kernel ms':>11}{'emulated':>10}"
    told = [f"{head}{'transfers':>11}{'DMA MB':>8}{'LUT KB':>8}{'mJ':>7}"]
    for row in report["layers"]:
        told.append(
            f"{row['layer'][-43:]:44}{row['method']:>10}{row['p']:3}{row['dpus']:6}"
            f"{row['kernel_ms']:11.3f}{row['emulated_ms']:10.3f}"
            f"{row['to_dpu_ms'] + row['from_dpu_ms']:11.3f}{row['dma_bytes'] / 1e6:8.2f}"
            f"{row['lut_bytes'] / 1e3:8.1f}{row['joules'] * 1e3:7.1f}"
        )
    reasons: dict[str, int] = {}
    for _, reason in report["host"]:
        reasons[reason] = reasons.get(reason, 0) + 1
    told += ["", "on the host", *(f"{count:4} x {reason}" for reason, count in reasons.items())]
    total = sum(row["kernel_ms"] + row["launch_ms"] + row["to_dpu_ms"] + row["from_dpu_ms"]
                for row in report["layers"])  # fmt: skip
    told += ["", f"{len(report['layers'])} layers on DPUs, {total:.1f} ms by the model"]
    same = "equal bit for bit" if report["equal"] else "DIFFERENT"
    told.append(f"emulated and reference results are {same} "
                f"({report['emulated_s']:.1f} and {report['reference_s']:.1f} s)")  # fmt: skip
    return told


if __name__ == "__main__":
    sys.exit(main())
