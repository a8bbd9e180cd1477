"""
Formats of weights: layers that share one are decided together, by the strongest voice among them.

A rule outweighs `embeddings` and `head`, which outweigh the plain default. Equally strong voices
above the default must agree; among defaults the first layer decides. Then the weight itself has
its say: a format that does not admit it gives way to the recipe's fallbacks, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..dialects.errors import UsageError
from ..dialects.formats import Format
from .decision import APPLICABLE, Decision, Statistics, Subject, Voice
from .plan import LayerInfo, spelled
from .recipe_schema import Choice, Recipe


def decide_weights(
    recipe: Recipe, subjects: Sequence[Subject], stats: Statistics
) -> dict[int, Decision]:
    """The decision for each subject that has a weight, by its index."""
    sharing: dict[str | None, dict[int, Subject]] = {}
    for index, subject in enumerate(subjects):
        if subject.has_weight:
            sharing.setdefault(subject.layer.tensor, {})[index] = subject
    decisions: dict[int, Decision] = {}
    for group in sharing.values():
        decisions.update(_decide_group(recipe, group, stats))
    return decisions


def _decide_group(
    recipe: Recipe, group: dict[int, Subject], stats: Statistics
) -> dict[int, Decision]:
    opinions = {index: _opinion(recipe, subject) for index, subject in group.items()}
    loudest = max(opinion.voice for opinion in opinions.values())
    speakers = [index for index, opinion in opinions.items() if opinion.voice == loudest]
    if loudest > Voice.DEFAULT:
        _check_agreement([(group[i].layer, opinions[i]) for i in speakers], recipe.source)
    decider = speakers[0]
    decision = _admitted(opinions[decider], group[decider], stats)
    reason = f"shares its weight with {group[decider].layer.name}, which decides"
    following = replace(decision, reason=reason)
    return {index: decision if index == decider else following for index in group}


def no_weight(subject: Subject) -> Decision:
    asked = subject.settings.weights is not None and "weights" in APPLICABLE[subject.layer.op]
    return Decision(None, reason="its weight is computed by the model, not stored" if asked else "")


def _opinion(recipe: Recipe, subject: Subject) -> Decision:
    """What the recipe says about one layer's weight, before the format has seen it."""
    choice, layer = subject.settings.weights, subject.layer
    rule = subject.rules.get("weights")
    if rule is not None:
        return _spoken(choice, rule.label, Voice.RULE)
    if layer.op == "embedding":
        if recipe.embeddings is not None:
            return _spoken(recipe.embeddings, "default embeddings", Voice.LAYER_KIND)
        asked = choice is not None and choice.format is not None
        reason = "an embedding is quantized only by `embeddings` or a rule" if asked else ""
        return Decision(None, reason=reason)
    if layer.is_head and recipe.head is not None:
        return _spoken(recipe.head, "default head", Voice.LAYER_KIND)
    return _spoken(choice, "default", Voice.DEFAULT)


def _spoken(choice: Choice | None, by: str, voice: Voice) -> Decision:
    if choice is None:
        return Decision(None, by, voice)
    reason = 'the recipe says "none"' if choice.format is None else ""
    return Decision(choice.format, by, voice, reason)


def _check_agreement(opinions: Sequence[tuple[LayerInfo, Decision]], source: str) -> None:
    (first_layer, first), *others = opinions
    for layer, opinion in others:
        if spelled(opinion.format) == spelled(first.format):
            continue
        raise UsageError(
            "recipe-tied-conflict",
            f"{first_layer.name} and {layer.name} share one weight but are given "
            f"{spelled(first.format) or 'none'} and {spelled(opinion.format) or 'none'}",
            where=source,
            why=f"{first.by} decides the one, {opinion.by} the other",
            next_step="give both the same weights, or leave one of them unsaid",
        )


def _admitted(opinion: Decision, subject: Subject, stats: Statistics) -> Decision:
    """The first format of the opinion and its fallbacks that the tensor fits, with what it cost."""
    if opinion.format is None:
        return opinion
    refusals: list[str] = []
    for candidate in (opinion.format, *(subject.settings.fallback or ())):
        refusal = refusal_of(candidate, subject.layer, stats)
        if refusal is None:
            taken = [*refusals, f"took {candidate.spelling}"] if refusals else []
            return replace(opinion, format=candidate, reason="; ".join(taken))
        refusals.append(refusal)
    reason = "; ".join([*refusals, "left in the model's own precision"])
    return replace(opinion, format=None, reason=reason)


def refusal_of(fmt: Format, layer: LayerInfo, stats: Statistics) -> str | None:
    known = None
    if fmt.needs_stats and layer.weight is not None:
        least, most = stats(layer.weight)
        known = {"min": least, "max": most}
    return fmt.inadmissible(layer.shape, layer.k, known)
