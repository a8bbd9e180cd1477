"""
Legal configs at random: drawn whole, or changed in a few knobs.

Spaces are never enumerated. A draw assigns knob after knob and keeps, at each, only the values
that break no rule whose knobs are all assigned; draws that get stuck are drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from ..dialects.errors import UsageError
from ..dialects.knobs import Configs, Constraint, Space

PATIENCE = 40
SHARE_SAMPLE = 20_000
CHUNK = 4096


def draw(space: Space, rng: np.random.Generator, count: int) -> Configs:
    """
    `count` legal configs [count, knobs], with repetition.

    Raises UsageError where none is found.
    """
    if space.members is not None:
        return space.members[rng.integers(len(space.members), size=count)]
    parts, found = [], 0
    for _ in range(PATIENCE):
        part = _assigned(space, rng, max(count, 64))
        parts.append(part)
        found += len(part)
        if found >= count:
            return np.concatenate(parts)[:count]
    if found:
        some = np.concatenate(parts)
        return some[rng.integers(found, size=count)]
    raise UsageError(
        "space-empty",
        f"no legal config found in space {space.name!r}",
        why="; ".join(rule.reason for rule in space.constraints),
        next_step="relax a rule or add values to the knobs",
    )


def _assigned(space: Space, rng: np.random.Generator, count: int) -> Configs:
    """Up to `count` legal configs, knob by knob."""
    order = _order(space, rng)
    configs = np.zeros((count, len(space.knobs)), np.int64)
    done: set[str] = set()
    for column in order:
        knob = space.knobs[column]
        done.add(knob.name)
        ready = [
            rule for rule in space.constraints if knob.name in rule.knobs and done >= {*rule.knobs}
        ]
        configs, allowed = _allowed(space, configs, int(column), ready)
        weights = np.where(allowed, rng.random(allowed.shape), -1.0)
        configs[:, column] = np.argmax(weights, axis=1)
    return configs


def _order(space: Space, rng: np.random.Generator) -> list[int]:
    """Columns at random, but those that share a rule with earlier ones first: no dead ends."""
    left, order = rng.permutation(len(space.knobs)).tolist(), []
    near: set[str] = set()
    while left:
        column = next((column for column in left if space.knobs[column].name in near), left[0])
        left.remove(column)
        order.append(column)
        name = space.knobs[column].name
        near |= {other for rule in space.constraints if name in rule.knobs for other in rule.knobs}
    return order


def _allowed(
    space: Space, configs: Configs, column: int, rules: list[Constraint]
) -> tuple[Configs, NDArray[np.bool_]]:
    """Configs that have a value left in `column`, and which values [count, values] those are."""
    values = space.knobs[column].array
    allowed = np.ones((len(configs), len(values)), bool)
    for choice in range(len(values)):
        configs[:, column] = choice
        columns = space.columns(configs)
        for rule in rules:
            allowed[:, choice] &= rule.holds(*(columns[name] for name in rule.knobs))
    alive = allowed.any(axis=1)
    return configs[alive], allowed[alive]


def mutated(space: Space, rng: np.random.Generator, parents: Configs, changes: int = 2) -> Configs:
    """
    Each parent with 1 to `changes` knobs drawn anew or moved to a neighbouring value; only the
    legal ones are returned.
    """
    children = changed(space, rng, parents, changes)
    return children[space.legal(children)]


def changed(space: Space, rng: np.random.Generator, parents: Configs, changes: int) -> Configs:
    """As mutated, with the illegal ones: a child for each parent, in order."""
    children = parents.copy()
    rows = np.arange(len(children))
    sizes = np.array([len(knob.values) for knob in space.knobs])
    for step in range(changes):
        active = rng.random(len(children)) < (1.0 if step == 0 else 0.5)
        column = rng.integers(len(sizes), size=len(children))
        size = sizes[column]
        step_to = children[rows, column] + rng.choice([-1, 1], size=len(children))
        beside = np.clip(step_to, 0, size - 1)
        value = np.where(rng.random(len(children)) < 0.5, rng.integers(size), beside)
        children[rows[active], column[active]] = value[active]
    return children


def crossed(space: Space, rng: np.random.Generator, left: Configs, right: Configs) -> Configs:
    """Children that take each knob from either parent; only the legal ones are returned."""
    children = np.where(rng.random(left.shape) < 0.5, left, right)
    return children[space.legal(children)]


def neighbours(space: Space, config: NDArray[np.int64]) -> Configs:
    """The legal configs that differ from `config` in one knob."""
    parts = []
    for column, knob in enumerate(space.knobs):
        others = np.array([i for i in range(len(knob.values)) if i != config[column]], np.int64)
        part = np.repeat(config[None], len(others), axis=0)
        part[:, column] = others
        parts.append(part)
    everything = np.concatenate(parts)
    return everything[space.legal(everything)]


def every(space: Space) -> Iterator[Configs]:
    """All legal configs, some at a time, in order."""
    points = product(*(range(len(knob.values)) for knob in space.knobs))
    while chunk := list(islice(points, CHUNK)):
        configs = np.array(chunk, np.int64)
        yield configs[space.legal(configs)]


def unique(space: Space, configs: Configs) -> Configs:
    """Without repetitions, in the order of first appearance."""
    _, first = np.unique(space.keys(configs), return_index=True)
    return configs[np.sort(first)]


def legal_share(space: Space) -> float:
    """Of all points of a space, those that break no rule; from a sample of a large one."""
    if space.members is not None:
        return len(space.members) / space.points
    rng = np.random.default_rng(0)
    sizes = [len(knob.values) for knob in space.knobs]
    configs = np.stack([rng.integers(size, size=SHARE_SAMPLE) for size in sizes], axis=1)
    return float(space.legal(configs).mean())
