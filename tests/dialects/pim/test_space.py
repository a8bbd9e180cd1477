"""The space of schedules for DPUs has the rules of the verifier; a listed one its list."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.autotune.draw import draw
from qcc.dialects.errors import QccError
from qcc.dialects.pim.device import device
from qcc.dialects.pim.legality import illegal
from qcc.dialects.pim.schedule import Problem, Schedule, Share
from qcc.dialects.pim.space import (
    DEFAULTS,
    ESTIMATE,
    UNREAD,
    linear_space,
    listed_space,
    schedule_of,
    values_of,
)

INT4 = tuple(range(8)) + tuple(range(-8, 0))
PROBLEM = Problem(96, 192, 64, INT4, INT4)
DPU = device("v1A")
ODD = Schedule("fly", 1, 4, row_block=10, tasklets=13, row_parts=7)


def reasons(schedule: Schedule) -> list[str]:
    try:
        return list(illegal(Share(PROBLEM, schedule), DPU))
    except QccError as error:
        return [error.what]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_product_copies_whole_units_of_each_token(groups: int):
    schedule = Schedule("multiply", groups=groups, words=2, row_block=64)
    assert any("no multiple of 8 bytes" in reason for reason in reasons(schedule)) == (groups % 2)


def test_a_config_is_legal_where_the_verifier_and_the_rules_say_so():
    space = linear_space(PROBLEM, DPU)
    rng = np.random.default_rng(0)
    configs = np.stack([rng.integers(len(k.values), size=400) for k in space.knobs], axis=1)
    drawn = draw(space, rng, 40)
    assert space.legal(drawn).all()
    for config in np.concatenate([configs, drawn]):
        schedule = schedule_of(space.values(config))
        unread = any(
            values_of(schedule)[name] != DEFAULTS[name] for name in UNREAD[schedule.method]
        )
        twice = schedule.residency == "resident" and schedule.shared
        good = space.legal(config[None])[0]
        assert good == (not unread and not twice and not reasons(schedule))
        assert bool(space.broken(config)) == (not good)


def test_numbers_are_positive_and_the_estimate_is_among_them():
    space = linear_space(PROBLEM, DPU)
    assert space.derive is not None
    numbers = space.derive(space.columns(draw(space, np.random.default_rng(1), 20)))
    assert ESTIMATE in numbers
    assert all((column > 0).all() and len(column) == 20 for column in numbers.values())


def test_what_is_included_is_in_it():
    space = linear_space(PROBLEM, DPU, include=[ODD])
    assert schedule_of(space.values(space.config(values_of(ODD)))) == ODD


def test_a_listed_space_has_the_legal_ones_of_its_list():
    fits = Schedule("fly", 1, 4, row_block=8, tasklets=12, row_parts=2)
    too_many = Schedule("fly", 1, 4, row_block=8, tasklets=99)
    assert reasons(too_many)
    assert not reasons(fits)
    space = listed_space(PROBLEM, DPU, [fits, too_many])
    assert space.members is not None
    assert [schedule_of(space.values(config)) for config in space.members] == [fits]


@pytest.mark.parametrize("schedule", [ODD, Schedule("lanes", 2, 8, shared=True, words=2)])
def test_values_and_schedules_are_inverse(schedule):
    assert schedule_of(values_of(schedule)) == schedule
