"""
Activation formats as ops and calibration can have them.

    int8 by token, static      =>   int8<group=tensor>: a calibrated range is the whole tensor's
    int8 by token, of a conv   =>   int8<group=tensor>: an image has no rows that are tokens

The recipe names a format; the plan says what it comes to.
"""

from __future__ import annotations

from dataclasses import replace

from ..dialects.errors import QccError, UnsupportedError, UsageError
from .key_scales import settle_keys
from .plan import LayerPlan, Plan


def settle_activations(plan: Plan) -> Plan:
    """
    `plan` with formats of the whole tensor where an op or static scales need them, and keys in the
    form that scales of their channels need.

    Raises UnsupportedError, naming layer and format, where samples cannot decide the scales.
    """
    layers = (settle_keys(_static(_tensor_wide(layer))) for layer in plan.layers)
    return replace(plan, layers=tuple(layers))


def _tensor_wide(layer: LayerPlan) -> LayerPlan:
    """
    A format with one scale a row scales a convolution's whole input at once.

    Rows are tokens elsewhere, but an image has none: its last axis is its width. What has no such
    form keeps its row, which is then the channels of a pixel.
    """
    fmt = layer.activations
    if layer.op != "conv2d" or fmt is None or not fmt.block_scales or fmt.block_size is not None:
        return layer
    try:
        return replace(layer, activations=fmt.with_options(group="tensor"))
    except UsageError:
        return layer


def _static(layer: LayerPlan) -> LayerPlan:
    """
    A calibrated range is the whole tensor's, so a scale of the whole tensor must follow it.

    A format keeps what it has where its scales are numbers that the user gave, or where it has
    none and no form with one: such scales are static already.
    """
    fmt = layer.activations
    if layer.static_percent is None or fmt is None or fmt.takes_range:
        return layer
    try:
        wide, why = fmt.with_options(group="tensor"), "a range does not decide them"
    except QccError as error:
        wide, why = fmt, error.what
    if wide.takes_range:
        return replace(layer, activations=wide)
    if fmt.fixed_scales:
        return layer
    raise UnsupportedError(
        "static-activations",
        f"'{layer.name}': the scales of {fmt.spelling} cannot be calibrated",
        why=why,
        next_step="choose a format with a scale for the whole tensor, such as int8, or say "
        'calibration = "dynamic" for this layer',
    )
