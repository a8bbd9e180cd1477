"""
The plan: what a recipe means for one model, layer by layer, with the rule that decided.

Every later stage (calibrate, pack, save, report) reads the plan and never the recipe. Its JSON is
stored in the artifact and is itself a recipe: compiling from it gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dialects.errors import QccError, UsageError
from ..dialects.formats import Format, from_definition, parse_spelling

OPS = ("linear", "conv2d", "embedding", "matmul", "attention")
PLAN_VERSION = 2
MODEL_PRECISION = "-"
BY_TOKEN, BY_CHANNEL, BY_BOTH = "token", "channel", "channel+token"
KEY_SCALES = (BY_TOKEN, BY_CHANNEL, BY_BOTH)
"""What keys are scaled by, before they are rounded; scales of channels are calibrated."""

_FORMAT_FIELDS = ("weights", "activations", "keys", "values")
_TEXT_FIELDS = ("name", "op", "rule", "reason")
_LAYER_FIELDS = (*_TEXT_FIELDS, "weight", *_FORMAT_FIELDS, "static_percent", "key_scales")


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """
    A layer as the model has it.

    `weight` is its parameter's symbol. `shape` is that parameter's: linear [N, K], conv2d
    [O, C, kh, kw], embedding [V, D]; for attention and matmul what is known of the operand, or
    (). `tied_to` is the symbol of the parameter whose storage it shares, if that is another one;
    `channels` those of a convolution's input, of all groups together.
    """

    name: str
    op: str
    weight: str | None
    shape: tuple[int, ...]
    tied_to: str | None = None
    is_head: bool = False
    channels: int | None = None

    @property
    def input_k(self) -> int:
        """Length of the axis along which blocks of its activations lie."""
        return self.k if self.channels is None else self.channels

    @property
    def k(self) -> int:
        """
        Length of the reduction axis, along which blocks lie.

        >>> LayerInfo("conv", "conv2d", "conv.weight", (8, 3, 5, 5)).k
        75
        """
        if self.op != "conv2d":
            return self.shape[-1]
        _, channels, height, width = self.shape
        return channels * height * width

    @property
    def tensor(self) -> str | None:
        """The symbol that all layers with this weight's storage share."""
        return self.tied_to or self.weight


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """
    Formats of one layer, None meaning the model's own precision.

    `static_percent` is None where activation scales come from the values of each call; else the
    range of their calibrated values decides, without the largest magnitudes: this share of the
    values lies inside. `key_scales` is one of KEY_SCALES. `rule` names what decided; `reason` says
    why a fallback was taken or the layer was left alone.
    """

    name: str
    op: str
    weight: str | None
    weights: Format | None = None
    activations: Format | None = None
    keys: Format | None = None
    values: Format | None = None
    static_percent: float | None = None
    key_scales: str = BY_TOKEN
    rule: str = "default"
    reason: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether samples decide scales; a format may have fixed ones that need none."""
        fmt = self.activations
        if self.scales_key_channels:
            return True
        return self.static_percent is not None and fmt is not None and fmt.takes_range

    @property
    def scales_key_channels(self) -> bool:
        """Whether every channel of the keys has a scale of its own."""
        return self.keys is not None and self.key_scales != BY_TOKEN

    def formats(self) -> tuple[Format | None, ...]:
        return (self.weights, self.activations, self.keys, self.values)

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {field: getattr(self, field) for field in _LAYER_FIELDS}
        for field in _FORMAT_FIELDS:
            fields[field] = spelled(fields[field])
        return fields


@dataclass(frozen=True, slots=True)
class Plan:
    """The layers of a model in its own order; `recipe` is the recipe's name."""

    recipe: str
    layers: tuple[LayerPlan, ...]

    def as_json(self) -> dict[str, Any]:
        """
        Plain values for json.dumps, also a recipe (`resolved`).

        `definitions` holds the text of the formats that a user wrote, so that the plan stands
        alone.
        """
        used = {fmt.spelling: fmt for layer in self.layers for fmt in layer.formats() if fmt}
        return {
            "version": PLAN_VERSION,
            "recipe": self.recipe,
            "resolved": [layer.as_json() for layer in self.layers],
            "definitions": {
                spelling: used[spelling].definition for spelling in sorted(used) if "@" in spelling
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str = "plan") -> Plan:
        """The plan that `as_json` gave; UsageError where `data` is anything else."""
        reader = _Reader(where)
        return reader.plan(data)

    def table(self) -> list[dict[str, str]]:
        """A row a layer for `--print-resolved`, all with the same columns."""
        return [
            {
                "layer": layer.name,
                "op": layer.op,
                "weights": spelled(layer.weights) or MODEL_PRECISION,
                "activations": _activations_shown(layer),
                "kv": _kv_shown(layer),
                "rule": layer.rule,
                "reason": layer.reason,
            }
            for layer in self.layers
        ]

    def coverage(self, sizes: Mapping[str, int], others: Iterable[str] = ()) -> float:
        """
        Fraction of the weight bytes that are quantized, each parameter counted once.

        `sizes` gives the full-precision bytes of a parameter by its symbol; `others` are weights
        that are no layer's. A model without weights has coverage 0: nothing was quantized.
        """
        quantized = dict.fromkeys(others, False)
        for layer in self.layers:
            if layer.weight is not None:
                quantized[layer.weight] = layer.weights is not None
        total = sum(sizes[symbol] for symbol in quantized)
        covered = sum(sizes[symbol] for symbol, done in quantized.items() if done)
        return covered / total if total else 0.0


def spelled(fmt: Format | None) -> str | None:
    return None if fmt is None else fmt.spelling


def _activations_shown(layer: LayerPlan) -> str:
    if layer.activations is None:
        return MODEL_PRECISION
    percent = layer.static_percent
    if percent is None:
        return f"{layer.activations.spelling} dynamic"
    share = "" if percent == 100 else f" {percent:g}%"
    return f"{layer.activations.spelling} static{share}"


def _kv_shown(layer: LayerPlan) -> str:
    keys, values = (spelled(fmt) or MODEL_PRECISION for fmt in (layer.keys, layer.values))
    if layer.scales_key_channels:
        keys += f" by {layer.key_scales}"
    return keys if keys == values else f"k {keys}, v {values}"


class _Reader:
    """Strict reading of a plan's JSON; `where` names it in errors."""

    def __init__(self, where: str) -> None:
        self.where = where

    def plan(self, data: Mapping[str, Any]) -> Plan:
        unknown = sorted(set(map(str, data)) - {"version", "recipe", "resolved", "definitions"})
        if unknown:
            raise self._refusal(f"unknown key '{unknown[0][:80]}'")
        if data.get("version", PLAN_VERSION) != PLAN_VERSION:
            raise self._refusal(f"plan version {data['version']!r:.40}; this is {PLAN_VERSION}")
        recipe, rows = data.get("recipe", "resolved"), data.get("resolved")
        definitions = data.get("definitions", {})
        if not isinstance(recipe, str) or not isinstance(definitions, Mapping):
            raise self._refusal("'recipe' must be a string and 'definitions' a table")
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise self._refusal("'resolved' must be a list of layers")
        for spelling, text in definitions.items():
            self._define(spelling, text)
        return Plan(recipe, tuple(self._layer(row) for row in rows))

    def _define(self, spelling: Any, text: Any) -> None:
        """Make a user's format known to this process, so that its spelling can be read."""
        if not isinstance(spelling, str) or not isinstance(text, str):
            raise self._refusal("'definitions' must map spellings to texts")
        try:
            from_definition(text, spelling.partition("@")[0])
        except QccError as error:
            raise self._placed(error) from None

    def _layer(self, row: Any) -> LayerPlan:
        # Plans of before keys could be scaled by channel do not say what they are scaled by.
        row = {"key_scales": BY_TOKEN, **row} if isinstance(row, Mapping) else row
        if not isinstance(row, Mapping) or set(row) != set(_LAYER_FIELDS):
            raise self._refusal(f"a layer needs exactly the fields {', '.join(_LAYER_FIELDS)}")
        text = all(isinstance(row[field], str) for field in _TEXT_FIELDS)
        named = row["weight"] is None or isinstance(row["weight"], str)
        percent = row["static_percent"]
        sane = percent is None or (type(percent) in (int, float) and 0 < percent <= 100)
        sane = sane and row["key_scales"] in KEY_SCALES
        if not text or row["op"] not in OPS or not named or not sane:
            raise self._refusal(f"a layer with a wrong value: {row!r:.160}")
        formats = {field: self._format(row[field]) for field in _FORMAT_FIELDS}
        return LayerPlan(**{**row, **formats})

    def _format(self, spelling: Any) -> Format | None:
        if spelling is None:
            return None
        if not isinstance(spelling, str):
            raise self._refusal(f"a format must be a spelling or null, not {spelling!r:.80}")
        try:
            return parse_spelling(spelling)
        except QccError as error:
            raise self._placed(error) from None

    def _placed(self, error: QccError) -> UsageError:
        where = f"{self.where}, {error.where}" if error.where else self.where
        return UsageError(
            error.code, error.what, where=where, why=error.why, next_step=error.next_step
        )

    def _refusal(self, what: str) -> UsageError:
        return UsageError(
            "plan-invalid",
            what,
            where=self.where,
            next_step="use plan.json as qcc wrote it, or write a recipe (docs/recipes.md)",
        )
