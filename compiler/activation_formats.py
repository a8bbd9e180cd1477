"""
Activation formats as ops and calibration can have them.

    int8 by token, static            =>   int8<group=tensor>: one range for all that is calibrated
    int8 by token, on a convolution  =>   int8<group=tensor>: NCHW has no blocks along its reduction

The recipe names a format; the plan says what it comes to.
"""

from __future__ import annotations

from dataclasses import replace

from ..dialects.errors import QccError, UnsupportedError
from ..dialects.formats import Format
from .plan import LayerPlan, Plan


def settle_activations(plan: Plan) -> Plan:
    """
    `plan` with formats of the whole tensor where an op or static scales need them.

    Raises UnsupportedError, naming layer and format, where a format has no such form.
    """
    return replace(plan, layers=tuple(_static(_tensor_wide(layer)) for layer in plan.layers))


def _tensor_wide(layer: LayerPlan) -> LayerPlan:
    """
    A convolution's activations need one scale for the whole tensor.

    Its reduction runs over channels and taps, along which NCHW has no contiguous blocks.
    """
    if layer.op != "conv2d" or layer.activations is None:
        return layer
    try:
        return replace(layer, activations=layer.activations.with_options(group="tensor"))
    except QccError as error:
        raise UnsupportedError(
            "conv-activations",
            f"'{layer.name}': {layer.activations.spelling} cannot scale a whole tensor at once",
            why=error.what,
            next_step='give convolutions another activation format in a rule with op = "conv2d"',
        ) from error


def _static(layer: LayerPlan) -> LayerPlan:
    """A calibrated range is the whole tensor's, so a scale of the whole tensor must follow it."""
    fmt = layer.activations
    if fmt is None or not layer.calibrated or fmt.takes_range:
        return layer
    try:
        wide: Format | None = fmt.with_options(group="tensor")
        why = ""
    except QccError as error:
        wide, why = None, error.what
    if wide is not None and wide.takes_range:
        return replace(layer, activations=wide)
    raise UnsupportedError(
        "static-activations",
        f"'{layer.name}': the scales of {fmt.spelling} cannot be calibrated",
        why=why or "a range does not decide them",
        next_step="choose a format with a scale for the whole tensor, such as int8, or say "
        'calibration = "dynamic" for this layer',
    )
