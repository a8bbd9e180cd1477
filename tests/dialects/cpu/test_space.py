"""The space of CPU schedules: its rules are the verifier's, and it holds the defaults."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.cpu.default_schedule import default_schedule
from qcc.dialects.cpu.schedule import LinearProblem, illegal
from qcc.dialects.cpu.space import linear_space, schedule_of, values_of

WIDE, NARROW = frozenset({"avx512f"}), frozenset({"avx2"})
PROBLEMS = [
    LinearProblem(768, 3072, "int4<group=32>"),
    LinearProblem(768, 3072, "int4<group=32>", integers=True),
    LinearProblem(50, 96, "dint4<group=32>", integers=True),
    LinearProblem(16, 33, "fp32"),
    LinearProblem(49152, 576, "int8"),
]


@pytest.mark.parametrize("features", [WIDE, NARROW])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("m", [5, 128])
def test_a_config_is_legal_where_its_schedule_can_be_built(problem, features, m):
    space = linear_space(problem, m, features)
    rng = np.random.default_rng(0)
    configs = np.stack([rng.integers(len(k.values), size=300) for k in space.knobs], axis=1)
    legal = space.legal(configs)
    for config, good in zip(configs, legal, strict=True):
        reasons = list(illegal(problem, schedule_of(space.values(config)), features))
        assert space.broken(config) == reasons
        assert good == (not reasons)
    assert legal.any()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_defaults_are_in_it_and_numbers_are_finite(problem):
    schedule = default_schedule(problem, WIDE)
    space = linear_space(problem, 7, WIDE)
    config = np.array([space.config(values_of(schedule))])
    assert space.legal(config).all()
    assert schedule_of(space.values(config[0])) == schedule
    assert space.derive is not None
    numbers = space.derive(space.columns(config))
    assert all(np.isfinite(column).all() and (column > 0).all() for column in numbers.values())
