"""
Scales of the channels of keys: what calibration keeps of them, and what a format makes of that.

    kv = {k = "int4", k_scales = "channel"}          =>   int4<group=none>, a step for each channel
    kv = {k = "int4", k_scales = "channel+token"}    =>   int4, of keys whose channels are alike

Channels of keys differ far more than tokens do (arXiv 2402.02750, 2401.18079). A cache grows token
by token, so a channel's scale must not wait for later tokens: it comes from samples, and keys
beyond what they showed saturate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..dialects.errors import QccError, UnsupportedError
from ..dialects.formats import Format
from ..dialects.formats.definition import Integer, Minifloat
from ..passes.key_channels import KeyChannels
from .channel_extremes import ChannelExtremes
from .plan import BY_BOTH, BY_CHANNEL, LayerPlan


def settle_keys(layer: LayerPlan) -> LayerPlan:
    """
    The layer with keys in the form that channels with scales need.

    Raises UnsupportedError, naming layer and format, where it has none.
    """
    fmt = layer.keys
    if fmt is None or not layer.scales_key_channels:
        return layer
    if layer.key_scales == BY_BOTH:
        if fmt.block_scales and not fmt.fixed_scales:
            return layer
        raise _refused(layer, fmt, "it has no scales that follow the values", BY_CHANNEL)
    try:
        bare = fmt.with_options(group="none") if fmt.block_scales else fmt
    except QccError as error:
        raise _refused(layer, fmt, error.what, BY_BOTH) from None
    if isinstance(bare.element, Minifloat) and bare.element.overflow == "infinity":
        raise _refused(layer, fmt, "keys beyond the calibrated range overflow to infinity", BY_BOTH)
    return replace(layer, keys=bare)


def key_channels(fmt: Format, seen: ChannelExtremes) -> KeyChannels:
    """
    Middle and step of each channel, so that what was seen fills the range of `fmt`.

    A format with scales of its own finds channels in -1 … 1. A channel with one value has step 1.

    >>> from qcc.dialects.formats import format
    >>> seen = ChannelExtremes(np.float32([[-1, 2]]), np.float32([[13, 2]]))
    >>> found = key_channels(format("int4", group="none"), seen)
    >>> found.middle.tolist(), found.step.tolist()
    ([[6.0, 2.0]], [[1.0, 1.0]])
    """
    assert seen.least is not None
    assert seen.most is not None
    lowest, largest = (-1.0, 1.0) if fmt.block_scales else _extent(fmt)
    least, most = (each.astype(np.float64) for each in (seen.least, seen.most))
    step = (most - least) / (largest - lowest)
    step = np.where(step.astype(np.float32) > np.finfo(np.float32).tiny, step, 1.0)
    middle = np.where(most > least, least - lowest * step, least)
    return KeyChannels(middle.astype(np.float32), step.astype(np.float32))


def _extent(fmt: Format) -> tuple[float, float]:
    if isinstance(fmt.element, Integer):
        return fmt.element.lowest, fmt.element.largest
    values = fmt.element_values()
    values = values[np.isfinite(values)]
    return float(values.min()), float(values.max())


def _refused(layer: LayerPlan, fmt: Format, why: str, other: str) -> UnsupportedError:
    return UnsupportedError(
        "key-scales",
        f"'{layer.name}': keys in {fmt.spelling} cannot be scaled by {layer.key_scales}",
        why=why,
        next_step=f'choose int2 … int8 or fp8_e4m3 for k, or k_scales = "{other}"',
    )
