"""Running a module over samples: who is observed, and who must have been."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qcc.compiler.calibrate import calibrate, ranges_of
from qcc.compiler.console import Silent
from qcc.compiler.frontend.weights import TensorInfo, WeightSource
from qcc.compiler.plan import LayerPlan, Plan
from qcc.compiler.samples import Samples
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UsageError
from qcc.dialects.formats import parse_spelling
from qcc.dialects.interpreter import interpret

INT8 = parse_spelling("int8<group=tensor>")
BRANCHES = """
func.func @main(%c: i1, %x: tensor<2x4xf32>) -> tensor<2x3xf32> {
  %w = "qcc.param"() {symbol = "w"} : () -> tensor<3x4xf32>
  %r = scf.if %c -> tensor<2x3xf32> {
    %y = "qcc.linear"(%x, %w) {layer = "often", operandSegmentSizes = array<i32: 1, 1, 0>}
      : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
    scf.yield %y : tensor<2x3xf32>
  } else {
    %n = math.absf %x : tensor<2x4xf32>
    %y = "qcc.linear"(%n, %w) {layer = "seldom", operandSegmentSizes = array<i32: 1, 1, 0>}
      : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
    scf.yield %y : tensor<2x3xf32>
  }
  return %r : tensor<2x3xf32>
}"""
X = np.arange(-4, 4, dtype=np.float32).reshape(2, 4)


class OneWeight(WeightSource):
    """`w`, in a wider type than the program's, and how often it was read."""

    reads = 0

    def names(self) -> tuple[str, ...]:
        return ("w",)

    def info(self, name: str) -> TensorInfo:
        return TensorInfo((3, 4), "float64", name)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        self.reads += 1
        return np.ones((stop - start, 4))

    def content_hash(self) -> str:
        return ""

    def close(self) -> None:
        pass


def layer(name: str, percent: float | None) -> LayerPlan:
    return LayerPlan(name, "linear", "w", activations=INT8, static_percent=percent)


def samples(*taken: bool) -> Samples:
    inputs: Iterator[list[np.ndarray]] = (
        [np.array(branch), X * (index + 1)] for index, branch in enumerate(taken)
    )
    return Samples("here", None, inputs)


def calibrated(plan: Plan, *taken: bool, weights: WeightSource | None = None):
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(BRANCHES)
        return calibrate(module, plan, samples(*taken), weights or OneWeight(), Silent())


def test_static_layers_get_the_range_of_what_reached_them() -> None:
    plan = Plan("r", (layer("often", 100.0), layer("seldom", 100.0)))
    weights = OneWeight()
    found = calibrated(plan, True, True, False, weights=weights)
    assert ranges_of(plan, found) == {"often": ((-8.0, 6.0),), "seldom": ((0.0, 12.0),)}
    assert found.samples == weights.reads == 3


def test_dynamic_layers_are_not_observed() -> None:
    plan = Plan("r", (layer("often", 100.0), layer("seldom", None)))
    found = calibrated(plan, True)
    assert set(found.layers) == {"often"}
    assert ranges_of(plan, found).keys() == {"often"}


def test_a_layer_never_reached_is_named() -> None:
    plan = Plan("r", (layer("often", 100.0), layer("seldom", 100.0)))
    with pytest.raises(UsageError) as refused:
        calibrated(plan, True, True)
    assert refused.value.code == "calibration-no-samples"
    assert "seldom" in refused.value.what
    assert "often" not in refused.value.what


def test_the_observer_sees_operations_with_their_operands() -> None:
    seen: list[tuple[str, list[int]]] = []
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(BRANCHES)
        interpret(
            module,
            [np.array(True), X],
            lambda _: np.ones((3, 4), np.float32),
            observe=lambda op, operands: seen.append((op.name, [array.size for array in operands])),
        )
    assert ("qcc.linear", [8, 12]) in seen
    assert "math.absf" not in [name for name, _ in seen]
