"""Keys of a cache with a scale for each channel: what samples decide, and who may have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qcc
from qcc.compiler.channel_extremes import ChannelExtremes
from qcc.compiler.key_scales import key_channels, settle_keys
from qcc.compiler.plan import LayerPlan, Plan
from qcc.compiler.running import KeyValueCaches
from qcc.dialects.errors import QccError, UnsupportedError, UsageError
from qcc.dialects.formats import parse_spelling
from qcc.models import FAMILIES
from qcc.models.llama import Llama

RNG = np.random.default_rng(0)
SAMPLES = [(RNG.integers(0, 60, (2, 24)),) for _ in range(3)]
TOKENS = RNG.integers(0, 60, (2, 13))


@pytest.fixture(scope="module")
def uneven() -> Any:
    """A decoder whose keys have channels that differ, and matter alike: queries make up for it."""
    sample = FAMILIES["llama"]()
    model = sample.module
    assert isinstance(model, Llama)
    with torch.no_grad():
        for layer in model.layers:
            for projection, sign in (("k_proj", 1), ("q_proj", -1)):
                weight = getattr(layer.self_attn, projection).weight
                spread = torch.logspace(-1.5 * sign, 1.5 * sign, 8)
                weight.mul_(spread.repeat(len(weight) // 8)[:, None])
    return sample


def compiled(sample: Any, kv: Any, calibration: Any = None) -> qcc.Module:
    recipe = {"default": {"weights": "int8", "activations": "int8", "kv": kv}}
    return qcc.compile(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes, recipe=recipe,
        calibration=calibration, golden=calibration is not None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def by_channel(uneven: Any) -> qcc.Module:
    kv = {"k": "int4", "k_scales": "channel"}
    return compiled(uneven, kv, SAMPLES)


def test_steps_are_the_whole(by_channel: qcc.Module) -> None:
    caches = KeyValueCaches(by_channel._running.code, 2)
    pieces = [by_channel._running.step(part, caches)[0] for part in np.split(TOKENS, (5, 6, 9), 1)]
    whole = by_channel(TOKENS)
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=1e-5 * abs(whole).max())
    assert by_channel.verify()["passed"]


def test_a_cache_holds_codes_alone(by_channel: qcc.Module) -> None:
    first = by_channel.report["kv_cache"]["layers"][0]
    assert first["keys"] == "int4<group=none>"
    heads, depth = 2, 16
    assert first["token_bytes"] == heads * (depth // 2 + 4 * depth)
    seen = by_channel.report["calibration"]["layers"]["attention.0"]
    assert seen[0]["range"] == [seen[0]["least"], seen[0]["most"]]


def test_channels_cost_less_accuracy_than_tokens(uneven: Any, by_channel: qcc.Module) -> None:
    wanted = compiled(uneven, "none")(TOKENS)
    by_token = compiled(uneven, {"k": "int4"})
    errors = [np.square(m(TOKENS) - wanted).mean() for m in (by_channel, by_token)]
    assert errors[0] < errors[1] / 4


def test_samples_are_asked_for(uneven: Any) -> None:
    with pytest.raises(UsageError) as refused:
        compiled(uneven, {"k": "int4", "k_scales": "channel"})
    assert refused.value.code == "calibration-missing"
    assert "attention.0" in refused.value.what


def planned(keys: str, scales: str) -> LayerPlan:
    return LayerPlan("attention.0", "attention", None, keys=parse_spelling(keys), key_scales=scales)


@pytest.mark.parametrize(
    ("keys", "scales", "settled"),
    [
        ("int4", "channel", "int4<group=none>"),
        ("int8<group=32,symmetric=false>", "channel", "int8<group=none,symmetric=false>"),
        ("fp8_e4m3<group=channel>", "channel", "fp8_e4m3"),
        ("int4<group=32>", "channel+token", "int4<group=32>"),
        ("mxfp4", "channel+token", "mxfp4"),
        ("int4", "token", "int4"),
    ],
)
def test_forms_of_keys(keys: str, scales: str, settled: str) -> None:
    found = settle_keys(planned(keys, scales))
    assert found.keys is not None
    assert found.keys.spelling == settled
    assert Plan.from_json(Plan("r", (found,)).as_json()).layers == (found,)


@pytest.mark.parametrize(
    ("keys", "scales"),
    [("mxfp4", "channel"), ("dint4", "channel"), ("fp8_e4m3", "channel+token"),
     ("bf16", "channel+token")],
)  # fmt: skip
def test_formats_without_such_a_form_are_refused(keys: str, scales: str) -> None:
    with pytest.raises(UnsupportedError, match=r"attention\.0") as refused:
        settle_keys(planned(keys, scales))
    assert refused.value.code == "key-scales"
    assert "int2 … int8" in str(refused.value)


def test_recipes_name_one_of_the_scales(uneven: Any) -> None:
    with pytest.raises(QccError, match="token, channel") as refused:
        compiled(uneven, {"k": "int4", "k_scales": "row"})
    assert refused.value.code == "recipe-value"


def test_what_was_seen_fills_the_range() -> None:
    seen = ChannelExtremes()
    keys = RNG.normal(size=(2, 3, 50, 4)).astype(np.float32)
    for part in np.split(keys, 2, 2):
        seen.update(part)
    for spelling in ("int4<group=none>", "int4<group=none,symmetric=false>", "fp8_e4m3", "int4"):
        found = key_channels(fmt := parse_spelling(spelling), seen)
        spread = (keys - found.middle[:, None]) / found.step[:, None]
        extremes = spread.min((0, 2)), spread.max((0, 2))
        ends = {"fp8_e4m3": (-448, 448), "int4": (-1, 1)}.get(
            spelling, (-8, 7) if "false" in spelling else (-7, 7)
        )
        for found_end, end in zip(extremes, ends, strict=True):
            np.testing.assert_allclose(found_end, end, rtol=1e-4)
        assert fmt.quantize(spread).dequantize().shape == keys.shape
