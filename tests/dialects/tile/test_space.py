"""The space of tensor-core schedules has the verifier's rule; numbers say what a config costs."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from qcc.autotune.draw import draw
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import MACHINES, machine
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.schedule import illegal
from qcc.dialects.tile.space import ESTIMATE, estimate, linear_space, schedule_of, values_of

PROBLEM = LinearProblem(512, 1024, 64, "int4<group=128>")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_a_config_is_legal_where_its_schedule_can_be_built(target):
    space, device = linear_space(PROBLEM, target), machine(target)
    rng = np.random.default_rng(0)
    configs = np.stack([rng.integers(len(k.values), size=300) for k in space.knobs], axis=1)
    drawn = draw(space, rng, 20)
    for config in np.concatenate([configs, drawn]):
        reasons = list(illegal(PROBLEM, schedule_of(space.values(config)), device))
        assert space.legal(config[None])[0] == (not reasons)
    assert space.legal(drawn).all()


@pytest.mark.parametrize("target", MACHINES)
@pytest.mark.parametrize("tokens", [1, 16, 512])
def test_defaults_are_in_it_and_numbers_are_positive(target, tokens):
    problem = replace(PROBLEM, tokens=tokens)
    schedule = default_schedule(problem, target)
    space = linear_space(problem, target, include=[schedule])
    config = np.array([space.config(values_of(schedule))])
    assert space.legal(config).all()
    assert schedule_of(space.values(config[0])) == schedule
    assert space.derive is not None
    numbers = space.derive(space.columns(config))
    assert all((column > 0).all() for column in numbers.values())
    assert numbers[ESTIMATE][0] == estimate(problem, schedule, machine(target)).estimated_s


def test_estimates_follow_what_they_count():
    device = machine("sm_80")
    schedule = default_schedule(PROBLEM, "sm_80")
    plain = asdict(estimate(PROBLEM, schedule, device))
    twice = asdict(estimate(replace(PROBLEM, n=1024), schedule, device))
    assert twice["blocks"] == 2 * plain["blocks"]
    assert twice["products"] == 2 * plain["products"]
    assert estimate(PROBLEM, schedule, device, measured=255).warps <= plain["warps"]
    assert estimate(PROBLEM, schedule, device, measured=255).registers == 255
