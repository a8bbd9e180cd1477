"""
From a recipe and a model's layers to the plan: the only place where rules are applied.

Each key of each layer is decided by itself: the defaults speak first, then the rules in file
order, and the last that says anything wins. "none" is a value like any other. Layers that share a
weight are decided together, by the strongest voice among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache
from typing import Any

from ..dialects.errors import UnsupportedError, UsageError
from ..dialects.formats import Format
from .decision import APPLICABLE, Decision, Statistics, Subject
from .plan import BY_TOKEN, LayerInfo, LayerPlan, Plan, spelled
from .recipe_schema import Choice, Recipe, Rule, Scaling, Settings
from .shared_weights import decide_weights, no_weight, refusal_of

QUALIFIES = {"fallback": "weights", "scaling": "activations", "key_scales": "keys"}
"""Settings that matter only where another one does."""


def resolve(recipe: Recipe, layers: Sequence[LayerInfo], stats: Statistics) -> Plan:
    """
    The plan of `recipe` for `layers`.

    `stats` gives (min, max) of a parameter by its symbol; it is called only where a format asks,
    at most once for each parameter. Raises UsageError for a rule that selects nothing or has no
    effect on what it selects, for rules that disagree on a shared weight, and for a resolved plan
    of another model; UnsupportedError where a resolved plan no longer fits the weights.
    """
    stats = cache(stats)
    if recipe.plan is not None:
        return _reused(recipe.plan, layers, stats, recipe.source)
    for rule in recipe.rules:
        _check_reach(rule, layers, recipe.source)
    subjects = [_subject(recipe, layer) for layer in layers]
    weights = decide_weights(recipe, subjects, stats)
    plans = (
        _layer_plan(recipe, subject, weights.get(index, no_weight(subject)))
        for index, subject in enumerate(subjects)
    )
    return Plan(recipe.name, tuple(plans))


def _subject(recipe: Recipe, layer: LayerInfo) -> Subject:
    said: dict[str, Any] = {}
    rules: dict[str, Rule] = {}
    for rule in recipe.rules:
        if rule.selects(layer.name, layer.op):
            news = _said(rule.settings)
            said.update(news)
            rules.update(dict.fromkeys(news, rule))
    return Subject(layer, replace(recipe.default, **said), rules)


def _said(settings: Settings) -> dict[str, Any]:
    values = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    return {key: value for key, value in values.items() if value is not None}


def _layer_plan(recipe: Recipe, subject: Subject, weights: Decision) -> LayerPlan:
    layer = subject.layer
    parts = {
        key: weights if key == "weights" else _at_run_time(recipe, subject, key)
        for key in APPLICABLE[layer.op]
    }
    chosen: dict[str, Any] = {key: part.format for key, part in parts.items()}
    reasons = dict.fromkeys(part.reason for part in parts.values() if part.reason)
    scaling: Scaling | None = subject.settings.scaling
    if chosen.get("activations") is None:
        scaling = None
    return LayerPlan(
        name=layer.name,
        op=layer.op,
        weight=layer.weight,
        **chosen,
        static_percent=None if scaling is None else scaling.static_percent,
        key_scales=_key_scales(subject, chosen.get("keys")),
        rule=_deciders(parts),
        reason="; ".join(reasons),
    )


def _key_scales(subject: Subject, keys: Format | None) -> str:
    return BY_TOKEN if keys is None else subject.settings.key_scales or BY_TOKEN


def _deciders(parts: Mapping[str, Decision]) -> str:
    """Who decided the layer's first format, and whoever else decided another one."""
    (_, first), *others = parts.items()
    named = [f"{key}: {part.by}" for key, part in others if part.by not in (first.by, "default")]
    return "; ".join([first.by, *named])


# Activations, keys and values: each layer by itself, no fallback.


def _at_run_time(recipe: Recipe, subject: Subject, key: str) -> Decision:
    choice: Choice | None = getattr(subject.settings, key)
    rule = subject.rules.get(key)
    by = rule.label if rule else "default"
    if choice is None or choice.format is None:
        return Decision(None, by)
    if rule is None and key == "activations":
        exempt = _exempt_from_default_activations(recipe, subject.layer)
        if exempt:
            return Decision(None, by, reason=exempt)
    layer = subject.layer
    refusal = choice.format.inadmissible((layer.input_k,), layer.input_k) if layer.shape else None
    if refusal:
        return Decision(None, by, reason=f"{key} left in the model's precision: {refusal}")
    return Decision(choice.format, by)


def _exempt_from_default_activations(recipe: Recipe, layer: LayerInfo) -> str:
    if layer.op == "matmul":
        return "operands of a matmul are quantized only by a rule"
    if layer.weight is None:
        return "operands of a product of computed values are quantized only by a rule"
    if layer.is_head and recipe.head is not None:
        return "inputs of the head are quantized only by a rule"
    return ""


# Rules that do nothing are errors.


def _check_reach(rule: Rule, layers: Sequence[LayerInfo], source: str) -> None:
    """Each key of the rule must find a place in at least one layer that the rule selects."""
    selected = [layer for layer in layers if rule.selects(layer.name, layer.op)]
    if rule.optional:
        return
    if not selected:
        raise _unmatched(rule, layers, source)
    places = {key for layer in selected for key in APPLICABLE[layer.op]}
    for key in _said(rule.settings):
        if QUALIFIES.get(key, key) not in places:
            ops = sorted({layer.op for layer in selected})
            raise UsageError(
                "recipe-rule-no-effect",
                f"{rule.label} sets {_key_of(key)}, which none of its {len(selected)} layers has",
                where=source,
                why=f"it selects only {', '.join(ops)}",
                next_step="remove the key, widen the rule, or mark it optional = true",
            )


def _key_of(setting: str) -> str:
    """The recipe's own word for a setting."""
    own = {"keys": "kv", "values": "kv", "key_scales": "kv", "scaling": "calibration"}
    return own.get(setting, setting)


def _unmatched(rule: Rule, layers: Sequence[LayerInfo], source: str) -> UsageError:
    names = [layer.name for layer in layers if rule.op in (None, layer.op)]
    if rule.match is None or not names:
        ops = sorted({layer.op for layer in layers})
        why = f"the model has {', '.join(ops) or 'no layers'}"
    else:
        why = f"near names: {', '.join(_near(rule.match.text, names))}"
    return UsageError(
        "recipe-rule-unmatched",
        f"{rule.label} matches no layer",
        where=source,
        why=why,
        next_step="correct the pattern (it must match a whole name), or mark the rule "
        "optional = true",
    )


def _near(pattern: str, names: Iterable[str]) -> list[str]:
    """Up to five names, the likeliest meant first."""
    names = list(dict.fromkeys(names))
    wanted = pattern.removeprefix("re:")
    return get_close_matches(wanted, names, n=5, cutoff=0.4) or names[:5]


# Resolved plans.


def _reused(plan: Plan, layers: Sequence[LayerInfo], stats: Statistics, source: str) -> Plan:
    """`plan` itself, once it is known to be about these layers and their weights."""
    if len(plan.layers) != len(layers):
        counts = f"{len(plan.layers)} layers, the model has {len(layers)}"
        raise _other_model(f"the plan has {counts}", source)
    for planned, layer in zip(plan.layers, layers, strict=True):
        found = (layer.name, layer.op, layer.weight)
        expected = (planned.name, planned.op, planned.weight)
        if found != expected:
            raise _other_model(f"the plan expects {expected} where the model has {found}", source)
        refusal = refusal_of(planned.weights, layer, stats) if planned.weights else None
        if refusal:
            raise UnsupportedError(
                "plan-inadmissible",
                f"the plan's {spelled(planned.weights)} does not fit {layer.name}",
                where=source,
                why=refusal,
                next_step="compile from the recipe again",
            )
    return plan


def _other_model(what: str, source: str) -> UsageError:
    return UsageError(
        "plan-other-model",
        what,
        where=source,
        why="a resolved plan holds for the model it was made from",
        next_step="compile from a recipe instead",
    )
