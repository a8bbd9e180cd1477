"""Every search: legal, new, repeatable proposals; and that the learned ones find more."""

import numpy as np
import pytest

from qcc.autotune.cost_model.boosted_trees import BoostedTrees, TreeOptions
from qcc.autotune.draw import every
from qcc.autotune.search import SEARCHES
from qcc.autotune.search.distinctive import covered, evolved, novelty
from qcc.autotune.search.guided import GuidedOptions, GuidedSearch, trusted
from qcc.autotune.transfer import Sources
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.knobs import Configs, Constraint, Knob, Space

POWERS = (1, 2, 4, 8, 16, 32, 64, 128)
SPACE = Space(
    "made up",
    (
        *(Knob(name, POWERS) for name in ("rows", "columns", "depth")),
        Knob("stages", (1, 2, 3, 4)),
        Knob("order", ("row", "column")),
    ),
    (Constraint(("rows", "columns"), lambda r, c: r * c <= 2048, "registers"),),
)


def seconds(values: dict, device: float = 0.0) -> float:
    rows, columns, depth = (np.log2(values[name]) for name in ("rows", "columns", "depth"))
    slow = (rows - 5 - device) ** 2 + 0.5 * (columns - 6) ** 2 + 0.2 * (depth - 3) ** 2
    slow += 0.5 * abs(values["stages"] - 3) + (2.0 if values["order"] == "row" else 0.0)
    return 1e-3 * (1 + slow + 0.3 * np.sin(7 * rows + 3 * columns))


def measured(configs: Configs, device: float = 0.0) -> list[Trial]:
    trials = []
    for config in configs.tolist():
        values = SPACE.values(config)
        failed = values["rows"] == 1
        trials.append(
            Trial(tuple(config), None, "runtime")
            if failed
            else Trial(tuple(config), seconds(values, device))
        )
    return trials


def tuned(make, seed: int, budget: int = 64, batch: int = 8) -> Trials:
    search, trials = make(SPACE, np.random.default_rng(seed)), Trials()
    while len(trials) < budget:
        configs = search.propose(trials, min(batch, budget - len(trials)))
        if not len(configs):
            break
        trials.add(measured(configs))
    return trials


@pytest.mark.parametrize("name", SEARCHES)
def test_proposals_are_legal_new_and_repeatable(name):
    trials = tuned(SEARCHES[name].make, 3, budget=32)
    assert len(trials) == 32
    assert SPACE.legal(trials.configs).all()
    assert len(set(SPACE.keys(trials.configs).tolist())) == 32
    again = tuned(SEARCHES[name].make, 3, budget=32)
    np.testing.assert_array_equal(trials.configs, again.configs)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_space_is_used_up_without_end(name):
    members = np.array([[row, column] for row in range(4) for column in range(3)])
    space = Space("small", (Knob("a", (1, 2, 4, 8)), Knob("b", (1, 2, 3))), members=members)
    search, trials = SEARCHES[name].make(space, np.random.default_rng(0)), Trials()
    for _ in range(40):
        trials.add([Trial(tuple(c), 1.0 + sum(c)) for c in search.propose(trials, 5).tolist()])
    assert len(trials) == 12
    assert trials.best is not None
    assert trials.best.config == (0, 0)


WIDE = Space(
    "wide",
    tuple(Knob(name, tuple(range(1, 17))) for name in "abc"),
    (Constraint(("a", "b"), lambda a, b: (a + b) % 4 != 0, "sum"),),
)


@pytest.mark.parametrize(
    ("name", "listed"),
    [("distinctive", False), ("annealing", True), ("evolution", False), ("random", False)],
)
def test_the_last_config_of_a_large_space_is_found(name, listed):
    """Draws alone would miss it more often than not, and the space be said to be used up."""
    legal = np.concatenate([*every(WIDE)])
    assert len(legal) == 3072
    space = Space("listed", WIDE.knobs, members=legal) if listed else WIDE
    trials, last = Trials(), 1234
    trials.add(
        [
            Trial((int(a), int(b), int(c)), 1.0 + a + b + c)
            for a, b, c in np.delete(legal, last, axis=0)
        ]
    )
    search = SEARCHES[name].make(space, np.random.default_rng(2))
    np.testing.assert_array_equal(search.propose(trials, 4), legal[[last]])
    trials.add([Trial(tuple(legal[last].tolist()), 1.0)])
    assert not len(search.propose(trials, 4))


@pytest.mark.parametrize("name", ["distinctive", "guided"])
def test_models_find_faster_configs_than_chance(name):
    def typical(strategy: str) -> float:
        runs = [tuned(SEARCHES[strategy].make, seed, budget=40) for seed in range(3)]
        return float(np.median([trials.best_so_far()[-1] for trials in runs]))

    assert typical(name) < 0.7 * typical("random")


def test_what_failed_is_not_asked_again():
    """The least row fails: of legal configs more than a tenth."""
    failed = tuned(SEARCHES["distinctive"].make, 1, budget=64).trials
    first = sum(trial.seconds is None for trial in failed[:16])
    later = sum(trial.seconds is None for trial in failed[16:])
    assert first > 0
    assert later / 48 < 0.3 * first / 16


def test_trees_can_guide():
    def make(space, rng):
        return GuidedSearch(space, rng, GuidedOptions(), (BoostedTrees(),))

    best = tuned(make, 0, budget=48).best_so_far()
    assert best[-1] < best[15]


def test_what_other_devices_know_saves_measurements():
    others = []
    for number, device in enumerate((-0.6, 0.5)):
        trials = Trials()
        trials.add(measured(tuned(SEARCHES["random"].make, number, budget=200).configs, device))
        others.append(trials)
    known = Sources.of(SPACE, others, options=TreeOptions("reg:squarederror", 1, rounds=40))

    def reached(make, seed) -> int:
        curve = tuned(make, seed, budget=32, batch=4).best_so_far()
        return int(np.argmax(curve <= 1.5e-3)) + 1 if curve[-1] <= 1.5e-3 else 33

    def transferred(space, rng):
        return GuidedSearch(space, rng, known=known)

    with_others = np.median([reached(transferred, seed) for seed in range(3)])
    without = np.median([reached(SEARCHES["distinctive"].make, seed) for seed in range(3)])
    assert with_others < 0.6 * without


def test_a_misleading_source_loses_its_trust():
    rng = np.random.default_rng(0)
    right, wrong = rng.random(24), 3 * rng.random(24)
    known = np.stack([right, wrong], axis=1)
    np.testing.assert_allclose(trusted(known[:1], right[:1]), [0.5, 0.5])
    many = trusted(known, right)
    assert many[0] > 0.9
    assert many[1] < 0.05
    assert trusted(np.zeros((24, 0)), right).shape == (0,)


def test_distinctive_candidates_cover_more_values():
    rng = np.random.default_rng(0)
    start = np.repeat(np.array([[5, 5, 3, 2, 1]]), 24, axis=0)

    def score(configs):
        return -np.abs(configs - np.array([5, 5, 3, 2, 1])).sum(axis=1).astype(float)

    def spread(distinctive: bool) -> int:
        bred = evolved(SPACE, rng, start, score, 4, distinctive=distinctive)
        return int(covered(bred, SPACE).sum())

    assert spread(True) > spread(False)


def test_novelty_counts_values_not_seen():
    seen = covered(np.array([[0, 0, 0, 0, 0]]), SPACE)
    np.testing.assert_allclose(
        novelty(np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]), seen), [0, 0.4, 1]
    )


@pytest.mark.parametrize("strategy", SEARCHES)
@pytest.mark.parametrize("count", [1, 3])
def test_spaces_of_few_configs_are_used_up(strategy: str, count: int) -> None:
    space = Space("few", (Knob("rows", tuple(range(1, count + 1))), Knob("order", ("row",))))
    search = SEARCHES[strategy].make(space, np.random.default_rng(0))
    trials = Trials()
    for _ in range(count + 1):
        configs = search.propose(trials, 1)
        trials.add([Trial(tuple(config), 1.0 + sum(config)) for config in configs.tolist()])
    assert len(trials) == count
    assert len(search.propose(trials, 4)) == 0
