"""
Calibration: the model in full precision over samples, and the ranges that static layers get.

The NumPy interpreter runs the raised module and hands over the operands of each static layer;
statistics are kept, activations are not, and weights are read one at a time, again for each
sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dialects.bindings import Operation, ir
from ..dialects.errors import UsageError
from ..dialects.formats import Range
from ..dialects.interpreter import interpret
from ..passes.assign_formats import ACTIVATION_OPERANDS
from ..passes.key_channels import KEY, KeyChannels
from ..passes.name_layers import layer_name
from .calibration import Calibration
from .console import Progress
from .frontend.weights import WeightSource
from .key_scales import key_channels
from .pack import parameters_of, stored_values
from .plan import LayerPlan, Plan
from .samples import Samples

CALIBRATED_OPERANDS = {**ACTIVATION_OPERANDS, "qcc.attention": (KEY,)}
"""The operands whose scales samples may decide; of keys, those of every channel."""


def calibrate(
    module: ir.Module, plan: Plan, samples: Samples, weights: WeightSource, progress: Progress
) -> Calibration:
    """
    Statistics of the inputs of each calibrated layer of `plan`, by `operand_name`.

    Raises UsageError where a layer saw no value, AccuracyError where one saw NaN or infinity.
    """
    calibration = Calibration(samples.source)
    observe = _observer(plan, calibration)
    read = _reader(module, weights)
    for done, inputs in enumerate(samples.inputs, start=1):
        interpret(module, inputs, read, observe=observe)
        calibration.samples = done
        progress.advance(done, max(done, samples.count or 0), "samples")
    calibration.check(name for layer in plan.layers for name in operand_names(layer))
    return calibration


def operand_names(layer: LayerPlan) -> list[str]:
    """The statistics of a layer: one name for each operand that is rounded, none if not static."""
    if not layer.calibrated:
        return []
    return [operand_name(layer.name, index) for index in CALIBRATED_OPERANDS[f"qcc.{layer.op}"]]


def operand_name(layer: str, index: int) -> str:
    """
    The name of the statistics of a layer's operand.

    >>> operand_name("matmul.0", 0), operand_name("matmul.0", 1)
    ('matmul.0', 'matmul.0, operand 1')
    """
    return f"{layer}, operand {index}" if index else layer


def ranges_of(plan: Plan, calibration: Calibration) -> dict[str, tuple[Range, ...]]:
    """The static range of each rounded operand, by layer."""
    return {
        layer.name: tuple(
            calibration.layers[name].bounds(layer.static_percent or 100.0)
            for name in operand_names(layer)
        )
        for layer in plan.layers
        if layer.calibrated
    }


def key_channels_of(plan: Plan, calibration: Calibration) -> dict[str, KeyChannels]:
    """Step and middle of the channels of keys, by layer."""
    return {
        layer.name: key_channels(layer.keys, calibration.channels[layer.name])
        for layer in plan.layers
        if layer.keys is not None and layer.scales_key_channels
    }


def calibration_json(plan: Plan, calibration: Calibration) -> dict[str, Any]:
    """What the report keeps of a calibration: how each range came about, without histograms."""
    ranges = ranges_of(plan, calibration)
    return {
        "source": calibration.source,
        "label": calibration.label,
        "samples": calibration.samples,
        "fit_for_accuracy": calibration.fit_for_accuracy,
        "layers": {
            layer.name: [
                _statistics(calibration, name, used)
                for name, used in zip(operand_names(layer), ranges[layer.name], strict=True)
            ]
            for layer in plan.layers
            if layer.calibrated
        },
    }


def samples_missing(plan: Plan) -> UsageError:
    static = [layer.name for layer in plan.layers if layer.calibrated]
    return UsageError(
        "calibration-missing",
        f"{len(static)} layers ask for scales from samples, first '{static[0]}', and there "
        "are no samples",
        why="static scales come from the values that the layers see on samples",
        next_step="give samples (--calib samples.npz, or calibration=… in Python), or say "
        'calibration = "dynamic", and not k_scales, in the recipe',
    )


def _statistics(calibration: Calibration, name: str, used: Range) -> dict[str, Any]:
    seen = calibration.layers[name]
    return {
        "range": list(used),
        "least": seen.least,
        "most": seen.most,
        "count": seen.count,
        "mean": seen.mean,
        "second_moment": seen.second_moment,
    }


def _observer(
    plan: Plan, calibration: Calibration
) -> Callable[[Operation, Sequence[np.ndarray]], None]:
    wanted = {layer.name for layer in plan.layers if layer.calibrated}

    def observe(op: Operation, operands: Sequence[np.ndarray]) -> None:
        indices = CALIBRATED_OPERANDS.get(op.name, ())
        if not indices or layer_name(op) not in wanted:
            return
        for index in indices:
            calibration.observe(operand_name(layer_name(op), index), operands[index])
        if op.name == "qcc.attention":
            calibration.observe_channels(layer_name(op), operands[KEY])

    return observe


def _reader(module: ir.Module, weights: WeightSource) -> Callable[[str], np.ndarray]:
    """A parameter's full-precision array in the program's own type."""
    parameters = {parameter.symbol: parameter for parameter in parameters_of(module)}

    def read(symbol: str) -> np.ndarray:
        return stored_values(parameters[symbol], weights.read(symbol))

    return read
