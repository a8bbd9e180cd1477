"""
XGBoost trees on many measurements: the model that is kept, shipped and carried to other devices.

Trained to rank: within a group (one kernel, shape and device) only the order of times matters, so
groups of different speed learn together. Scores are then brought to log slowdowns by the
monotone step function that fits them best (isotonic regression); a regression's are those already.
The deviation of the members, each trained on its own draw of the measurements, is the uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extras import xgboost
from ..features import Features
from .base import Numbers, Prediction

LEVELS = 31
TIE = 1e-4
"""Of a score, in log times: an order among those that a step makes equal, above all the fastest."""
STRAIGHT = (np.array([-1e3, 1e3]), np.array([1e3, -1e3]))
"""Scores of a regression are slowdowns already, with their sign turned."""


@dataclass(frozen=True)
class TreeOptions:
    """`objective`: "rank:pairwise" or "reg:squarederror", of XGBoost."""

    objective: str = "rank:pairwise"
    members: int = 4
    rounds: int = 80
    depth: int = 6
    rate: float = 0.2
    rows: float = 0.8
    columns: float = 0.6


@dataclass
class BoostedTrees:
    options: TreeOptions = TreeOptions()
    seed: int = 0
    _members: list[Any] = field(default_factory=list)
    _steps: tuple[Numbers, Numbers] = (np.zeros(1), np.zeros(1))
    _least: float = 0.0

    def update(
        self, features: Features, log_times: Numbers, groups: NDArray[np.int64] | None = None
    ) -> None:
        """`groups` [count] numbers the spaces that the rows come from; None: all from one."""
        groups = np.zeros(len(features), np.int64) if groups is None else groups
        order = np.argsort(groups, kind="stable")
        features, log_times, groups = features[order], log_times[order], groups[order]
        slowdowns = log_times - _least_of_group(log_times, groups)
        self._least = float(log_times.min()) if len(set(groups.tolist())) == 1 else 0.0
        rng = np.random.default_rng(self.seed)
        self._members = [
            self._trained(features, slowdowns, groups, rng) for _ in range(self.options.members)
        ]
        scores = self._scores(features).mean(axis=0)
        ranking = self.options.objective.startswith("rank")
        self._steps = isotonic(scores, slowdowns) if ranking else STRAIGHT

    def imagine(self, features: Features, log_times: Numbers) -> None:
        """Trees do not move with one guess more."""

    def predict(self, features: Features) -> Prediction:
        """Log times after one group, log slowdowns against the fastest after several."""
        scores = self._scores(features)
        levels = np.interp(scores, *self._steps) - TIE * scores
        return Prediction(self._least + levels.mean(axis=0), levels.std(axis=0) + 1e-3)

    def save(self, folder: Path) -> None:
        """One UBJSON file a member, and what else it takes to predict."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, member in enumerate(self._members):
            member.save_model(folder / f"{number}.ubj")
        np.savez(
            folder / "steps.npz", scores=self._steps[0], levels=self._steps[1], least=self._least
        )

    @staticmethod
    def load(folder: Path, options: TreeOptions | None = None) -> BoostedTrees:
        model = BoostedTrees(options or TreeOptions())
        for path in sorted(folder.glob("*.ubj")):
            member = xgboost().Booster()
            member.load_model(path)
            model._members.append(member)
        with np.load(folder / "steps.npz", allow_pickle=False) as steps:
            model._steps, model._least = (steps["scores"], steps["levels"]), float(steps["least"])
        return model

    def _trained(
        self, features: Features, slowdowns: Numbers, groups: NDArray, rng: np.random.Generator
    ) -> Any:
        drawn = np.sort(rng.integers(len(features), size=len(features)))
        options = self.options
        ranking = options.objective.startswith("rank")
        labels = _levels(slowdowns[drawn], groups[drawn]) if ranking else -slowdowns[drawn]
        data = xgboost().DMatrix(features[drawn], label=labels)
        settings: Mapping[str, Any] = {
            "objective": options.objective, "max_depth": options.depth, "eta": options.rate,
            "subsample": options.rows, "colsample_bytree": options.columns, "nthread": 1,
            "tree_method": "hist", "seed": int(rng.integers(1 << 31)),
        }  # fmt: skip
        if ranking:
            data.set_group(np.unique(groups[drawn], return_counts=True)[1])
            settings = {
                **settings,
                "lambdarank_pair_method": "mean",
                "lambdarank_num_pair_per_sample": 8,
            }
        return xgboost().train(settings, data, num_boost_round=options.rounds)

    def _scores(self, features: Features) -> Numbers:
        return np.stack([np.float64(member.inplace_predict(features)) for member in self._members])


def _least_of_group(values: Numbers, groups: NDArray[np.int64]) -> Numbers:
    numbers, places = np.unique(groups, return_inverse=True)
    least = np.array([values[groups == number].min() for number in numbers])
    return least[places]


def _levels(slowdowns: Numbers, groups: NDArray[np.int64]) -> Numbers:
    """Relevance for ranking: whole numbers, 31 for the fastest of its group, 0 for the slowest."""
    levels = np.zeros(len(slowdowns))
    for number in np.unique(groups):
        own = groups == number
        place = np.argsort(np.argsort(slowdowns[own], kind="stable"))
        levels[own] = np.floor(LEVELS * (1 - place / max(1, own.sum() - 1)))
    return levels


def isotonic(scores: Numbers, slowdowns: Numbers) -> tuple[Numbers, Numbers]:
    """
    The non-increasing function of the score that is nearest to the slowdowns in least squares.

    As corners (scores ascending, levels) for np.interp; pool adjacent violators.
    """
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []  # score sum, slowdown sum, count
    for score, slowdown in zip(scores[order], slowdowns[order], strict=True):
        blocks.append([score, slowdown, 1.0])
        while len(blocks) > 1 and blocks[-1][1] * blocks[-2][2] >= blocks[-2][1] * blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    table = np.array(blocks)
    return table[:, 0] / table[:, 2], table[:, 1] / table[:, 2]
