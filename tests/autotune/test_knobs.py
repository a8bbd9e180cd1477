"""Spaces: rules, values and configs, and legal configs drawn without enumeration."""

import numpy as np
import pytest

from qcc.autotune.draw import crossed, draw, mutated, neighbours, unique
from qcc.dialects.errors import UsageError
from qcc.dialects.knobs import Constraint, Knob, Space

TILES = Space(
    "tiles",
    (
        Knob("rows", (16, 32, 64, 128)),
        Knob("columns", (16, 32, 64, 128)),
        Knob("threads", (32, 64, 128, 256)),
        Knob("order", ("row", "column")),
    ),
    (
        Constraint(("rows", "columns", "threads"), lambda r, c, t: r * c >= 8 * t, "work"),
        Constraint(("rows", "columns"), lambda r, c: r + c <= 192, "shared memory"),
    ),
)


def everything(space: Space) -> np.ndarray:
    grids = np.meshgrid(*(range(len(knob.values)) for knob in space.knobs), indexing="ij")
    configs = np.stack([grid.ravel() for grid in grids], axis=1)
    return configs[space.legal(configs)]


def test_draws_are_legal_and_reach_every_legal_config():
    drawn = draw(TILES, np.random.default_rng(0), 4000)
    assert len(drawn) == 4000
    assert TILES.legal(drawn).all()
    assert set(TILES.keys(drawn)) == set(TILES.keys(everything(TILES)))


def test_large_spaces_are_not_enumerated():
    knobs = tuple(Knob(f"k{i}", tuple(range(10))) for i in range(12))
    pairs = tuple(
        Constraint((f"k{i}", f"k{i + 1}"), lambda a, b: (a + b) % 5 == 0, "sum") for i in range(11)
    )
    space = Space("large", knobs, pairs)
    assert space.points == 10**12
    drawn = draw(space, np.random.default_rng(0), 500)
    assert space.legal(drawn).all()
    assert len(unique(space, drawn)) > 450


def test_a_space_without_a_legal_config_says_so():
    nothing = Constraint(("a",), lambda a: a > 9, "a must be above 9")
    with pytest.raises(UsageError, match="no legal config") as raised:
        draw(Space("none", (Knob("a", (1, 2)),), (nothing,)), np.random.default_rng(0), 3)
    assert "a must be above 9" in raised.value.why


def test_values_and_configs_are_inverse():
    values = {"rows": 64, "columns": 128, "threads": 32, "order": "column"}
    assert TILES.values(TILES.config(values)) == values


@pytest.mark.parametrize("values", [{"rows": 64}, {**TILES.values((0, 0, 0, 0)), "rows": 17}])
def test_values_that_are_no_config_are_refused(values):
    with pytest.raises(UsageError, match="no config"):
        TILES.config(values)


def test_broken_rules_are_named():
    assert TILES.broken(TILES.config({**TILES.values((3, 3, 0, 0))})) == ["shared memory"]
    assert TILES.broken((0, 0, 3, 0)) == ["work"]
    assert TILES.broken((1, 1, 0, 0)) == []


@pytest.mark.parametrize("values", [(), (1, 1)])
def test_knobs_need_different_values(values):
    with pytest.raises(UsageError, match="different values"):
        Knob("k", values)


def test_changed_configs_stay_legal():
    rng = np.random.default_rng(1)
    parents = draw(TILES, rng, 200)
    for children in (mutated(TILES, rng, parents), crossed(TILES, rng, parents, parents[::-1])):
        assert len(children) > 20
        assert TILES.legal(children).all()


def test_neighbours_are_all_legal_configs_one_knob_away():
    config = np.array(TILES.config({"rows": 64, "columns": 64, "threads": 64, "order": "row"}))
    expected = {tuple(c) for c in everything(TILES).tolist() if sum(c != config) == 1}
    assert {tuple(c) for c in neighbours(TILES, config).tolist()} == expected


def test_members_are_the_legal_configs_of_a_recorded_space():
    members = everything(TILES)[::3]
    space = Space("recorded", TILES.knobs, members=members)
    assert space.legal(everything(TILES)).sum() == len(members)
    assert space.legal(draw(space, np.random.default_rng(0), 100)).all()
